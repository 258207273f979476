# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""vm_migrate moves what it is asked to move, with everything that belongs to a VM."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, Tuple

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Following,
    NumaMemory,
    Pinning,
    parse_domain,
)

from tests.integration.fleet import PATIENCE_S, Fleet, busy, guest
from tests.integration.runner import Ansible, task
from tests.lab import GuestSpec, Lab

PINS = {
    "vcpus": [{"vcpu": 0, "cpus": "1"}, {"vcpu": 1, "cpus": "0"}],
    "emulator": "1",
    "iothreads": [],
    "memory": None,
    "cells": [],
}


def outcomes(result: Dict[str, Any]) -> Dict[str, str]:
    assert not result["failed"], result
    return {entry["vm"]: entry["outcome"] for entry in result["migrations"]}


def affinity(lab: Lab, name: str) -> Dict[str, str]:
    """The CPUs on which the kernel lets the vCPU threads and the main thread of a guest run."""
    (process,) = lab.guests.processes(name)
    found = {}
    for thread in Path(f"/proc/{process.pid}/task").iterdir():
        command = (thread / "comm").read_text().strip()
        if command.startswith("CPU ") or thread.name == str(process.pid):
            name = command.split("/")[0] if command.startswith("CPU ") else "emulator"
            status = (thread / "status").read_text()
            found[name] = re.findall(r"^Cpus_allowed_list:\t(.*)$", status, re.M)[0]
    return found


def pins_in(xml: str) -> Tuple[Dict[str, str], str]:
    vcpus = dict(re.findall(r"<vcpupin vcpu='(\d+)' cpuset='([^']+)'/>", xml))
    return vcpus, "".join(re.findall(r"<emulatorpin cpuset='([^']+)'/>", xml))


def test_several_vms_move_at_once_and_the_pinned_one_gets_its_new_pins(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    fleet.have(guest("a"), busy(), guest("p", vcpus=2, pins=((0, "0"), (1, "1")), emulator_pin="0"))
    assert affinity(lab, "p") == {"CPU 0": "0", "CPU 1": "1", "emulator": "0"}
    moves = [fleet.move("a", "hv2"), fleet.move("p", "hv2", pins=PINS), fleet.move("busy", "hv3")]
    result = ansible.module("hv1", "vm_migrate", moves=moves, concurrency=3)
    assert outcomes(result) == {"a": "moved", "p": "moved", "busy": "moved"}
    for name, host in (("a", "hv2"), ("busy", "hv3"), ("p", "hv2")):
        fleet.assert_intact_and_once(name, host)
    for flags in ((), ("--inactive",)):
        assert pins_in(lab["hv2"].virsh("dumpxml", "p", *flags)) == ({"0": "1", "1": "0"}, "1")
    assert affinity(lab, "p") == {"CPU 0": "1", "CPU 1": "0", "emulator": "1"}
    for entry in result["migrations"]:
        assert 0 < entry["downtime_ms"] < entry["seconds"] * 1000
        assert entry["transferred_mib"] > 1
        assert entry["runs_on"] == entry["destination"]


def test_pins_that_follow_the_host_travel_with_their_record_and_leave_none_behind(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    fleet.have(guest("f", vcpus=2))
    pins = {"cpuset": "1", "vcpus": [], "memory": {"mode": "strict", "nodes": "0"}}
    there = fleet.move("f", "hv2", pins=pins, following={"cpus": "1", "limit": None}, exclusive_cpus="0")
    result = ansible.module("hv1", "vm_migrate", moves=[there])
    assert outcomes(result) == {"f": "moved"}
    assert result["migrations"][0]["mended"] == []
    for flags in ((), ("--inactive",)):
        found = parse_domain(lab["hv2"].virsh("dumpxml", "f", *flags))
        assert (found.pinning.cpuset, found.pinning.memory) == ("1", NumaMemory("strict", "0"))
        assert found.policy is not None
        assert found.policy.following == Following("1")
        assert found.own_pinning.cpuset is None
    assert affinity(lab, "f") == {"CPU 0": "1", "CPU 1": "1", "emulator": "1"}
    back = fleet.move("f", "hv1", pins={"cpuset": None, "vcpus": []})
    assert outcomes(ansible.module("hv2", "vm_migrate", moves=[back])) == {"f": "moved"}
    for flags in ((), ("--inactive",)):
        found = parse_domain(lab["hv1"].virsh("dumpxml", "f", *flags))
        assert (found.pinning, found.policy and found.policy.following) == (Pinning(), None)
    fleet.assert_intact_and_once("f", "hv1")


def test_autostart_and_home_travel_and_no_definition_stays(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a", autostart=True), guest("b"))
    moves = [fleet.move("a", "hv2"), fleet.move("b", "hv2")]
    assert outcomes(ansible.module("hv1", "vm_migrate", moves=moves)) == {"a": "moved", "b": "moved"}
    fleet.assert_all_intact(["a", "b"], "hv2")
    vms = {vm["name"]: vm for vm in ansible.module("hv2", "vm_info")["vms"]}
    assert {name: (vm["persistent"], vm["autostart"]) for name, vm in vms.items()} == {
        "a": (True, True),
        "b": (True, False),
    }
    for name, autostart in (("a", True), ("b", False)):
        home = vms[name]["policy"]["home"]
        assert (home["name"], home["uuid"], home["autostart"]) == ("hv1", lab["hv1"].uuid, autostart)
    # Its home is where the first move began, wherever it goes next.
    assert outcomes(ansible.module("hv2", "vm_migrate", moves=[fleet.move("a", "hv3")])) == {"a": "moved"}
    (vm,) = ansible.module("hv3", "vm_info")["vms"]
    assert (vm["autostart"], vm["policy"]["home"]["name"]) == (True, "hv1")
    assert lab["hv1"].virsh("list", "--all", "--name") == ""
    assert lab["hv1"].run("ls /etc/libvirt/qemu/autostart", check=False).stdout.split() == []


def test_transient_vm_stays_transient(lab: Lab, ansible: Ansible, fleet: Fleet, common_cpu: str) -> None:
    fleet.have()
    lab.guests.create(GuestSpec("t", cpu_xml=common_cpu), "hv1")
    lab.guests.wait_boot("t", timeout=PATIENCE_S)
    assert outcomes(ansible.module("hv1", "vm_migrate", moves=[fleet.move("t", "hv2")])) == {"t": "moved"}
    fleet.assert_intact_and_once("t", "hv2")
    assert re.search(r"Persistent: +no", lab["hv2"].virsh("dominfo", "t"))


def test_vm_paused_by_its_user_arrives_paused(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    lab["hv1"].virsh("suspend", "a")
    assert outcomes(ansible.module("hv1", "vm_migrate", moves=[fleet.move("a", "hv2")])) == {"a": "moved"}
    (found,) = lab.guests.where("a")
    assert (found.host, found.libvirt.split()[0]) == ("hv2", "paused")
    assert outcomes(ansible.module("hv1", "vm_migrate", moves=[fleet.move("a", "hv2")])) == {"a": "already_there"}
    lab["hv2"].virsh("resume", "a")
    fleet.assert_intact_and_once("a", "hv2")


def test_vm_is_found_by_uuid_and_memory_goes_to_the_given_address(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    address = f"tcp://{lab['hv2'].address}"
    move = fleet.move("a", "hv2", uuid=GuestSpec("a").identity, migrate_uri=address, source="hv1", estimated_s=1.5)
    result = ansible.module("hv1", "vm_migrate", moves=[move], max_downtime_ms=500, auto_converge=False)
    assert outcomes(result) == {"a": "moved"}
    fleet.assert_intact_and_once("a", "hv2")


def test_a_vm_that_is_off_moves_if_that_is_asked_for(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("off", vcpus=2, autostart=True))
    lab["hv1"].virsh("destroy", "off")
    moves = [fleet.move("off", "hv2", pins=PINS)]
    assert ansible.module("hv1", "vm_migrate", moves=moves)["error"] == "vm_stopped"
    assert [end.host for end in lab.guests.where("off")] == ["hv1"]
    steps = [task("vm_migrate", check=check, moves=moves, offline=True) for check in (True, False, True, False)]
    results = ansible.tasks("hv1", *steps)
    assert [(result["failed"], result["changed"]) for result in results] == [(False, True)] * 2 + [(False, False)] * 2
    found = [outcomes(result)["off"] for result in results]
    assert found == ["would_move", "moved", "already_there", "already_there"]
    assert [(end.host, end.pid) for end in lab.guests.where("off")] == [("hv2", None)]
    assert pins_in(lab["hv2"].virsh("dumpxml", "off")) == ({"0": "1", "1": "0"}, "1")
    assert "enable" in lab["hv2"].virsh("dominfo", "off").split("Autostart:")[1].split("\n")[0]
    fleet.remove("off")


def test_saved_memory_of_a_vm_that_is_off_is_never_left_behind(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("off"))
    lab["hv1"].virsh("managedsave", "off")
    result = ansible.module("hv1", "vm_migrate", moves=[fleet.move("off", "hv2")], offline=True)
    assert (result["failed"], result["error"]) == (True, "blocked"), result
    assert "off: its memory is saved on this host" in result["msg"]
    assert [end.host for end in lab.guests.where("off")] == ["hv1"]
    lab["hv1"].virsh("start", "off")
    fleet.assert_intact_and_once("off", "hv1")


def test_a_forecast_tells_who_will_not_converge(ansible: Ansible, fleet: Fleet) -> None:
    # So slow that even a host with no CPU to spare lets the one write more than can be sent, and the other less.
    fleet.have(guest("a", memcheck_mib=1, memcheck_pause_ms=1000), busy())
    moves = [fleet.move("a", "hv2"), fleet.move("busy", "hv2")]
    # QEMU looks at some fifty pages of so small a VM, and may by chance pick hardly any of those that are written.
    for _try in range(5):
        result = ansible.module("hv1", "vm_migrate", check=True, moves=moves, bandwidth_mib_s=3)
        calm, writing = (entry["forecast"] for entry in result["migrations"])
        if (calm["converges"], writing["converges"]) == (True, False):
            break
    assert calm["speed_mib_s"] == writing["speed_mib_s"] == 3
    assert writing["dirty_mib_s"] > calm["dirty_mib_s"]
    assert (calm["converges"], writing["converges"]) == (True, False)
    assert [word for word in result["warnings"] if "VM busy writes" in word]
    fleet.assert_all_intact(["a", "busy"], "hv1")


def test_without_moves_nothing_happens(ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    result = ansible.module("hv1", "vm_migrate")
    assert (result["changed"], result["migrations"]) == (False, [])
