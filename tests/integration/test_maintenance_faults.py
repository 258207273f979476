# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook `maintenance` is cut off or fails midway: no VM is harmed, and the same command finishes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Callable, Dict

import pytest

from tests.integration.fleet import CRAWL_MIB_S, MARK, SLOW_MIB_S, Fleet, guest, in_maintenance
from tests.integration.runner import PATIENCE_S, Ansible, Job
from tests.lab import GuestSpec, Lab, LabError

PAUSE = """---
- name: Take a while
  ansible.builtin.command: sleep 3
  changed_when: false
"""
NEEDY = """---
- name: Need what is not there
  ansible.builtin.command: cat /etc/kvm_fleet_needed
  changed_when: false
"""


def seen(task: str) -> Callable[[Job, Fleet], bool]:
    return lambda job, _fleet: any(result.task.endswith(task) and result.status == "ok" for result in job.results())


def leaving(host: str) -> Callable[[Job, Fleet], bool]:
    return lambda _job, fleet: any(
        "Outgoing" in fleet.lab[host].virsh("domjobinfo", name, check=False) for name in ("a", "b")
    )


# In the order in which a maintenance comes to them.
MOMENTS: Dict[str, Callable[[Job, Fleet], bool]] = {
    "the snapshot is taken": seen("Describe the hypervisors and their VMs"),
    "the VMs leave": leaving("hv1"),
    "the task file runs": seen("Describe the host as it is before"),
    "the host has left maintenance": seen("Leave maintenance"),
    "the VMs come home": lambda job, fleet: leaving("hv2")(job, fleet) or leaving("hv3")(job, fleet),
}


def kill_when(job: Job, fleet: Fleet, moment: Callable[[Job, Fleet], bool]) -> None:
    """Kill the controller at that moment; a run that ends before is fine, for the one before came further."""
    deadline = time.monotonic() + PATIENCE_S
    while job.running and not moment(job, fleet):
        assert time.monotonic() < deadline, job.text
        time.sleep(0.1)
    job.kill()


def assert_home(lab: Lab, fleet: Fleet) -> None:
    fleet.assert_all_intact(["a", "b"], "hv1")
    assert "enable" in lab["hv1"].virsh("dominfo", "a")
    assert not in_maintenance(lab, "hv1")


@pytest.mark.long
def test_controller_dies_again_and_again_and_the_same_command_finishes(
    lab: Lab, ansible: Ansible, fleet: Fleet, tmp_path: Path
) -> None:
    fleet.have(guest("a", autostart=True), guest("b"))
    tasks = tmp_path / "pause.yml"
    tasks.write_text(PAUSE)
    for moment in MOMENTS.values():
        job = ansible.start_maintenance(hosts="hv1", tasks=str(tasks), bandwidth_mib_s=SLOW_MIB_S)
        kill_when(job, fleet, moment)
    last = ansible.maintain(hosts="hv1", tasks=str(tasks))
    assert last.code == 0, last.text
    assert_home(lab, fleet)
    assert "tasks-" in lab["hv1"].run("cat /var/lib/kvm_fleet/history.json").stdout


def test_failed_task_file_leaves_the_host_drained_and_closed_until_a_run_succeeds(
    lab: Lab, ansible: Ansible, fleet: Fleet, tmp_path: Path
) -> None:
    fleet.have(guest("a", autostart=True), guest("b"))
    tasks = tmp_path / "tasks.yml"
    tasks.write_text(NEEDY)
    # Without a name of its own a corrected file would be another maintenance.
    options = {"hosts": "hv1", "tasks": str(tasks), "id": "repair"}
    failed = ansible.maintain(**options)
    assert failed.code != 0
    assert "kvm_fleet_needed" in failed.text
    assert lab["hv1"].virsh("list", "--all", "--name") == ""
    assert lab["hv1"].run(["cat", MARK]).stdout.count('"phase": "drained"') == 1
    lab.guests.define(GuestSpec("x"), "hv1")
    with pytest.raises(LabError, match="in maintenance"):
        lab["hv1"].virsh("start", "x")
    fleet.remove("x")
    tasks.write_text(PAUSE)
    again = ansible.maintain(**options)
    assert again.code == 0, again.text
    assert_home(lab, fleet)


@pytest.mark.long
def test_a_host_to_which_others_cannot_send_vms_stays_drained_and_closed(
    lab: Lab, ansible: Ansible, fleet: Fleet, note: Path
) -> None:
    fleet.have(guest("a", autostart=True), guest("b"))
    with lab.faults.firewall("hv1", "INPUT -p tcp --syn --dport 49152:49215 -j DROP"):
        failed = ansible.maintain(hosts="hv1", tasks=str(note))
    assert failed.code != 0
    assert "hv1 is healthy, but hv2, hv3 cannot send VMs there: hv1 cannot be sent memory" in " ".join(
        failed.text.split()
    )
    assert lab["hv1"].virsh("list", "--all", "--name") == ""
    assert lab["hv1"].run(["cat", MARK]).stdout.count('"phase": "drained"') == 1
    again = ansible.maintain(hosts="hv1", tasks=str(note))
    assert again.code == 0, again.text
    assert_home(lab, fleet)


def test_destination_loses_power_while_another_is_silent_and_the_same_command_finishes(
    lab: Lab, ansible: Ansible, fleet: Fleet, note: Path
) -> None:
    fleet.have(guest("a", autostart=True), guest("b"))
    options = {"hosts": "hv1", "tasks": str(note), "concurrency": 1}
    lab.faults.cut_link("hv3")
    job = ansible.start_maintenance(**options, bandwidth_mib_s=CRAWL_MIB_S)
    fleet.wait_migrating("a", "hv1")
    lab.faults.power_off("hv2")
    failed = job.wait()
    assert failed.code != 0
    assert "VM a " in failed.text
    assert "hv2" in failed.text
    fleet.assert_all_intact(["a", "b"], "hv1")
    lab.faults.power_on("hv2")
    again = ansible.maintain(**options)
    assert again.code == 0, again.text
    assert "hv3 cannot be reached and takes no part" in again.text
    lab.faults.restore_link("hv3")
    assert_home(lab, fleet)


@pytest.mark.long
def test_copy_that_a_cut_link_left_behind_does_not_stop_the_same_command(
    lab: Lab, ansible: Ansible, fleet: Fleet, note: Path
) -> None:
    fleet.have(guest("a"))
    options = {"hosts": "hv1", "tasks": str(note), "plan_options": {"exclude_hosts": ["hv3"]}}
    with fleet.silent_sender("hv2", interval_s=12) as fall_silent:
        job = ansible.start_maintenance(**options, bandwidth_mib_s=CRAWL_MIB_S)
        fleet.wait_migrating("a", "hv1")
        fall_silent()
        lab.faults.cut_link("hv2")
        failed = job.wait()
        assert failed.code != 0
        lab.faults.restore_link("hv2")
        assert lab.guests.running_on("a") == ["hv1"]
        again = ansible.maintain(**options)
    assert again.code == 0, again.text
    assert again.moved == ["a", "a"]
    fleet.assert_intact_and_once("a", "hv1")


def test_cancelled_maintenance_brings_the_vms_home(lab: Lab, ansible: Ansible, fleet: Fleet, tmp_path: Path) -> None:
    fleet.have(guest("a", autostart=True), guest("b"))
    tasks = tmp_path / "needy.yml"
    tasks.write_text(NEEDY)
    assert ansible.maintain(hosts="hv1", tasks=str(tasks)).code != 0
    run = ansible.start("virtops.kvm_fleet.cancel", variables={"maintenance_hosts": "hv1"}).wait()
    assert run.code == 0, run.text
    assert_home(lab, fleet)
    assert lab["hv1"].run("cat /var/lib/kvm_fleet/history.json", check=False).stdout.count("tasks-") == 0
