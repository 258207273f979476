# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One lab of four hosts of the same kind, for what needs many guests or two pools with VMs that can move."""

from __future__ import annotations

import os

import pytest

from tests.integration.fleet import Fleet
from tests.integration.runner import Ansible
from tests.lab import Lab

HOSTS = 4


@pytest.fixture(scope="session")
def lab_name() -> str:
    return os.environ.get("KVM_FLEET_TEST_FLEET") or "itx"


@pytest.fixture(scope="session")
def lab(own_lab: Lab) -> Lab:
    return own_lab.up(hosts=HOSTS)


@pytest.fixture(scope="session")
def _fleet(lab: Lab, controller: Ansible) -> Fleet:
    described = controller.module("hv1", "host_info")
    assert not described["failed"], described
    return Fleet(lab, described["cpu_xml"])


@pytest.fixture
def fleet(_fleet: Fleet) -> Fleet:
    """The hosts, whole again after whatever the test before broke."""
    _fleet.reset()
    return _fleet
