# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks `drain` and `refill`, with VMs that are off and VMs that must not move."""

from __future__ import annotations

from typing import List, Tuple

from tests.integration.fleet import PATIENCE_S, Fleet, guest
from tests.integration.runner import Ansible, Run
from tests.lab import Lab

BOTH = {"maintenance_hosts": "hv1,hv2", "maintenance_pinned": "shutdown", "maintenance_stopped": "move"}


def test_two_hosts_are_drained_at_once_and_refilled(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a", autostart=True), guest("off"), guest("b", "hv2"), guest("stays", "hv2"), guest("c", "hv3"))
    lab["hv1"].virsh("destroy", "off")
    asked = ansible.module("hv2", "vm_policy", name="stays", migration="pinned")
    assert not asked["failed"], asked
    before = fleet.picture()
    assert played(ansible, "drain", "--check").text.count("off: hv1 -> hv3") == 1
    assert fleet.picture() == before

    assert sorted(played(ansible, "drain").moved) == ["a", "b", "off"]
    fleet.assert_all_intact(["a", "b", "c"], "hv3")
    assert places(lab, "off") == [("hv3", False)]
    assert places(lab, "stays") == [("hv2", False)]
    assert "maintenance" in lab["hv2"].run(["virsh", "start", "stays"], check=False).stderr

    refilled = played(ansible, "refill")
    assert sorted(refilled.moved) == ["a", "b", "off"]
    fleet.assert_intact_and_once("a", "hv1")
    fleet.assert_intact_and_once("b", "hv2")
    fleet.assert_intact_and_once("c", "hv3")
    assert places(lab, "off") == [("hv1", False)]
    lab.guests.wait_boot("stays", timeout=PATIENCE_S)
    assert places(lab, "stays") == [("hv2", True)]
    again = played(ansible, "refill")
    assert (again.moved, again.changed) == ([], [])


def played(ansible: Ansible, playbook: str, *arguments: str) -> Run:
    run = ansible.start(f"virtops.kvm_fleet.{playbook}", *arguments, variables=BOTH).wait()
    assert run.code == 0, run.text
    return run


def places(lab: Lab, vm: str) -> List[Tuple[str, bool]]:
    """The hosts that know a VM, and whether it has a process there."""
    return [(end.host, end.pid is not None) for end in lab.guests.where(vm)]
