# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every test needs: the collection at the path where Python and Ansible look for it.

And what all tests with a lab share. A folder of such tests names its lab (`lab_name`) and says what it is (`lab`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Iterator

import pytest
from hypothesis import settings

from tests.integration.runner import Ansible
from tests.lab import Lab
from tests.lab.shell import file_lock
from tests.tools.sync import BUILD, sync

sync()
sys.path.insert(0, str(BUILD))
os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(BUILD)

# A property holds or does not; how fast this machine is at the moment says nothing about it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def own_lab(lab_name: str) -> Iterator[Lab]:
    """The lab of this name, for this run alone; whoever asks for it says what it has."""
    # Two runs at once would break each other's hosts.
    with file_lock(Path(f"/run/lock/kvm_fleet_tests.{lab_name}")):
        made = Lab(lab_name)
        found = bool(made.leftovers())
        yield made
        # A lab that was there before stays, for whoever repeats single tests.
        if not found:
            made.groups.kill()  # nobody waits for an orderly end
            made.down()


@pytest.fixture(scope="session")
def controller(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    """For fixtures of a whole session; a test has `ansible`."""
    return Ansible(lab.folder / "inventory.yml", tmp_path_factory.mktemp("ansible"))


@pytest.fixture
def ansible(controller: Ansible) -> Iterator[Ansible]:
    """A controller whose playbooks end with the test."""
    yield controller
    controller.kill_jobs()
