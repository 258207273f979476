# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks `drain` and `refill`: VMs that are off, must not move, do not converge or must not meet."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

from tests.integration.fleet import PATIENCE_S, SLOW_MIB_S, Fleet, busy, guest
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


def test_a_vm_that_never_converges_stays_while_others_leave_and_siblings_never_meet(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    # One that rests most of the time converges with a downtime that is never enough for the busy one.
    fleet.have(busy(), guest("a", memcheck_mib=1, memcheck_pause_ms=2000), guest("b", "hv2"))
    for name, host in (("a", "hv1"), ("b", "hv2")):
        asked = ansible.module(host, "vm_policy", name=name, keep_apart=["db"])
        assert not asked["failed"], asked
    given_up = watched(lab, ansible, {"after": 6, "action": "abort"})
    assert given_up.code != 0
    assert "VM busy" in given_up.text
    assert "converge" in given_up.text
    assert given_up.moved == ["a"]
    fleet.assert_intact_and_once("a", "hv3")
    fleet.assert_intact_and_once("busy", "hv1")

    helped = watched(lab, ansible, {"after": 1, "action": "post_copy"})
    assert helped.code == 0, helped.text
    assert helped.moved == ["busy"]
    assert places(lab, "b") == [("hv2", True)]
    (end,) = lab.guests.where("busy")
    fleet.assert_intact_and_once("busy", end.host)
    assert lab["hv1"].virsh("list", "--name") == ""


def watched(lab: Lab, ansible: Ansible, last: Dict[str, Any]) -> Run:
    """Drain hv1 with this last resort, and see all the time that no host has both a and b, not even on their way."""
    variables = {
        "maintenance_hosts": "hv1",
        "maintenance_bandwidth_mib_s": SLOW_MIB_S,
        "maintenance_max_downtime_ms": 50,
        "maintenance_migration": {
            "convergence_steps": [{"after": 0, "downtime_ms": 50}, last],
            "auto_converge": False,
        },
    }
    job = ansible.start("virtops.kvm_fleet.drain", variables=variables)
    looks = 0
    while job.running:
        a, b = ({host for host, _runs in places(lab, name)} for name in "ab")
        assert not a & b, (a, b)
        looks += 1
    assert looks > 1
    return job.wait()


def played(ansible: Ansible, playbook: str, *arguments: str) -> Run:
    run = ansible.start(f"virtops.kvm_fleet.{playbook}", *arguments, variables=BOTH).wait()
    assert run.code == 0, run.text
    return run


def places(lab: Lab, vm: str) -> List[Tuple[str, bool]]:
    """The hosts that know a VM, and whether it has a process there."""
    return [(end.host, end.pid is not None) for end in lab.guests.where(vm)]
