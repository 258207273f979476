# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever breaks while a VM migrates: it runs on, once, the error says what happened, and the same task finishes."""

from __future__ import annotations

from typing import Any, Callable, Dict

import pytest

from tests.integration.fleet import (
    CLEARING_S,
    CRAWL_MIB_S,
    PATIENCE_S,
    Fleet,
    guest,
    kill_module,
    power_off_inside,
)
from tests.integration.runner import Ansible, Job, task
from tests.lab import Lab
from tests.lab.shell import wait_for

FAULTS: Dict[str, Callable[[Lab], object]] = {
    "libvirtd_of_the_destination_dies": lambda lab: lab.faults.kill_libvirtd("hv2"),
    "qemu_of_the_destination_dies": lambda lab: lab.faults.kill_guest("hv2", "a"),
    "destination_loses_power": lambda lab: lab.faults.power_off("hv2"),
    "link_of_the_destination_is_cut": lambda lab: lab.faults.cut_link("hv2"),
    "somebody_aborts_the_job": lambda lab: lab["hv1"].virsh("domjobabort", "a"),
    "libvirtd_of_the_source_dies": lambda lab: lab.faults.kill_libvirtd("hv1"),
    "the_module_is_killed": lambda lab: kill_module(lab, "hv1"),
}


def start_slow(ansible: Ansible, fleet: Fleet, **options: Any) -> Job:
    """Begin to move the guest `a` and return while its memory flows, which goes on until something happens."""
    moves = [fleet.move("a", "hv2")]
    job = ansible.start_tasks("hv1", [task("vm_migrate", moves=moves, bandwidth_mib_s=CRAWL_MIB_S, **options)])
    fleet.wait_migrating("a", "hv1")
    return job


@pytest.mark.parametrize("fault", FAULTS)
def test_vm_runs_on_once_and_the_same_task_finishes(lab: Lab, ansible: Ansible, fleet: Fleet, fault: str) -> None:
    fleet.have(guest("a", autostart=True))
    job = start_slow(ansible, fleet)
    FAULTS[fault](lab)
    (found,) = job.wait().results
    assert found.status == "failed", found
    if fault != "the_module_is_killed":
        assert found.result["error"] in ("migration_failed", "libvirtd_down", "state_unknown", "unreachable"), found
        assert "VM a " in found.result["msg"]
        assert "hv1" in found.result["msg"]
        assert "hv2" in found.result["msg"]
    fleet.repair()
    if fault == "the_module_is_killed":
        fleet.hurry("a", "hv1")
    else:
        fleet.assert_intact_and_once("a", "hv1", CLEARING_S)
    again = ansible.module("hv1", "vm_migrate", moves=[fleet.move("a", "hv2")])
    assert not again["failed"], again
    fleet.assert_intact_and_once("a", "hv2")
    assert ansible.module("hv2", "vm_info", name=["a"])["vms"][0]["autostart"]


@pytest.mark.long
def test_a_vm_paused_so_that_it_converges_goes_on_when_the_link_is_cut(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    fleet.have(guest("a"))
    steps = [{"after": 0, "action": "pause"}]
    job = start_slow(ansible, fleet, convergence_steps=steps, auto_converge=False)
    wait_for("the pause", lambda: lab["hv1"].virsh("domstate", "a") == "paused", PATIENCE_S)
    lab.faults.cut_link("hv2")
    (found,) = job.wait().results
    assert (found.status, found.result["error"]) == ("failed", "migration_failed"), found
    assert "run this again" in found.result["msg"]
    fleet.repair()
    fleet.assert_intact_and_once("a", "hv1", CLEARING_S)
    again = ansible.module("hv1", "vm_migrate", moves=[fleet.move("a", "hv2")])
    assert not again["failed"], again
    fleet.assert_intact_and_once("a", "hv2")


def test_vm_that_shuts_itself_down_while_it_migrates_is_reported(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    job = start_slow(ansible, fleet)
    power_off_inside(lab, "a", "hv1")
    (found,) = job.wait().results
    assert (found.status, found.result["error"]) == ("failed", "vm_stopped"), found
    assert "VM a " in found.result["msg"]
    wait_for("hv2 to clear its copy", lambda: len(lab.guests.where("a")) == 1, CLEARING_S)
    (end,) = lab.guests.where("a")
    assert (end.host, end.pid, end.libvirt) == ("hv1", None, "shut off (shutdown)")
