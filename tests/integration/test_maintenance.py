# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook `maintenance`: drain, reconfigure, refill; and all that makes it stop before anything is touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import pytest

from tests.integration.fleet import Fleet, guest
from tests.integration.runner import Ansible, Run, task
from tests.lab import Lab

SHMEM = "<shmem name='board'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>"
ROOM_KIB = 250 * 1024
# Goes on with what the other task file has left.
AFTER = """---
- name: Add to what is there
  ansible.builtin.shell: '[ "$(cat /etc/kvm_fleet_note)" = done ] && printf " and after" >>/etc/kvm_fleet_note'
  changed_when: true
"""
CLEARING = "Keep other VMs off the CPUs that arriving ones have for themselves"


def errors(run: Run) -> str:
    """What the failed tasks said."""
    found = [result.result.get("msg", "") for result in run.results if result.status in ("failed", "unreachable")]
    assert found, run.text
    return " ".join(map(str, found))


def assert_nothing_was_touched(fleet: Fleet, before: Dict[str, str]) -> None:
    assert fleet.picture() == before


def test_host_is_drained_reconfigured_and_refilled_and_the_second_run_changes_nothing(
    lab: Lab, ansible: Ansible, fleet: Fleet, note: Path, tmp_path: Path
) -> None:
    fleet.have(guest("a", autostart=True), guest("p", vcpus=2, pins=((0, "0"), (1, "1"))), guest("c", "hv2"))
    lab["hv1"].run("rm -f /etc/kvm_fleet_note")
    pins = lab["hv1"].virsh("dumpxml", "p")
    report, after = tmp_path / "report.json", tmp_path / "after.yml"
    after.write_text(AFTER)
    request = {"hosts": "hv1", "tasks": str(note), "tasks_after": str(after)}
    first = ansible.maintain(**request, report=str(report), answering=True)
    assert first.code == 0, first.text
    assert sorted(first.moved) == ["a", "a", "p", "p"]
    (asked,) = (found.result for found in first.results if "sign of life" in found.task and found.status == "ok")
    assert sorted((vm["name"], vm["outcome"]) for vm in asked["vms"]) == [("a", "answering"), ("p", "answering")]
    assert lab["hv1"].run("cat /etc/kvm_fleet_note").stdout == "done and after"
    fleet.assert_all_intact(["a", "p"], "hv1")
    fleet.assert_intact_and_once("c", "hv2")
    assert [line in lab["hv1"].virsh("dumpxml", "p") for line in pins.split("\n") if "vcpupin" in line] == [True] * 2
    vms = {vm["name"]: vm["autostart"] for vm in ansible.module("hv1", "vm_info")["vms"]}
    assert vms == {"a": True, "p": False}
    assert [entry["outcome"] for entry in json.loads(report.read_text())["migrations"]] == ["moved"] * 4
    before = fleet.picture()
    assert "maintenance.json" not in before["hv1"]
    second = ansible.maintain(**request)
    assert second.code == 0, second.text
    assert (second.moved, second.changed) == ([], [])
    assert_nothing_was_touched(fleet, before)


@pytest.mark.long
def test_cpus_of_its_own_are_cleared_for_a_vm_and_used_again_when_it_has_gone(
    lab: Lab, ansible: Ansible, fleet: Fleet, note: Path
) -> None:
    fleet.have(guest("own"), guest("rest", "hv2"))
    asked = ansible.tasks(
        "hv1",
        task("vm_pinning", name="own", policy="dedicated"),
        task("vm_policy", name="own", hosts=["hv1", "hv2"]),
    )
    assert [result["failed"] for result in asked] == [False, False], asked
    definition = lab["hv1"].virsh("dumpxml", "own", "--inactive", "--security-info")
    # As somebody's migration by hand leaves it behind; it has the CPU that the VM is to get there.
    lab["hv2"].run(["virsh", "-q", "define", "/dev/stdin"], stdin=definition)
    floating, own = fleet.definition("rest", "hv2"), _pins(lab, "own")
    run = ansible.maintain(hosts="hv1", tasks=str(note))
    assert run.code == 0, run.text
    assert run.moved == ["own", "own"]
    (there,) = [result.result for result in run.of("vm_pinning", "hv2") if result.task.endswith(CLEARING)]
    (rest,) = there["vms"]
    assert (rest["name"], rest["changed"], rest["verified"]) == ("rest", True, True)
    plan = run.of("placement_plan")[0].result["plan"]
    (move,) = [move for wave in plan["waves"] for step in wave["steps"] for move in step["moves"]]
    assert rest["pins"]["cpuset"] not in (None, move["exclusive_cpus"])
    assert _pins(lab, "own") == own
    assert fleet.definition("rest", "hv2") == floating
    fleet.assert_intact_and_once("own", "hv1")
    fleet.assert_intact_and_once("rest", "hv2")


@pytest.mark.long
def test_vm_that_is_to_start_with_fewer_vcpus_moves_with_all_it_has(
    lab: Lab, ansible: Ansible, fleet: Fleet, note: Path
) -> None:
    fleet.have(guest("fewer", vcpus=2))
    lab["hv1"].virsh("setvcpus", "fewer", "1", "--config")
    asked = ansible.module("hv1", "vm_pinning", name="fewer", policy="numa")
    assert not asked["failed"], asked
    pins = _pins(lab, "fewer")
    run = ansible.maintain(hosts="hv1", tasks=str(note))
    assert run.code == 0, run.text
    assert run.moved == ["fewer", "fewer"]
    # The definition also has the pin of the vCPU that it could get.
    assert set(_pins(lab, "fewer")) == set(pins)
    count = [lab["hv1"].virsh("vcpucount", "fewer", *which, "--current") for which in (["--live"], ["--config"])]
    assert [int(each) for each in count] == [2, 1]
    fleet.assert_intact_and_once("fewer", "hv1")


def _pins(lab: Lab, vm: str) -> List[str]:
    """The pins of the threads of a VM on hv1, as it runs and as it is defined; a home has some, too."""
    texts = [lab["hv1"].virsh("dumpxml", vm), lab["hv1"].virsh("dumpxml", vm, "--inactive")]
    return [
        line.strip() for text in texts for line in text.splitlines() if "pin " in line and "<kvm_fleet:" not in line
    ]


def test_check_mode_prints_the_plan_and_touches_nothing(ansible: Ansible, fleet: Fleet, note: Path) -> None:
    fleet.have(guest("a"), guest("b"))
    before = fleet.picture()
    run = ansible.maintain("--check", "--diff", hosts="hv1", tasks=str(note))
    assert run.code == 0, run.text
    assert "a: hv1 -> hv" in run.text
    assert "b: hv1 -> hv" in run.text
    assert_nothing_was_touched(fleet, before)


def test_vms_that_do_not_fit_together_are_named_with_hosts_and_reasons(
    lab: Lab, ansible: Ansible, fleet: Fleet, note: Path
) -> None:
    fleet.have(guest("a"), guest("b"), guest("c"))
    before = fleet.picture()
    machine_kib = ansible.module("hv1", "host_info")["host"]["memory_kib"]
    settings = {"reserved": {"memory_kib": machine_kib - ROOM_KIB}}
    run = ansible.start(
        "virtops.kvm_fleet.maintenance",
        variables={"maintenance_hosts": "hv1", "maintenance_tasks": str(note), "kvm_fleet_settings": settings},
    ).wait()
    assert run.code != 0
    message = errors(run)
    assert "hv2" in message
    assert "hv3" in message
    assert "memory" in message
    assert any(f"{name}:" in message or f"{name} " in message for name in "abc")
    assert_nothing_was_touched(fleet, before)


@pytest.mark.long
def test_another_vm_makes_room_where_the_host_cannot_be_drained_otherwise(
    ansible: Ansible, fleet: Fleet, note: Path, tmp_path: Path
) -> None:
    fleet.have(guest("big", memory_mib=192), guest("small", "hv2"))
    machine_kib = {host: ansible.module(host, "host_info")["host"]["memory_kib"] for host in ("hv1", "hv2", "hv3")}
    vms = [vm for host in ("hv1", "hv2") for vm in ansible.module(host, "vm_info")["vms"]]
    size = {vm["name"]: vm["memory_kib"] + vm["overhead_kib"] for vm in vms}
    reserved = {"hv1": 0, "hv2": machine_kib["hv2"] - size["big"], "hv3": machine_kib["hv3"] - size["small"]}
    settings = {"reserved": {"memory_kib": "{{ kept[inventory_hostname] }}"}}
    planned = tmp_path / "plan.json"
    variables = {"kept": reserved, "kvm_fleet_settings": settings}
    before = fleet.picture()
    asked = ansible.start(
        "virtops.kvm_fleet.plan",
        variables={**variables, "plan_question": "drain", "plan_hosts": "hv1", "plan_result_path": str(planned)},
    ).wait()
    assert asked.code == 0, asked.text
    assert_nothing_was_touched(fleet, before)
    steps = json.loads(planned.read_text())["waves"][0]["steps"]
    moves = [(move["vm"], move["destination"], move["purpose"]) for step in steps for move in step["moves"]]
    assert moves == [("small", "hv3", "room"), ("big", "hv2", "asked")]
    run = ansible.start(
        "virtops.kvm_fleet.maintenance",
        variables={**variables, "maintenance_hosts": "hv1", "maintenance_tasks": str(note)},
    ).wait()
    assert run.code == 0, run.text
    assert run.moved == ["small", "big", "big"]
    fleet.assert_intact_and_once("big", "hv1")
    fleet.assert_intact_and_once("small", "hv3")


def test_blocked_vm_is_named_before_anything_moves(ansible: Ansible, fleet: Fleet, note: Path) -> None:
    fleet.have(guest("a"), guest("s", extra_devices=SHMEM))
    before = fleet.picture()
    run = ansible.maintain(hosts="hv1", tasks=str(note))
    assert run.code != 0
    assert "shmem device 'board' cannot be migrated" in errors(run)
    assert_nothing_was_touched(fleet, before)


def test_a_host_that_changes_its_pool_where_vms_stay_in_theirs_is_told_before_anything_moves(
    ansible: Ansible, fleet: Fleet
) -> None:
    fleet.have(guest("a"))
    before = fleet.picture()
    variables = {"maintenance_hosts": "hv1", "maintenance_cpu_pool": True, "cpu_pool": "gold"}
    run = ansible.start("virtops.kvm_fleet.maintenance", variables=variables).wait()
    assert run.code != 0, run.text
    assert all(words in errors(run) for words in ("hv1 goes from no pool to gold", "stay_in_pool")), errors(run)
    assert run.moved == []
    assert_nothing_was_touched(fleet, before)


def test_unreachable_host_is_not_maintained(lab: Lab, ansible: Ansible, fleet: Fleet, note: Path) -> None:
    fleet.have(guest("a"))
    before = fleet.picture()
    lab.faults.cut_link("hv1")
    run = ansible.maintain(hosts="hv1", tasks=str(note))
    assert run.code != 0
    assert "hv1" in errors(run) or "hv1]: UNREACHABLE" in run.text
    lab.faults.restore_link("hv1")
    assert_nothing_was_touched(fleet, before)


WRONG: Dict[str, Dict[str, Any]] = {
    "hv9": {"hosts": "hv1,hv9", "tasks": []},
    "maintenance_hosts": {"tasks": []},
    "nosuch.yml": {"hosts": "hv1", "tasks": ["nosuch.yml"]},
    "absent.yml": {"hosts": "hv1", "tasks_after": "absent.yml"},
}


@pytest.mark.parametrize("word", WRONG)
def test_wrong_request_is_refused_at_once(ansible: Ansible, fleet: Fleet, word: str) -> None:
    before = fleet.picture()
    run = ansible.maintain(**WRONG[word])
    assert run.code != 0
    assert word in errors(run)
    assert run.of("host_maintenance") == []
    assert_nothing_was_touched(fleet, before)
