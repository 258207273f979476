# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One lab of two full hosts for all tests, restored from a snapshot: few tests, each worth its time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import pytest

from tests.integration.runner import Ansible
from tests.lab import Lab
from tests.lab.shell import file_lock

NAME = os.environ.get("KVM_FLEET_TEST_MACHINES") or "mit"


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    # Two runs at once would break each other's hosts.
    with file_lock(Path(f"/run/lock/kvm_fleet_tests.{NAME}")):
        made = Lab(NAME)
        found = bool(made.leftovers())
        made.up(hosts=2, kind="machine")
        yield made
        # A lab that was there before stays, for whoever repeats single tests.
        if not found:
            made.down()


@pytest.fixture(scope="session")
def _ansible(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    return Ansible(lab.folder / "inventory.yml", tmp_path_factory.mktemp("ansible"))


@pytest.fixture
def ansible(_ansible: Ansible) -> Iterator[Ansible]:
    """A controller whose playbooks end with the test."""
    yield _ansible
    _ansible.kill_jobs()
