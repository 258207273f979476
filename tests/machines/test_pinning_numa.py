# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vm_pinning on a full host with two NUMA cells: what the kernel says of threads and memory, not only libvirt.

A host has cell 0 with CPUs 0-3 and cell 1 with CPUs 4-7; 0-1, 2-3, 4-5 and 6-7 are threads of one core each.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import Any, Dict, Iterator

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


@pytest.fixture
def host(lab: Lab) -> Iterator[Host]:
    """hv1 with two VMs that are off, and no pins of anybody."""
    found = lab["hv1"]
    _clean(found)
    for name in NAMES:
        xml = tiny(name, vcpus=2, extra=BACKING, memory_mib=MIB).replace("type='qemu'", "type='kvm'")
        found.run(["virsh", "-q", "define", "/dev/stdin"], stdin=xml)
    yield found
    _clean(found)


def _clean(host: Host) -> None:
    for name in host.virsh("list", "--all", "--name").split():
        host.run(f"virsh -q destroy {name}; virsh -q undefine {name}", check=False)


def start(host: Host, name: str) -> None:
    host.virsh("start", name, "--paused")


def memory(host: Host, name: str) -> Dict[str, int]:
    """KiB of guest memory by node."""
    lines = host.run(MEMORY.replace("NAME", name)).stdout.splitlines()
    return {line.split()[0]: int(line.split()[1]) for line in lines}


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
    with isolated(host, "2-3,6-7"):
        own, by_hand = ansible.tasks(
            "hv1",
            task("vm_pinning", name="db", policy="dedicated"),
            task("vm_pinning", name="rest", policy="manual", pins={"emulator": "2-4"}),
        )
    vms = by_name(own)
    assert numbers(vms["db"]["cpus"]) in ({2, 3}, {6, 7})
    assert numbers(vms["db"]["pins"]["emulator"]) <= {0, 1, 4, 5}
    # Releases of libvirt differ in what a VM without a set gets, so it is written down.
    assert vms["rest"]["pins"]["cpuset"] == "0-1,4-5"
    assert own["host"] == {"shared_cpus": "0-1,4-5", "exclusive_cpus": vms["db"]["cpus"], "isolated_cpus": "2-3,6-7"}
    assert by_hand["error"] in ("policy_isolation", "cpu_owned")


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
