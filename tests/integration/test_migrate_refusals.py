# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""vm_migrate refuses what cannot work, before anything has moved, and says why."""

from __future__ import annotations

import time
import uuid
from typing import Any, Callable, Dict

import pytest

from tests.integration.fleet import Fleet, busy, guest
from tests.integration.runner import COLLECTION, Ansible, task
from tests.lab import Lab

SHMEM = "<shmem name='board'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>"
STRANGER = str(uuid.uuid4())
NO_HOST = "qemu+ssh://root@192.0.2.1/system"
OPTIONS: Dict[str, Dict[str, Any]] = {
    "cpu_baseline": {"cpus": ["<cpu><model>Westmere</model></cpu>"]},
    "cpu_compare": {"cpu": "<cpu><model>Westmere</model></cpu>"},
    "host_info": {},
    "host_maintenance": {"state": "entered", "id": "x"},
    "migration_reach_info": {"destinations": [{"name": "hv2", "uri": NO_HOST}]},
    "vm_cpu": {"name": "a", "cpu": "<cpu><model>Westmere</model></cpu>"},
    "vm_info": {},
    "vm_migrate": {"moves": [{"vm": "a", "destination": "hv2", "uri": NO_HOST}]},
    "vm_pinning": {"name": "a", "policy": "none"},
    "vm_policy": {"name": "a", "home": "here"},
    "vm_power": {"name": ["a"], "state": "answering"},
}

WRONG_MOVES: Dict[str, Callable[[Fleet], Dict[str, Any]]] = {
    "wrong_host": lambda fleet: {**fleet.move("a", "hv2"), "destination_uuid": fleet.lab["hv3"].uuid},
    "same_host": lambda fleet: fleet.move("a", "hv1"),
    "vm_unknown": lambda fleet: fleet.move("nosuch", "hv2"),
    "bad_pins": lambda fleet: {**fleet.move("a", "hv2"), "pins": {"vcpus": "all"}},
}


@pytest.mark.parametrize("code", WRONG_MOVES)
def test_wrong_move_is_refused(ansible: Ansible, fleet: Fleet, code: str) -> None:
    fleet.have(guest("a"))
    move = WRONG_MOVES[code](fleet)
    result = ansible.module("hv1", "vm_migrate", moves=[move])
    assert (result["failed"], result.get("error")) == (True, code), result
    assert move["vm"] in result["msg"]
    fleet.assert_intact_and_once("a", "hv1")


def test_blocked_vm_is_named_before_another_moves(ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"), guest("s", extra_devices=SHMEM))
    before = fleet.picture()
    for check in (True, False):
        moves = [fleet.move("a", "hv2"), fleet.move("s", "hv2")]
        result = ansible.module("hv1", "vm_migrate", check=check, moves=moves)
        assert (result["failed"], result["error"]) == (True, "blocked")
        assert "s: shmem device 'board' cannot be migrated" in result["msg"]
        assert [entry["vm"] for entry in result["blocked"]] == ["s"]
    assert {**fleet.picture(), "hv1": ""} == {**before, "hv1": ""}
    fleet.assert_all_intact(["a", "s"], "hv1")


@pytest.mark.long
def test_what_a_destination_lacks_is_named_before_another_vm_moves(
    lab: Lab, ansible: Ansible, fleet: Fleet, host_cpus: Dict[str, str]
) -> None:
    fleet.have(guest("a"), guest("rich", cpu_xml=host_cpus["hv1"]), guest("twin"), guest("net"))
    twin = lab["hv1"].virsh("dumpxml", "twin", "--inactive")
    lab["hv2"].run(["virsh", "define", "/dev/stdin"], stdin=twin.replace(lab["hv1"].virsh("domuuid", "twin"), STRANGER))
    before = fleet.picture()
    moves = {
        "cpu_incompatible": [fleet.move("rich", "hv2")],
        "name_taken": [fleet.move("twin", "hv2")],
        "port_blocked": [fleet.move("net", "hv2", migrate_uri="tcp://192.0.2.1")],
    }
    moves["blocked"] = [move for refused in moves.values() for move in refused]
    for code, refused in moves.items():
        result = ansible.module("hv1", "vm_migrate", moves=[fleet.move("a", "hv3"), *refused])
        assert (result["failed"], result["error"]) == (True, code), result
        assert [entry["vm"] for entry in result["blocked"]] == [move["vm"] for move in refused]
        assert "hv2" in result["msg"]
    after = fleet.picture()
    assert [after[host] for host in ("hv2", "hv3")] == [before[host] for host in ("hv2", "hv3")]
    fleet.assert_all_intact(["a", "rich", "net"], "hv1")
    fleet.remove("twin")


def test_migration_that_takes_too_long_is_cancelled(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(busy())
    result = ansible.module("hv1", "vm_migrate", moves=[fleet.move("busy", "hv2")], bandwidth_mib_s=2, wait_timeout=3)
    assert (result["failed"], result["error"]) == (True, "timeout"), result
    assert "VM busy " in result["msg"]
    assert "3 seconds" in result["msg"]
    fleet.assert_intact_and_once("busy", "hv1")
    assert "Outgoing" not in lab["hv1"].virsh("domjobinfo", "busy")


def test_destination_without_libvirtd_is_an_error_at_once(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    lab.faults.kill_libvirtd("hv2")
    result = ansible.module("hv1", "vm_migrate", moves=[fleet.move("a", "hv2")])
    assert (result["failed"], result["error"]) == (True, "libvirtd_down"), result
    assert "hv2" in result["msg"]
    lab.faults.start_libvirtd("hv2")
    fleet.assert_intact_and_once("a", "hv1")


def test_unreachable_destination_is_an_error_soon(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    lab.faults.cut_link("hv2")
    began = time.monotonic()
    result = ansible.module("hv1", "vm_migrate", moves=[fleet.move("a", "hv2")])
    # libvirt alone would wait for minutes.
    assert time.monotonic() - began < 90
    assert (result["failed"], result["error"]) == (True, "unreachable"), result
    assert "hv2" in result["msg"]
    lab.faults.restore_link("hv2")
    fleet.assert_intact_and_once("a", "hv1")


def test_which_hosts_vms_could_be_sent_to_is_told_without_any(lab: Lab, ansible: Ansible) -> None:
    uris = {name: f"qemu+ssh://root@{lab[name].address}/system" for name in ("hv1", "hv2", "hv3")}
    with lab.faults.firewall("hv2", "INPUT -p tcp --dport 49152 -j DROP"):
        destinations = [
            {"name": "open", "uri": uris["hv3"], "uuid": lab["hv3"].uuid, "address": lab["hv3"].address},
            {"name": "walled", "uri": uris["hv2"]},
            {"name": "itself", "uri": uris["hv1"]},
            {"name": "another", "uri": uris["hv3"], "uuid": lab["hv2"].uuid},
            {"name": "nobody", "uri": f"qemu+ssh://root@{lab.spec.subnet.rpartition('.')[0]}.250/system"},
        ]
        asked = task("migration_reach_info", check=True, destinations=destinations)
        (result,) = ansible.tasks("hv1", asked)
    assert not result["changed"]
    told = {entry["destination"]: entry["error"] for entry in result["reach"]}
    assert told == {
        "open": None,
        "walled": "port_blocked",
        "itself": "same_host",
        "another": "wrong_host",
        "nobody": "unreachable",
    }
    for entry in result["reach"]:
        assert entry["reached"] is (entry["error"] is None)
        assert entry["reached"] or entry["destination"] in entry["reason"]


def test_every_module_says_that_libvirtd_is_down(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    lab.faults.kill_libvirtd("hv1")
    results = ansible.tasks("hv1", *(task(module, check=True, **options) for module, options in OPTIONS.items()))
    codes = {module: result.get("error") for module, result in zip(OPTIONS, results, strict=True)}
    # The mark is a file: only to observe the cordon needs the daemon, and check mode does not observe it.
    assert codes == {**dict.fromkeys(OPTIONS, "libvirtd_down"), "host_maintenance": None}


@pytest.mark.parametrize(("library", "package"), [("libvirt", "python3-libvirt"), ("lxml", "python3-lxml")])
def test_missing_library_is_named(lab: Lab, ansible: Ansible, fleet: Fleet, library: str, package: str) -> None:
    fleet.have(guest("a"))
    folder = f"/root/without-{library}"
    lab["hv1"].run(
        f"mkdir -p {folder} && echo 'raise ImportError(\"hidden\")' >{folder}/{library}.py &&"
        f" printf '#!/bin/sh\\nPYTHONPATH={folder} exec /usr/bin/python3 \"$@\"\\n' >{folder}/python3 &&"
        f" chmod +x {folder}/python3"
    )
    interpreter = {"ansible_python_interpreter": f"{folder}/python3"}
    tasks = [task(module, check=True, **options) for module, options in OPTIONS.items()]
    results = ansible.tasks("hv1", *tasks, vars=interpreter)
    codes = {module: result.get("error") for module, result in zip(OPTIONS, results, strict=True)}
    need_none = {"host_maintenance"} if library == "libvirt" else {"host_maintenance", "migration_reach_info"}
    assert codes == {**dict.fromkeys(OPTIONS, "library_missing"), **dict.fromkeys(need_none)}
    assert package in results[0]["msg"]


def test_other_user_than_root_is_told_so(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    lab["hv1"].run("id plain || useradd --create-home plain")
    become = {"become": True, "become_method": "ansible.builtin.su", "become_user": "plain"}
    variables = {"ansible_become_flags": "-s /bin/sh", "ansible_shell_allow_world_readable_temp": True}
    tasks = [task("vm_migrate", check=check, moves=[fleet.move("a", "hv2")]) for check in (True, False)]
    tasks.append({f"{COLLECTION}.host_maintenance": {"state": "entered", "id": "x"}})
    tasks.append({f"{COLLECTION}.host_info": {}})
    results = ansible.tasks("hv1", *tasks, vars=variables, **become)
    assert [result.get("error") for result in results] == ["not_root"] * 3 + ["not_permitted"], results
    assert all("become" in result["msg"] for result in results)
    fleet.assert_intact_and_once("a", "hv1")


def test_another_vm_of_the_same_name_on_the_destination_is_never_taken_for_it(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    fleet.have(guest("a", host="hv2"))
    stranger = (
        lab["hv2"].virsh("dumpxml", "a", "--inactive").replace(lab["hv2"].virsh("domuuid", "a"), str(uuid.uuid4()))
    )
    lab["hv1"].run(["virsh", "define", "/dev/stdin"], stdin=stranger)
    result = ansible.module("hv1", "vm_migrate", moves=[fleet.move("a", "hv2")])
    assert (result["failed"], result["error"]) == (True, "vm_stopped"), result
    assert [(end.host, bool(end.pid)) for end in lab.guests.where("a")] == [("hv1", False), ("hv2", True)]
    fleet.remove("a")
