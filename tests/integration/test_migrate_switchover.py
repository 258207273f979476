# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What breaks while a VM stands still for its migration: between its last moment here and its first one there.

A daemon that is frozen at the destination makes that moment as long as a test needs: QEMU has sent all memory, and the
source waits for the answer that the VM runs on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Dict

import pytest

from tests.integration.fleet import CLEARING_S, PATIENCE_S, Fleet, busy, may_run
from tests.integration.runner import Ansible, Job, task
from tests.lab import Lab
from tests.lab.shell import wait_for

STATUS = "/run/libvirt/qemu/busy.xml"
# What libvirt of the source notes when QEMU has sent all memory, before it asks the destination to go on.
ALL_SENT = "phase='perform3_done'"
# Too slow to end before a test wants it. Then two seconds are enough for what the guest writes again and again.
CRAWL = {
    "bandwidth_mib_s": 1,
    "auto_converge": False,
    "convergence_steps": [{"after": 0, "downtime_ms": 2000}],
    "max_downtime_ms": 2000,
}
PINS = {"vcpus": [{"vcpu": 0, "cpus": "1"}], "emulator": "1", "iothreads": [], "memory": None, "cells": []}


def without(text: str, setting: str) -> str:
    return "".join(f"{line}\n" for line in text.splitlines() if not line.startswith(setting))


def begin(ansible: Ansible, fleet: Fleet, **more: Any) -> Job:
    """Begin to move a busy guest, and return while its memory flows slowly."""
    fleet.have(busy())
    moves = [fleet.move("busy", "hv2", **more)]
    job = ansible.start_tasks("hv1", [task("vm_migrate", moves=moves, forecast=False, **CRAWL)])
    fleet.wait_migrating("busy", "hv1")
    return job


def finish_memory(lab: Lab, fleet: Fleet, job: Job) -> None:
    """Let the memory flow fast until all of it is sent."""
    fleet.hurry("busy", "hv1")

    def sent() -> bool:
        assert job.running, job.text
        return ALL_SENT in lab["hv1"].run(["cat", STATUS]).stdout

    wait_for("all memory to be sent", sent, PATIENCE_S)


@pytest.fixture(autouse=True, scope="module")
def _patient_source(lab: Lab) -> Iterator[None]:
    """Let the source wait for answers longer than a test needs: each ends what it waits for by itself."""
    conf = "/etc/libvirt/qemu.conf"
    kept = lab["hv1"].run(["cat", conf]).stdout
    lab["hv1"].run(f"cat >{conf}", stdin=f"{without(kept, 'keepalive_interval')}keepalive_interval = 60\n")
    lab.faults.restart_libvirtd("hv1")
    yield
    lab["hv1"].run(f"cat >{conf}", stdin=kept)
    lab.faults.restart_libvirtd("hv1")


@contextmanager
def switching(lab: Lab, ansible: Ansible, fleet: Fleet, **more: Any) -> Iterator[Job]:
    """A migration whose memory is sent, and whose destination has not been able to answer yet."""
    job = begin(ansible, fleet, **more)
    lab.faults.freeze_libvirtd("hv2")
    try:
        finish_memory(lab, fleet, job)
        assert "paused" in lab["hv1"].virsh("domstate", "busy")
        yield job
    finally:
        lab.faults.thaw_libvirtd("hv2")


def give_up(lab: Lab) -> None:
    """End the source's connections to other hosts, as it would do itself after some time without an answer."""
    lab["hv1"].run(["pkill", "-x", "ssh"])


def failed(job: Job, code: str) -> Dict[str, Any]:
    (found,) = job.wait().results
    assert (found.status, found.result.get("error")) == ("failed", code), found
    assert all(name in found.result["msg"] for name in ("VM busy ", "hv1", "hv2")), found
    return found.result


def assert_moves(ansible: Ansible, fleet: Fleet, **more: Any) -> Dict[str, Any]:
    result: Dict[str, Any] = ansible.module("hv1", "vm_migrate", moves=[fleet.move("busy", "hv2", **more)])
    assert not result["failed"], result
    fleet.assert_intact_and_once("busy", "hv2")
    return result["migrations"][0]


def test_it_goes_on_here_when_the_link_is_cut_before_the_destination_is_told_to_run_it(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    job, told = begin(ansible, fleet), f"OUTPUT -d {lab['hv2'].address} -p tcp --dport 22"
    with lab.faults.firewall("hv1", f"{told} -j DROP"):
        finish_memory(lab, fleet, job)
        give_up(lab)
        assert "run this again" in failed(job, "migration_failed")["msg"]
        found = lab.guests.where("busy")
        assert [(end.host, may_run(end)) for end in found] == [("hv1", True), ("hv2", False)]
    # The copy there is whole and waits: it is removed before the VM migrates again.
    assert_moves(ansible, fleet)


def test_it_goes_on_here_when_libvirtd_of_the_destination_dies(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    with switching(lab, ansible, fleet) as job:
        lab.faults.kill_libvirtd("hv2")
        failed(job, "migration_failed")
    fleet.repair()
    fleet.assert_intact_and_once("busy", "hv1", CLEARING_S)
    assert_moves(ansible, fleet)


def test_it_runs_there_when_libvirtd_of_the_source_dies(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    with switching(lab, ansible, fleet, pins=PINS) as job:
        lab.faults.kill_libvirtd("hv1")
        lab.faults.thaw_libvirtd("hv2")
        failed(job, "state_unknown")
    lab.faults.start_libvirtd("hv1")
    # It stands still here and runs there, and only the collection knows what that means.
    assert [(end.host, may_run(end)) for end in lab.guests.where("busy")] == [("hv1", False), ("hv2", True)]
    entry = assert_moves(ansible, fleet, pins=PINS)
    assert (entry["outcome"], "source_definition" in entry["mended"]) == ("moved", True), entry
    for state in ("--live", "--config"):
        assert lab["hv2"].virsh("vcpupin", "busy", "--vcpu", "0", state).split()[-1] == "1", state


def test_it_goes_on_here_when_libvirtd_dies_on_both_hosts(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    with switching(lab, ansible, fleet) as job:
        lab.faults.kill_libvirtd("hv1")
        lab.faults.kill_libvirtd("hv2")
        failed(job, "state_unknown")
    lab.faults.start_libvirtd("hv1")
    assert lab.guests.running_on("busy") == ["hv2"], "nobody can say that of the destination yet"
    silent = ansible.module("hv1", "vm_migrate", state="reconciled")
    assert (silent["failed"], silent["error"]) == (True, "state_unknown"), silent
    assert lab["hv1"].virsh("domstate", "busy") == "paused", "it could run on both hosts"
    lab.faults.start_libvirtd("hv2")
    assert_moves(ansible, fleet)


def test_it_runs_on_both_when_only_the_answer_is_lost_and_is_not_touched(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    """libvirt itself lets the source go on then; only locks on disks could keep it from that."""
    job, answers = begin(ansible, fleet), f"INPUT -s {lab['hv2'].address} -p tcp --sport 22"
    with lab.faults.firewall("hv1", f"{answers} -j DROP"):
        fleet.hurry("busy", "hv1")
        wait_for("it to run there", lambda: lab.guests.running_on("busy") == ["hv2"], PATIENCE_S)
        give_up(lab)
        assert "can leave a VM on each" in failed(job, "migration_failed")["msg"]
    for options in ({"moves": [fleet.move("busy", "hv2")]}, {"state": "reconciled"}):
        result = ansible.module("hv1", "vm_migrate", **options)
        assert (result["failed"], result["error"]) == (True, "split_brain"), result
        assert "virsh destroy" in result["msg"]
    assert lab.guests.running_on("busy") == ["hv1", "hv2"]
    lab["hv1"].virsh("destroy", "busy")
    result = ansible.module("hv1", "vm_migrate", moves=[fleet.move("busy", "hv2")])
    assert not result["failed"], result
    assert [end.host for end in lab.guests.where("busy")] == ["hv2"]
    fleet.remove("busy")
