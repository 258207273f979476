# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vm_pinning on a full host with two NUMA cells: what the kernel says of threads and memory, not only libvirt.

A host has cell 0 with CPUs 0-3 and cell 1 with CPUs 4-7; 0-1, 2-3, 4-5 and 6-7 are threads of one core each.
"""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List, Sequence, Tuple

import pytest

from tests.integration.runner import Ansible, task
from tests.integration.test_pinning import by_name, numbers, threads, tiny
from tests.lab import Host, Lab

MIB = 64
# KiB on each node of the mappings with at least 16 MiB, which is the guest's memory.
MEMORY = r"""
awk '{ size = 4; total = 0; split("", on)
  for (i = 2; i <= NF; i++) {
    if (split($i, pair, "=") < 2) continue
    if (pair[1] == "kernelpagesize_kB") size = pair[2]
    if (pair[1] ~ /^N[0-9]+$/) { on[pair[1]] = pair[2]; total += pair[2] }
  }
  if (total * size >= 16384) for (node in on) sum[node] += on[node] * size
} END { for (node in sum) printf "%s %d\n", node, sum[node] }' /proc/$(cat /run/libvirt/qemu/NAME.pid)/numa_maps
"""
# Memory is there from the start, though the guest never runs.
BACKING = "<memoryBacking><allocation mode='immediate'/></memoryBacking>"
NAMES = ("db", "rest")
# KiB that the module counts for a small VM's process beside its memory, in the first cell of the VM, and some more.
PROCESS = 90 * 1024
CROSSWISE = [{"id": 0, "mode": "strict", "node": "1"}, {"id": 1, "mode": "strict", "node": "0"}]


@pytest.fixture
def host(lab: Lab) -> Iterator[Host]:
    """hv1 with two VMs that are off, and no pins of anybody."""
    found = lab["hv1"]
    _clean(found)
    for name in NAMES:
        define(found, tiny(name, vcpus=2, extra=BACKING, memory_mib=MIB))
    yield found
    _clean(found)


def _clean(host: Host) -> None:
    for name in host.virsh("list", "--all", "--name").split():
        host.run(f"virsh -q destroy {name}; virsh -q undefine {name}", check=False)


def define(host: Host, xml: str) -> None:
    host.run(["virsh", "-q", "define", "/dev/stdin"], stdin=xml.replace("type='qemu'", "type='kvm'"))


def start(host: Host, name: str) -> None:
    host.virsh("start", name, "--paused")


def memory(host: Host, name: str) -> Dict[str, int]:
    """KiB of guest memory by node."""
    lines = host.run(MEMORY.replace("NAME", name)).stdout.splitlines()
    return {line.split()[0]: int(line.split()[1]) for line in lines}


def crosswise(host: Host) -> Tuple[int, int]:
    """KiB for two cells of a guest: the first fits into cell 1 of the host only, the second only into the other then.

    In cell 0 a VM that is off has a part of what is free.
    """
    host.run("echo 3 >/proc/sys/vm/drop_caches")
    found = host.run("sed -n 's/.*MemFree: *//p' /sys/devices/system/node/node*/meminfo").stdout
    zero, one = (int(line.split()[0]) for line in found.splitlines())
    define(host, tiny("off", extra=numatune("0"), memory_mib=zero // 3 // 1024))
    left = zero - zero // 3 - PROCESS
    large = _middle(left, one) - PROCESS
    return large, _middle(one - PROCESS - large, left)


def _middle(low: int, high: int) -> int:
    # What is free changes while a test runs.
    assert high - low > 2 * PROCESS, f"too little is free: {low} and {high} KiB"
    return (low + high) // 2 // 1024 * 1024


def numatune(nodes: str) -> str:
    return f"<numatune><memory mode='strict' nodeset='{nodes}'/></numatune>"


def divided(name: str, sizes: Sequence[int], pins: str = "") -> str:
    """A VM with one vCPU in each of its NUMA cells; nothing of its memory is there before it is used."""
    cells = "".join(f"<cell id='{n}' cpus='{n}' memory='{size}' unit='KiB'/>" for n, size in enumerate(sizes))
    extra = f"{pins}<cpu><numa>{cells}</numa></cpu>"
    return tiny(name, vcpus=len(sizes), extra=extra, memory_mib=sum(sizes) // 1024)


def memnodes(xml: str) -> List[Dict[str, Any]]:
    """The elements of libvirt's XML as `pins` has them."""
    found = re.findall(r"<memnode cellid='(\d+)' mode='(\w+)' nodeset='([-,\d]+)'/>", xml)
    return [{"id": int(cell), "mode": mode, "node": node} for cell, mode, node in found]


def bound(host: Host, name: str) -> Dict[str, int]:
    """KiB of the mappings that are bound to nodes, by these, such as `0` or `0-1`; most of it may not be used yet."""
    maps, policies = host.run(
        f"cd /proc/$(cat /run/libvirt/qemu/{name}.pid) && cat maps && echo == && cat numa_maps"
    ).stdout.split("==\n")
    ends = dict(line.split()[0].split("-") for line in maps.splitlines())
    found: Dict[str, int] = {}
    for start, policy in (line.split()[:2] for line in policies.splitlines()):
        if policy.startswith("bind:"):
            nodes = policy[len("bind:") :]
            found[nodes] = found.get(nodes, 0) + (int(ends[start], 16) - int(start, 16)) // 1024
    return found


def assert_crosswise(host: Host, sizes: Sequence[int], vm: Dict[str, Any]) -> None:
    """The running VM has the memory of each of its cells where it belongs, and the vCPU beside that."""
    assert memnodes(host.virsh("dumpxml", "two")) == CROSSWISE
    assert bound(host, "two") == {"1": sizes[0], "0": sizes[1]}
    seen = threads(host, "two")
    assert seen["CPU 0"] <= {4, 5, 6, 7}
    assert seen["CPU 1"] <= {0, 1, 2, 3}
    assert [len(seen["CPU 0"]), len(seen["CPU 1"])] == [1, 1]
    assert seen["CPU 0"] | seen["CPU 1"] == numbers(vm["cpus"])
    assert (vm["verified"], vm["pending"], vm["restart_or_migrate_required"]) == (True, [], False)


def test_each_cell_of_a_guest_gets_the_cell_of_the_host_that_has_room(ansible: Ansible, host: Host) -> None:
    sizes = crosswise(host)
    define(host, divided("two", sizes))
    options: Dict[str, Any] = {"name": "two", "policy": "dedicated"}
    check, run, again = ansible.tasks(
        "hv1",
        task("vm_pinning", check=True, **options),
        task("vm_pinning", **options),
        task("vm_pinning", **options),
    )
    vms = [by_name(result)["two"] for result in (check, run, again)]
    assert [vm["changed"] for vm in vms] == [True, True, False]
    for vm in vms:
        assert (vm["cells"], vm["pins"]["cells"]) == ([0, 1], CROSSWISE)
        assert vm["pins"]["memory"] == {"mode": "strict", "nodes": "0-1"}
    assert memnodes(host.virsh("dumpxml", "two", "--inactive")) == CROSSWISE
    start(host, "two")
    after = by_name(ansible.module("hv1", "vm_pinning", **options))["two"]
    assert after["changed"] is False
    assert_crosswise(host, sizes, after)


def test_cells_of_a_running_guest_are_bound_when_it_starts_again(ansible: Ansible, host: Host) -> None:
    sizes = crosswise(host)
    define(host, divided("two", sizes, numatune("0-1")))
    start(host, "two")
    anywhere = {"0-1": sum(sizes)}
    assert bound(host, "two") == anywhere
    options: Dict[str, Any] = {"name": "two", "policy": "dedicated"}
    run, again = ansible.tasks("hv1", *[task("vm_pinning", **options)] * 2)
    for result, changed in ((run, True), (again, False)):
        vm = by_name(result)["two"]
        assert (vm["changed"], vm["verified"], vm["restart_or_migrate_required"]) == (changed, True, True)
        assert vm["pending"] == [{"kind": "memnode", "live": [], "wanted": CROSSWISE}]
        assert (vm["pins"]["cells"], vm["live_pins"]["cells"]) == (CROSSWISE, [])
    assert memnodes(host.virsh("dumpxml", "two", "--inactive")) == CROSSWISE
    assert (memnodes(host.virsh("dumpxml", "two")), bound(host, "two")) == ([], anywhere)
    host.virsh("destroy", "two")
    start(host, "two")
    after = by_name(ansible.module("hv1", "vm_pinning", **options))["two"]
    assert after["changed"] is False
    assert_crosswise(host, sizes, after)


def test_dedicated_vm_starts_on_its_cell_with_strict_memory(ansible: Ansible, host: Host) -> None:
    start(host, "rest")
    options = {"name": "db", "policy": "dedicated", "thread_policy": "require", "host_cells": "1"}
    check, run, again = ansible.tasks(
        "hv1",
        task("vm_pinning", check=True, **options),
        task("vm_pinning", **options),
        task("vm_pinning", **options),
    )
    assert [step["changed"] for step in (check, run, again)] == [True, True, False]
    vm, rest = by_name(run)["db"], by_name(run)["rest"]
    own = numbers(vm["cpus"])
    assert own in ({4, 5}, {6, 7})
    assert vm["pins"]["memory"] == {"mode": "strict", "nodes": "1"}
    assert (vm["cells"], rest["floating"], rest["verified"]) == ([1], True, True)
    others = frozenset(range(8)) - own
    assert set(threads(host, "rest").values()) == {others}

    start(host, "db")
    seen = threads(host, "db")
    assert {seen["CPU 0"], seen["CPU 1"]} == {frozenset({cpu}) for cpu in own}
    assert seen["emulator"] == frozenset({4, 5, 6, 7}) - own
    held = memory(host, "db")
    assert list(held) == ["N1"]
    assert held["N1"] >= MIB * 1024
    after = by_name(ansible.module("hv1", "vm_pinning", name="db"))["db"]
    assert (after["verified"], after["pending"], after["changed"]) == (True, [], False)


def test_running_vm_gets_its_cpus_at_once_and_its_memory_later(ansible: Ansible, host: Host) -> None:
    host.run("virsh -q numatune db --config --mode preferred --nodeset 0")
    start(host, "db")
    held = memory(host, "db")
    result = ansible.module(
        "hv1", "vm_pinning", name="db", policy="dedicated", host_cells="1", emulator_threads="isolate"
    )
    vm = by_name(result)["db"]
    assert (vm["verified"], vm["restart_or_migrate_required"]) == (True, True)
    wanted = {"mode": "strict", "nodes": "1"}
    assert vm["pending"] == [{"kind": "memory", "live": {"mode": "preferred", "nodes": "0"}, "wanted": wanted}]
    own = numbers(vm["cpus"])
    assert len(own) == 3
    assert own <= {4, 5, 6, 7}
    assert frozenset().union(*threads(host, "db").values()) == own
    assert set(memory(host, "db")) == set(held)
    host.virsh("destroy", "db")
    start(host, "db")
    again = by_name(ansible.module("hv1", "vm_pinning", name="db"))["db"]
    assert (again["changed"], again["restart_or_migrate_required"], again["verified"]) == (False, False, True)
    assert list(memory(host, "db")) == ["N1"]


@pytest.mark.long
def test_restrictive_memory_of_a_running_vm_moves_with_it(ansible: Ansible, host: Host) -> None:
    options = {"name": "db", "policy": "numa", "memory_mode": "restrictive"}
    assert by_name(ansible.module("hv1", "vm_pinning", host_cells="0", **options))["db"]["cells"] == [0]
    start(host, "db")
    assert list(memory(host, "db")) == ["N0"]
    moved, again = ansible.tasks("hv1", *[task("vm_pinning", host_cells="1", diff=True, **options)] * 2)
    vm = by_name(moved)["db"]
    assert (vm["restart_or_migrate_required"], vm["live_pins"]["memory"]["nodes"], vm["verified"]) == (False, "1", True)
    assert "running: memory restrictive on 1" in moved["diff"]["after"]
    assert again["changed"] is False
    assert list(memory(host, "db")) == ["N1"]
    assert set(threads(host, "db").values()) == {frozenset({4, 5, 6, 7})}


@contextmanager
def isolated(host: Host, cpus: str) -> Iterator[None]:
    """Let the kernel say that it isolates CPUs."""
    path = "/sys/devices/system/cpu/isolated"
    host.run(f"echo {cpus} >/tmp/isolated && mount --bind /tmp/isolated {path}")
    try:
        yield
    finally:
        host.run(f"umount {path}")


def test_isolated_cpus_are_for_dedicated_vms_only(ansible: Ansible, host: Host) -> None:
    refused = [
        ("2-4", "cpu_owned", "2-3", "VM db has it for itself"),
        ("6-7", "policy_isolation", "6-7", "not isolated (0-1,4-5)"),
        ("4,6", "policy_isolation", "6", "not isolated (0-1,4-5)"),
    ]
    by_hand = [
        task("vm_pinning", name="rest", policy="manual", pins={"emulator": cpus})
        for cpus in (*(case[0] for case in refused), "6")
    ]
    with isolated(host, "2-3,6-7"):
        own, *results, single = ansible.tasks(
            "hv1", task("vm_pinning", name="db", policy="dedicated", host_cells="0"), *by_hand
        )
    vms = by_name(own)
    assert numbers(vms["db"]["cpus"]) == {2, 3}
    assert numbers(vms["db"]["pins"]["emulator"]) == {0, 1}
    # Releases of libvirt differ in what a VM without a set gets, so it is written down.
    assert vms["rest"]["pins"]["cpuset"] == "0-1,4-5"
    assert own["host"] == {"shared_cpus": "0-1,4-5", "exclusive_cpus": vms["db"]["cpus"], "isolated_cpus": "2-3,6-7"}
    for (cpus, code, cause, words), result in zip(refused, results, strict=True):
        assert (result["error"], result["vm"], result["cpus"]) == (code, "rest", cause), (cpus, result)
        assert f"the emulator on {cause}" in result["msg"]
        assert words in result["msg"]
    assert results[0]["owners"] == ["db"]
    # One isolated CPU is no set that nobody spreads threads in.
    assert by_name(single)["rest"]["pins"]["emulator"] == "6"


@pytest.mark.long
def test_pin_that_the_kernel_refuses_leaves_nothing_in_the_control_group(ansible: Ansible, host: Host) -> None:
    for name in NAMES:
        start(host, name)
    scope = host.run("systemctl list-units --plain --no-legend 'machine-qemu*rest.scope'").stdout.split()[0]
    before = {name: threads(host, name) for name in NAMES}
    host.run(["systemctl", "set-property", "--runtime", scope, "AllowedCPUs=0-3"])
    pins: Dict[str, Any] = {"vcpus": [{"vcpu": 0, "cpus": "4"}], "emulator": "5"}
    vms = [{"name": name, "policy": "manual", "pins": pins} for name in NAMES]
    result = ansible.module("hv1", "vm_pinning", vms=vms)
    assert (result["error"], result["vm"], result["rolled_back"]) == ("pin_failed", "rest", True), json.dumps(result)
    assert "Invalid argument" in result["libvirt_message"]
    groups = host.run(f"grep -H . '/sys/fs/cgroup/machine.slice/{scope}/libvirt/'*/cpuset.cpus", check=False).stdout
    assert {line.rsplit(":", 1)[1] for line in groups.splitlines()} <= {"0-7"}
    assert threads(host, "db") == before["db"]
    assert set(threads(host, "rest").values()) == {frozenset({0, 1, 2, 3})}
