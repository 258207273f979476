# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One lab of two full hosts for all tests, restored from a snapshot: few tests, each worth its time."""

from __future__ import annotations

import os

import pytest

from tests.lab import Lab


@pytest.fixture(scope="session")
def lab_name() -> str:
    return os.environ.get("KVM_FLEET_TEST_MACHINES") or "mit"


@pytest.fixture(scope="session")
def lab(own_lab: Lab) -> Lab:
    return own_lab.up(hosts=2, kind="machine")
