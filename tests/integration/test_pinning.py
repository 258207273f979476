# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""vm_pinning with real libvirt and real threads; hosts with NUMA are in tests/machines."""

from __future__ import annotations

import re
import subprocess
from contextlib import contextmanager
from typing import Any, Dict, FrozenSet, Iterator, List, Tuple

import pytest

from tests.integration.fleet import CRAWL_MIB_S, PATIENCE_S, Fleet, guest
from tests.integration.runner import Ansible, task
from tests.integration.test_four_steps import assert_four_steps, four_steps
from tests.lab import Host, Lab
from tests.lab.shell import wait_for

THREADS = r"""
pid=$(cat /run/libvirt/qemu/{}.pid)
for task in /proc/$pid/task/*; do
  [ $task = /proc/$pid/task/$pid ] && echo emulator || cat $task/comm
  sed -n 's/^Cpus_allowed_list:\s*//p' $task/status
done
"""


@pytest.fixture
def host(lab: Lab, fleet: Fleet) -> Host:
    """hv1 without guests."""
    fleet.have()
    return lab["hv1"]


@pytest.fixture
def cpus(host: Host) -> List[int]:
    """The CPUs of hv1, two at least."""
    found = sorted(numbers(host.run("cat /sys/devices/system/cpu/online").stdout))
    assert len(found) >= 2
    return found


def numbers(text: str) -> FrozenSet[int]:
    ends = [part.split("-") for part in text.strip().split(",") if part]
    return frozenset(number for end in ends for number in range(int(end[0]), int(end[-1]) + 1))


def tiny(name: str, vcpus: int = 1, extra: str = "", vcpu: str = "", memory_mib: int = 16) -> str:
    """A VM whose firmware finds nothing to boot."""
    return f"""<domain type='qemu'><name>{name}</name><memory unit='MiB'>{memory_mib}</memory>
<vcpu{vcpu}>{vcpus}</vcpu>{extra}<os><type arch='x86_64'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='none'/>
<graphics type='vnc' port='-1' passwd='secret'/></devices></domain>"""


def define(host: Host, *names: str, start: bool = True, **fields: Any) -> None:
    for name in names:
        host.run(["virsh", "-q", "define", "/dev/stdin"], stdin=tiny(name, **fields))
        if start:
            host.virsh("start", name, "--paused")


def threads(host: Host, name: str) -> Dict[str, FrozenSet[int]]:
    """Where the kernel lets vCPUs, I/O threads and everything else of a VM run."""
    lines = host.run(THREADS.format(name)).stdout.splitlines()
    found: Dict[str, FrozenSet[int]] = {}
    for comm, cpus in zip(lines[::2], lines[1::2], strict=True):
        known = re.match(r"CPU \d+|IO iothread\d+", comm)
        role = known[0] if known else "emulator"
        found[role] = found.get(role, frozenset()) | numbers(cpus)
    return found


def definition(host: Host, name: str) -> str:
    """With secrets, and without what metadata that was there once leaves behind."""
    text = host.virsh("dumpxml", name, "--inactive", "--security-info")
    return re.sub(r"\s*<metadata>\s*</metadata>|\s*<metadata/>", "", text)


def by_name(result: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    assert not result["failed"], result
    return {vm["name"]: vm for vm in result["vms"]}


def test_four_steps_there_and_back(ansible: Ansible, fleet: Fleet, host: Host, cpus: List[int]) -> None:
    define(host, "own", "rest")
    define(host, "off", start=False)
    before = {name: definition(host, name) for name in ("own", "rest", "off")}
    everywhere = {name: threads(host, name) for name in ("own", "rest")}
    assert set(everywhere["own"]) == {"CPU 0", "emulator"}

    four = four_steps(ansible, fleet, "vm_pinning", {"name": "own", "policy": "dedicated"})
    assert_four_steps(four)
    for step in four:
        vms = by_name(step)
        assert [vm["verified"] for vm in vms.values()] == [None if step is four[0] else True] * 3
        assert {name: vm["floating"] for name, vm in vms.items()} == {"own": False, "rest": True, "off": True}
        assert [vm["restart_or_migrate_required"] for vm in vms.values()] == [False] * 3
        claim = {"vm": "own", "uuid": vms["own"]["uuid"], "running": True, "cpus": vms["own"]["cpus"], "blocked": ""}
        assert step["claims"] == [claim]
        assert step["host"] == four[0]["host"]
    taken = numbers(four[1]["claims"][0]["cpus"])
    shared = frozenset(cpus) - taken
    assert (len(taken), numbers(four[1]["host"]["shared_cpus"])) == (1, shared)
    assert threads(host, "own") == {"CPU 0": taken, "emulator": shared}
    assert threads(host, "rest") == {"CPU 0": shared, "emulator": shared}
    assert numbers(by_name(four[1])["off"]["pins"]["cpuset"]) == shared
    assert "secret" in definition(host, "off")
    host.virsh("start", "off", "--paused")
    assert threads(host, "off") == {"CPU 0": shared, "emulator": shared}
    host.virsh("destroy", "off")

    assert_four_steps(four_steps(ansible, fleet, "vm_pinning", {"name": "own", "policy": "none"}))
    assert {name: threads(host, name) for name in everywhere} == everywhere
    # Somebody asked for the policy none, and that is stored.
    assert {name: definition(host, name) == before[name] for name in before} == {
        "own": False, "rest": True, "off": True,
    }  # fmt: skip
    (again,) = ansible.tasks("hv1", task("vm_pinning"))
    assert (again["failed"], again["changed"]) == (False, False)


def test_threads_without_pins_follow_without_a_vm_being_named(ansible: Ansible, host: Host, cpus: List[int]) -> None:
    define(host, "rest")
    define(host, "limited", vcpu=f" cpuset='{cpus[0]}'")
    before = definition(host, "rest"), definition(host, "limited")
    last = str(cpus[-1])
    nothing, kept_free, again, back = ansible.tasks(
        "hv1",
        task("vm_pinning"),
        task("vm_pinning", keep_free=last),
        task("vm_pinning", keep_free=last),
        task("vm_pinning"),
    )
    assert [step["changed"] for step in (nothing, kept_free, again, back)] == [False, True, False, True]
    # A VM nobody needs to say anything about is not touched at all.
    assert nothing["vms"] == []
    assert numbers(by_name(kept_free)["rest"]["pins"]["cpuset"]) == frozenset(cpus[:-1])
    assert not by_name(kept_free)["limited"]["changed"]
    assert (definition(host, "rest"), definition(host, "limited")) == before
    assert threads(host, "rest")["CPU 0"] == frozenset(cpus)


def test_limit_of_the_user_comes_back(ansible: Ansible, host: Host, cpus: List[int]) -> None:
    both = f"{cpus[0]},{cpus[1]}"
    define(host, "limited", vcpu=f" cpuset='{both}'")
    before = definition(host, "limited")
    narrowed, restored = ansible.tasks("hv1", task("vm_pinning", keep_free=str(cpus[0])), task("vm_pinning"))
    vm = by_name(narrowed)["limited"]
    assert (vm["pins"]["cpuset"], vm["live_pins"]["emulator"]) == (str(cpus[1]), str(cpus[1]))
    assert numbers(by_name(restored)["limited"]["pins"]["cpuset"]) == {cpus[0], cpus[1]}
    assert definition(host, "limited") == before
    assert threads(host, "limited")["CPU 0"] == {cpus[0], cpus[1]}


def test_pins_of_the_user_stay_where_they_are(ansible: Ansible, host: Host, cpus: List[int]) -> None:
    pins = f"<cputune><vcpupin vcpu='0' cpuset='{cpus[-1]}'/></cputune>"
    define(host, "mine", vcpus=2, extra=pins)
    result = ansible.module("hv1", "vm_pinning", keep_free=str(cpus[0]))
    vm = by_name(result)["mine"]
    assert vm["policy"] == "manual"
    assert vm["pins"]["vcpus"] == [{"vcpu": 0, "cpus": str(cpus[-1])}]
    assert threads(host, "mine") == {
        "CPU 0": {cpus[-1]},
        "CPU 1": frozenset(cpus[1:]),
        "emulator": frozenset(cpus[1:]),
    }


def test_each_policy_in_one_call(ansible: Ansible, fleet: Fleet, host: Host, cpus: List[int]) -> None:
    define(host, "own", "near", "free")
    define(host, "mine", extra="<iothreads>1</iothreads>")
    first, last = str(cpus[0]), str(cpus[-1])
    pins = {"vcpus": [{"vcpu": 0, "cpus": last}], "iothreads": [{"iothread": 1, "cpus": last}], "emulator": last}
    vms = [
        {"name": "own", "policy": "dedicated"},
        {"name": "near", "policy": "numa", "memory_mode": "preferred"},
        {"name": "mine", "policy": "manual", "pins": pins},
        {"name": "free", "policy": "none"},
    ]
    four = four_steps(ansible, fleet, "vm_pinning", {"vms": vms})
    assert_four_steps(four)
    found = by_name(four[1])
    assert {name: vm["policy"] for name, vm in found.items()} == {vm["name"]: vm["policy"] for vm in vms}
    # What is pinned by hand is no VM's own.
    assert found["own"]["cpus"] == first
    shared = frozenset(cpus[1:])
    assert threads(host, "mine") == {role: {cpus[-1]} for role in ("CPU 0", "IO iothread1", "emulator")}
    assert threads(host, "near") == {"CPU 0": shared, "emulator": shared}
    assert found["near"]["pins"]["memory"] == {"mode": "preferred", "nodes": "0"}
    assert threads(host, "free")["CPU 0"] == shared
    # A policy that is not given stays, changed in what is given.
    changed, kept = ansible.tasks(
        "hv1", task("vm_pinning", name="near", memory_mode="strict"), task("vm_pinning", name="mine")
    )
    assert by_name(changed)["near"]["pins"]["memory"]["mode"] == "strict"
    assert (by_name(kept)["mine"]["policy"], kept["changed"]) == ("manual", False)


def test_running_vm_and_definition_apart(ansible: Ansible, host: Host, cpus: List[int]) -> None:
    define(host, "vm")
    define(host, "off", start=False)
    host.run(["virsh", "-q", "create", "--paused", "/dev/stdin"], stdin=tiny("passing"))
    before = definition(host, "vm")
    pins = {"vcpus": [{"vcpu": 0, "cpus": str(cpus[0])}]}
    live, passing, not_running, transient = ansible.tasks(
        "hv1",
        task("vm_pinning", name="vm", policy="manual", pins=pins, apply_to="live"),
        task("vm_pinning", name="passing", policy="manual", pins=pins),
        task("vm_pinning", name="off", policy="manual", pins=pins, apply_to="live"),
        task("vm_pinning", name="passing", policy="manual", pins=pins, apply_to="definition"),
    )
    assert by_name(live)["vm"]["verified"]
    assert (definition(host, "vm"), threads(host, "vm")["CPU 0"]) == (before, {cpus[0]})
    assert by_name(passing)["passing"]["pins"] is None
    assert threads(host, "passing")["CPU 0"] == {cpus[0]}
    assert (not_running["error"], transient["error"]) == ("vm_not_running", "vm_transient")
    other = {"vcpus": [{"vcpu": 0, "cpus": str(cpus[1])}]}
    defined = ansible.module("hv1", "vm_pinning", name="vm", policy="manual", pins=other, apply_to="definition")
    assert by_name(defined)["vm"]["restart_or_migrate_required"]
    assert threads(host, "vm")["CPU 0"] == {cpus[0]}
    assert f"<vcpupin vcpu='0' cpuset='{cpus[1]}'/>" in definition(host, "vm")
    assert sorted(host.virsh("list", "--persistent", "--all", "--name").split()) == ["off", "vm"]


@contextmanager
def one_more_cpu_offline(host: Host, number: int) -> Iterator[None]:
    """Let the kernel list a CPU that is there and does not run."""
    present = "/sys/devices/system/cpu/present"
    host.run(f"echo 0-{number} >/tmp/present && mount --bind /tmp/present {present}")
    try:
        yield
    finally:
        host.run(f"umount {present}")


def test_what_cannot_be_is_refused_and_nothing_touched(
    ansible: Ansible, fleet: Fleet, host: Host, cpus: List[int]
) -> None:
    define(host, "vm", extra="<iothreads>1</iothreads>")
    define(host, "owner", start=False)
    pages = "<memoryBacking><hugepages><page size='2' unit='MiB'/></hugepages></memoryBacking>"
    define(host, "pages", start=False, extra=pages)
    many = cpus[-1] + 2
    define(host, "large", start=False, vcpus=len(cpus) + 1)
    # Nothing of it is ever used, but no host has so much.
    huge_mib = 2 * int(host.run("awk '/^MemTotal/ {print $2}' /proc/meminfo").stdout) // 1024
    define(host, "huge", start=False, memory_mib=huge_mib)
    owner = by_name(ansible.module("hv1", "vm_pinning", name="owner", policy="dedicated"))["owner"]
    picture = fleet.picture()

    def manual(**pins: Any) -> Dict[str, Any]:
        return {"name": "vm", "policy": "manual", "pins": pins}

    def on(cpus: object, vcpu: int = 0) -> Dict[str, Any]:
        return manual(vcpus=[{"vcpu": vcpu, "cpus": str(cpus)}])

    own = owner["cpus"]
    cases: List[Tuple[Dict[str, Any], str, str]] = [
        (on(many), "no_such_cpu", str(many)),
        (on(cpus[-1] + 1), "cpu_offline", "offline"),
        (on(own, vcpu=3), "no_such_vcpu", "vCPU 3"),
        (manual(iothreads=[{"iothread": 7, "cpus": own}]), "no_such_iothread", "I/O thread 7"),
        (manual(memory={"mode": "strict", "nodes": "5"}), "no_such_cell", "5"),
        (on(own), "cpu_owned", "owner"),
        (manual(emulator=own), "cpu_owned", "owner"),
        (on("1-"), "bad_cpuset", "1-"),
        (manual(vcpus=[{"cpus": own}]), "bad_pins", "vcpu"),
        (manual(vcpus=[{"vcpu": 0, "cpus": own}] * 2), "bad_options", "twice"),
        (manual(vcpu=own), "bad_options", "vcpu"),
        ({"name": "vm", "policy": "dedicated", "pins": {"emulator": own}}, "bad_options", "emulator"),
        ({"name": "vm", "policy": "none", "pins": {"emulator": own}}, "bad_options", "cpuset"),
        ({"name": "vm", "policy": "numa", "thread_policy": "isolate"}, "bad_options", "thread_policy"),
        ({"name": "vm", "emulator_threads": "isolate"}, "bad_options", "emulator"),
        ({"name": "vm", "policy": "numa", "host_cells": "9"}, "no_such_cell", "9"),
        ({"name": "pages", "policy": "numa"}, "huge_pages_short", "2048 KiB"),
        ({"name": "large", "policy": "dedicated"}, "not_enough_cores", "large"),
        ({"name": "huge", "policy": "numa"}, "memory_short", "in cell 0"),
        ({"name": "nobody", "policy": "none"}, "vm_unknown", "nobody"),
        ({"vms": [{"name": "vm", "policy": "none"}, {"name": "vm"}]}, "bad_input", "twice"),
        ({"policy": "none"}, "bad_options", "policy"),
        ({"keep_free": "x"}, "bad_cpuset", "x"),
        ({"vms": [{"name": "vm", "policy": "none"}, {"name": "large", "policy": "dedicated"}]}, "not_enough_cores", ""),
    ]
    with one_more_cpu_offline(host, cpus[-1] + 1):
        results = ansible.tasks("hv1", *[task("vm_pinning", **options) for options, _code, _word in cases])
    assert [result.get("error") for result in results] == [code for _options, code, _word in cases]
    for (options, _code, word), result in zip(cases, results, strict=True):
        assert word in result["msg"], result["msg"]
        assert "Traceback" not in result["msg"]
        if "name" in options and options["name"] != "nobody":
            assert options["name"] in result["msg"], result["msg"]
    (short,) = (result for result in results if result.get("error") == "memory_short")
    # Its process takes some memory of its own.
    assert huge_mib * 1024 < short["needed"] < huge_mib * 1024 * 1.1
    assert short["missing"] == short["needed"] - sum(cell["free"] for cell in short["free"]) > huge_mib * 512
    assert f"VM huge needs {short['needed']} KiB" in short["msg"]
    assert fleet.picture() == picture


def test_runs_on_one_host_wait_for_each_other(ansible: Ansible, host: Host) -> None:
    define(host, "vm", start=False)
    lock = "/run/kvm_fleet_pinning"
    host.run(f"mkdir -p -m 700 {lock}")
    before = definition(host, "vm")
    with host.popen(["flock", lock, "cat"], stdin=subprocess.PIPE) as other:
        wait_for("the other run", lambda: len(_opened(host, lock)) > 1, PATIENCE_S)
        held = _opened(host, lock)
        job = ansible.start_tasks("hv1", [task("vm_pinning", name="vm", policy="numa")])
        wait_for("the run", lambda: not job.running or len(_opened(host, lock)) > len(held), PATIENCE_S)
        assert job.running
        assert definition(host, "vm") == before
        assert other.stdin is not None
        other.stdin.close()
    (result,) = job.wait().results
    assert (by_name(result.result)["vm"]["policy"], result.changed) == ("numa", True)


def _opened(host: Host, path: str) -> List[str]:
    """Who has a file open."""
    return host.run(f"find /proc/[0-9]*/fd -lname {path} 2>/dev/null", check=False).stdout.split()


def state(host: Host, *names: str) -> Dict[str, Any]:
    """What must be the same after a failure; a pin that was not there cannot be taken away, only be without effect."""
    return {name: (definition(host, name), threads(host, name)) for name in names}


def modes(ansible: Ansible) -> Dict[str, Tuple[str, Any]]:
    found = ansible.module("hv1", "vm_info")["vms"]
    return {vm["name"]: (vm["policy"]["migration"], vm["policy"].get("pinning")) for vm in found}


@contextmanager
def confined(host: Host, name: str, cpu: int) -> Iterator[None]:
    """Let the control group of a VM refuse all CPUs but one."""
    groups = host.run(f"find /sys/fs/cgroup -depth -path '*-{name}.*' -name cpuset.cpus").stdout.split()
    assert groups
    kept = {path: host.run(["cat", path]).stdout.strip() for path in groups}
    for path in groups:
        host.run(f"echo {cpu} >{path}")
    try:
        yield
    finally:
        for path in reversed(groups):
            host.run(f"echo {kept[path]} >{path}", check=False)


def test_refused_pin_puts_everything_back(ansible: Ansible, host: Host, cpus: List[int]) -> None:
    define(host, "first", "second", "rest")
    before, mode = state(host, "first", "rest"), modes(ansible)
    defined = definition(host, "second")
    pins = {"vcpus": [{"vcpu": 0, "cpus": str(cpus[1])}], "emulator": str(cpus[1])}
    vms = [{"name": name, "policy": "manual", "pins": pins} for name in ("first", "second")]
    with confined(host, "second", cpus[0]):
        confined_threads = threads(host, "second")
        result = ansible.module("hv1", "vm_pinning", vms=vms, keep_free=str(cpus[0]))
        assert (definition(host, "second"), threads(host, "second")) == (defined, confined_threads)
    assert (result["failed"], result["error"], result["vm"]) == (True, "pin_failed", "second")
    assert "cpuset" in result["libvirt_message"]
    assert (result["rolled_back"], result["not_rolled_back"]) == (True, [])
    assert state(host, "first", "rest") == before
    assert modes(ansible) == mode
    again = ansible.module("hv1", "vm_pinning", vms=vms, keep_free=str(cpus[0]))
    assert by_name(again)["second"]["verified"]


@contextmanager
def unwritable(host: Host, name: str) -> Iterator[None]:
    """Keep libvirt from replacing the file of a definition."""
    path = f"/etc/libvirt/qemu/{name}.xml"
    host.run(["mount", "--bind", path, path])
    try:
        yield
    finally:
        host.run(["umount", path])


def test_definition_that_cannot_be_written_puts_everything_back(ansible: Ansible, host: Host, cpus: List[int]) -> None:
    define(host, "own", "rest", "zoo")
    before, mode = state(host, "own", "rest", "zoo"), modes(ansible)
    with unwritable(host, "zoo"):
        result = ansible.module("hv1", "vm_pinning", name="own", policy="dedicated")
    assert (result["failed"], result["error"], result["vm"]) == (True, "define_refused", "zoo")
    assert (result["step"], result["rolled_back"], result["not_rolled_back"]) == ("definition", True, [])
    assert "Everything was put back as it was" in result["msg"]
    assert state(host, "own", "rest", "zoo") == before
    assert modes(ansible) == mode
    # What was left behind is known to be ours: nothing of it has to be put right, and the policy can still be had.
    nothing, again = ansible.tasks("hv1", task("vm_pinning"), task("vm_pinning", name="own", policy="dedicated"))
    assert [vm["policy"] for vm in nothing["vms"]] in ([], ["none"] * 3)
    assert by_name(again)["own"]["verified"]


def test_thread_that_somebody_moved_is_pinned_again(ansible: Ansible, host: Host, cpus: List[int]) -> None:
    define(host, "vm")
    options = {"name": "vm", "policy": "manual", "pins": {"vcpus": [{"vcpu": 0, "cpus": str(cpus[0])}]}}
    assert not ansible.module("hv1", "vm_pinning", **options)["failed"]
    group = host.run("find /sys/fs/cgroup -path '*-vm.*/vcpu0/cpuset.cpus'").stdout.strip()
    host.run(f"echo {cpus[0]},{cpus[1]} >{group}")
    host.run("for t in /proc/$(cat /run/libvirt/qemu/vm.pid)/task/*; do grep -q '^CPU 0' $t/comm &&"
             f" taskset -pc {cpus[0]},{cpus[1]} ${{t##*/}}; done; true")  # fmt: skip
    assert threads(host, "vm")["CPU 0"] == {cpus[0], cpus[1]}
    check, mended, again = ansible.tasks(
        "hv1",
        task("vm_pinning", check=True, **options),
        task("vm_pinning", diff=True, **options),
        task("vm_pinning", **options),
    )
    assert [step["changed"] for step in (check, mended, again)] == [True, True, False]
    assert mended["diff"]["before"] != mended["diff"]["after"]
    assert threads(host, "vm")["CPU 0"] == {cpus[0]}


def test_process_that_is_not_found_is_not_verified(ansible: Ansible, host: Host, cpus: List[int]) -> None:
    define(host, "vm")
    host.run("mv /run/libvirt/qemu/vm.pid /run/libvirt/qemu/vm.away")
    try:
        result = ansible.module("hv1", "vm_pinning", name="vm", policy="dedicated")
    finally:
        host.run("mv /run/libvirt/qemu/vm.away /run/libvirt/qemu/vm.pid")
    assert (by_name(result)["vm"]["verified"], result["changed"]) == (False, True)
    assert "process is not found" in " ".join(result["warnings"])
    assert by_name(ansible.module("hv1", "vm_pinning", name="vm", policy="dedicated"))["vm"]["verified"]


def test_vm_that_migrates_is_left_alone(ansible: Ansible, lab: Lab, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    host = lab["hv1"]
    define(host, "own")
    host.virsh("migrate-setspeed", "a", str(CRAWL_MIB_S))
    move = ansible.start_tasks("hv1", [task("vm_migrate", moves=[fleet.move("a", "hv2")])])
    fleet.wait_migrating("a", "hv1")
    refused, left = ansible.tasks(
        "hv1",
        task("vm_pinning", name="a", policy="numa"),
        task("vm_pinning", name="own", policy="dedicated"),
    )
    fleet.hurry("a", "hv1")
    assert not move.wait().results[0].result["failed"]
    assert (refused["failed"], refused["error"], refused["vm"]) == (True, "in_transit", "a")
    assert list(by_name(left)) == ["own"]
    assert "VM a migrates" in " ".join(left["warnings"])
    fleet.assert_intact_and_once("a", "hv2")
