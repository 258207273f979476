# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vCPUs that KVM runs come and go: what no emulation does."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from typing import Any, Dict, List, Tuple

import pytest

from tests.integration.fleet import PATIENCE_S, Fleet
from tests.integration.runner import Ansible, task
from tests.lab import GuestSpec, Lab

THREADS = "<cpu mode='host-passthrough'><topology sockets='1' dies='1' cores='2' threads='2'/></cpu>"


@pytest.fixture
def fleet(lab: Lab) -> Iterator[Fleet]:
    """The hosts, without any guest afterwards."""
    found = Fleet(lab, "")
    yield found
    for name in ("v", "w"):
        found.remove(name)


def start(lab: Lab, name: str = "v", host: str = "hv1", vcpus: int = 2, **fields: Any) -> None:
    lab.guests.define(GuestSpec(name, vcpus=vcpus, **{"max_vcpus": 4, **fields}), host)
    lab.guests.start(name, host)


def changed(ansible: Ansible, count: int, host: str = "hv1", **options: Any) -> Dict[str, Any]:
    """Ask for so many vCPUs, and return the VM as all three have it then: libvirt, its definition and the guest."""
    result = ansible.module(host, "vm_vcpus", **{"name": "v", "count": count, **options})
    assert not result["failed"], result
    (vm,) = result["vms"]
    assert (vm["running"]["count"], vm["defined"]["count"], vm["guest_online"]) == (count, count, count), vm
    found: Dict[str, Any] = vm
    return found


def refused(ansible: Ansible, code: str, **options: Any) -> None:
    result = ansible.module("hv1", "vm_vcpus", **{"name": "v", **options})
    assert (result["failed"], result.get("error")) == (True, code), result
    assert "VM v" in result["msg"]


def pins_of(vm: Dict[str, Any], state: str) -> Dict[int, str]:
    return {pin["vcpu"]: pin["cpus"] for pin in vm[state]["pins"]}


def test_what_it_got_goes_along_and_can_be_taken_back_anywhere(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    start(lab)
    refused(ansible, "above_maximum", count=5)
    refused(ansible, "not_hotpluggable", count=1)
    refused(ansible, "too_few", count=0)
    assert changed(ansible, 4)["running"]["online"] == "0-3"
    for source, destination in (("hv1", "hv2"), ("hv2", "hv1")):
        moved = ansible.module(source, "vm_migrate", moves=[fleet.move("v", destination)])
        assert not moved["failed"], moved
        fleet.assert_intact_and_once("v", destination, PATIENCE_S)
        assert not ansible.module(destination, "vm_vcpus", name="v", count=4)["changed"]
    assert changed(ansible, 2)["running"]["online"] == "0-1"
    assert not ansible.module("hv1", "vm_migrate", moves=[fleet.move("v", "hv2")])["failed"]
    fleet.assert_intact_and_once("v", "hv2", PATIENCE_S)


@pytest.mark.long
def test_to_and_fro_under_full_load(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    # It verifies its memory without a pause, so that a vCPU never rests.
    start(lab, memcheck_pause_ms=0)
    for _time in range(5):
        assert changed(ansible, 4)["running"]["online"] == "0-3"
        assert changed(ansible, 2)["running"]["online"] == "0-1"
    fleet.assert_intact_and_once("v", "hv1", PATIENCE_S)


@pytest.mark.long
def test_a_host_bounds_the_number(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    # A kernel that may get so many needs more memory to start.
    start(lab, max_vcpus=16, memory_mib=256)
    refused(ansible, "above_host", count=9)
    refused(ansible, "above_host", count=8, count_threads_as_cores=False)


@pytest.mark.long
@pytest.mark.parametrize(
    "pins", [((0, "1"), (1, "2"), (2, "3")), ((2, "2"), (3, "3"))], ids=["all-but-the-last", "only-those-that-come"]
)
def test_pins_of_its_own_keep_vcpus_or_wait_for_them(
    lab: Lab, ansible: Ansible, fleet: Fleet, pins: Tuple[Tuple[int, str], ...]
) -> None:
    start(lab, pins=pins)
    coming = {vcpu: cpus for vcpu, cpus in pins if vcpu >= 2}
    assert coming.items() <= pins_of(changed(ansible, 4), "running").items()
    if 3 in coming:
        refused(ansible, "pinned_vcpus", count=3)
    else:
        changed(ansible, 3)
    refused(ansible, "pinned_vcpus", count=2)
    assert coming.items() <= pins_of(changed(ansible, 2, unplug_pinned="keep"), "defined").items()
    assert coming.items() <= pins_of(changed(ansible, 4), "running").items()


def test_a_dedicated_guest_takes_and_gives_back_cpus(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    start(lab)
    assert not ansible.module("hv1", "vm_pinning", name="v", policy="dedicated", memory_mode="preferred")["failed"]
    before = claims(ansible)
    more = changed(ansible, 4)
    pins = pins_of(more, "running")
    assert len(set(pins.values())) == 4
    assert pins == pins_of(more, "defined")
    assert len(claims(ansible)) == len(before) + 2
    assert not ansible.module("hv1", "vm_pinning", name="v", policy="dedicated", memory_mode="preferred")["changed"]
    less = changed(ansible, 2)
    assert len(pins_of(less, "running")) == 2
    assert len(claims(ansible)) == len(before)


def claims(ansible: Ansible) -> List[int]:
    found = ansible.module("hv1", "vm_pinning")["claims"]
    return [cpu for claim in found for cpu in cpus_of(claim["cpus"])]


def cpus_of(text: str) -> List[int]:
    ends = [part.split("-") for part in text.split(",") if part]
    return [cpu for end in ends for cpu in range(int(end[0]), int(end[-1]) + 1)]


@pytest.mark.long
def test_a_guest_uses_what_it_gets(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    start(lab, vcpus=1)
    assert work_of(lab, (0, 1)).keys() == {0}
    changed(ansible, 2)
    done = work_of(lab, (0, 1))
    # The first one also does what the guest does all the time.
    assert done[1] > done[0] / 2


def work_of(lab: Lab, cpus: Tuple[int, ...]) -> Dict[int, int]:
    """How often a process on each of these CPUs of the guest starts another one while all of them do, if it is there.

    They are compared with each other, not with another time at which the machine may have had more to do.
    """
    loop = "end=$(($(date +%s)+8)); i=0; while [ $(date +%s) -lt $end ]; do i=$((i+1)); done; echo"
    script = " ".join(f"busybox taskset {1 << cpu:#x} sh -c '{loop} {cpu} $i' &" for cpu in cpus) + " wait"
    begun = lab.guests.agent("v", "hv1", "guest-exec", path="/bin/sh", arg=["-c", script], **{"capture-output": True})
    assert isinstance(begun, dict)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        status = lab.guests.agent("v", "hv1", "guest-exec-status", pid=begun["pid"])
        assert isinstance(status, dict)
        if status["exited"]:
            lines = base64.b64decode(status["out-data"]).decode().splitlines()
            return {int(cpu): int(count) for cpu, count in (line.split() for line in lines)}
        time.sleep(1)
    raise AssertionError("the guest does not end its work")


@pytest.mark.long
def test_only_whole_cores_come_and_go(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    start(lab, cpu_xml=THREADS)
    refused(ansible, "threads_split", count=3)
    changed(ansible, 4)
    changed(ansible, 2)


@pytest.mark.long
def test_two_guests_on_two_hosts_change_and_then_migrate_at_once(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    homes = {"v": "hv1", "w": "hv2"}
    for name, host in homes.items():
        start(lab, name, host)
    for count in (4, 2, 3):
        for name, host in homes.items():
            changed(ansible, count, host, name=name)
    moves = {"v": "hv2", "w": "hv1"}
    jobs = [
        ansible.start_tasks(homes[name], [task("vm_migrate", moves=[fleet.move(name, there)])])
        for name, there in moves.items()
    ]
    for job in jobs:
        (done,) = job.wait().results
        assert not done.result.get("failed"), done.result
    for name, there in moves.items():
        fleet.assert_intact_and_once(name, there, PATIENCE_S)
        assert not ansible.module(there, "vm_vcpus", name=name, count=3)["changed"]
