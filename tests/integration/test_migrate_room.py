# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A destination without memory or disk space for a VM: it stays, intact and defined once, until there is room."""

from __future__ import annotations

from typing import Callable, ContextManager, Dict, Tuple

import pytest

from tests.integration.fleet import CLEARING_S, Fleet, busy
from tests.integration.runner import Ansible
from tests.integration.test_migrate_transport import moves, refused
from tests.lab import Lab

# What is short there, the code, and words of the error. Of a full /run libvirt says only that QEMU did not start.
SHORTAGES: Dict[str, Tuple[Callable[[Lab], ContextManager[None]], str, Tuple[str, ...]]] = {
    "memory": (
        lambda lab: lab.faults.little_memory("hv2", 900),
        "not_enough_memory",
        ("Cannot allocate memory", "Free memory on hv2"),
    ),
    "disk_for_definitions": (
        lambda lab: lab.faults.full_disk("hv2", "/etc/libvirt/qemu"),
        "disk_full",
        ("/etc/libvirt/qemu/busy.xml", "No space left", "Make room on hv2"),
    ),
    "disk_for_the_state_of_running_vms": (
        lambda lab: lab.faults.full_disk("hv2", "/run/libvirt/qemu"),
        "migration_failed",
        ("Child process unexpected exit status", "/var/log/libvirt/qemu/busy.log on hv2", "disk is full"),
    ),
    "disk_for_files_of_running_vms": (
        lambda lab: lab.faults.full_disk("hv2", "/var/lib/libvirt/qemu", kib=4096),
        "disk_full",
        ("master key", "Make room on hv2"),
    ),
}


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_it_stays_until_there_is_room(lab: Lab, ansible: Ansible, fleet: Fleet, shortage: str) -> None:
    fleet.have(busy())
    short, code, words = SHORTAGES[shortage]
    with short(lab):
        refused(ansible, fleet, code, *words)
        assert lab["hv2"].virsh("list", "--all", "--name") == ""
    fleet.assert_intact_and_once("busy", "hv1", CLEARING_S)
    moves(ansible, fleet)
    assert lab["hv2"].virsh("list", "--persistent", "--name").split() == ["busy"]
