# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Benchmark of pinning: ``python -m tests.bench.pinning`` (root, for it starts a host of the laboratory).

Pins every vCPU of all VMs of one host, live and in the definition, in three ways that end with the same pins: one call
of ``vm_pinning``, a playbook that loops ``virsh vcpupin``, and for comparison a shell script on the host. All run
in the same round, with other pins each, so that nobody finds its work done. Asserts only that the pins are there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.runner import COLLECTION, Ansible
from tests.lab import GuestSpec, Lab
from tests.tools.sync import sync

# Pins of different rounds differ by which of the host's CPUs comes first.
Pins = dict[str, list[str]]


@dataclass(frozen=True)
class Fleet:
    """A host of the laboratory with VMs, and a controller."""

    lab: Lab
    ansible: Ansible
    names: tuple[str, ...]
    vcpus: int
    cpus: tuple[int, ...]

    def pins(self, shift: int) -> Pins:
        """Return pins for all vCPUs, by VM."""
        count = len(self.cpus)
        return {
            name: [str(self.cpus[(vm + vcpu + shift) % count]) for vcpu in range(self.vcpus)]
            for vm, name in enumerate(self.names)
        }

    def found(self, *options: str) -> Pins:
        """Return the pins that libvirt has."""
        return {name: self._found(name, options) for name in self.names}

    def _found(self, name: str, options: tuple[str, ...]) -> list[str]:
        lines = self.lab["hv1"].virsh("vcpupin", name, *options).splitlines()
        return [line.split()[1] for line in lines if line.split() and line.split()[0].isdigit()]


def one_call(fleet: Fleet, pins: Pins) -> None:
    """Pin with one task, as a user of the collection does."""
    vms = [
        {
            "name": name,
            "policy": "manual",
            "pins": {"vcpus": [{"vcpu": vcpu, "cpus": cpu} for vcpu, cpu in enumerate(cpus)]},
        }
        for name, cpus in pins.items()
    ]
    _play(fleet, {f"{COLLECTION}.vm_pinning": {"vms": vms}})


def looping(fleet: Fleet, pins: Pins) -> None:
    """Pin with one task for each vCPU, as playbooks without the collection do."""
    items = [[name, vcpu, cpu] for name, cpus in pins.items() for vcpu, cpu in enumerate(cpus)]
    argv = ["virsh", "vcpupin", "{{ item.0 }}", "{{ item.1 }}", "{{ item.2 }}", "--live", "--config"]
    _play(fleet, {"ansible.builtin.command": {"argv": argv}, "loop": items, "changed_when": True})


def script(fleet: Fleet, pins: Pins) -> None:
    """Pin with one task that runs a script: the least that a playbook without the collection can do."""
    calls = [
        f"virsh vcpupin {name} {vcpu} {cpu} --live --config >/dev/null"
        for name, cpus in pins.items()
        for vcpu, cpu in enumerate(cpus)
    ]
    _play(fleet, {"ansible.builtin.shell": "\n".join(["set -e", *calls]), "changed_when": True})


def _play(fleet: Fleet, task: dict[str, Any]) -> None:
    run = fleet.ansible.start_tasks("hv1", [task]).wait(timeout=3600)
    failed = [result for result in run.results if result.status != "ok"]
    if run.code or failed:
        raise SystemExit(f"{json.dumps([result.result for result in failed])[:2000]}\n{run.text[-2000:]}")


WAYS: dict[str, Callable[[Fleet, Pins], None]] = {
    "vm_pinning, one call": one_call,
    "playbook looping virsh vcpupin": looping,
    "script of virsh vcpupin in one task": script,
}


def measure(fleet: Fleet, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each way in each round; every way finds the pins of the one before."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for shift in range(rounds * len(WAYS)):
        way = list(WAYS)[shift % len(WAYS)]
        pins = fleet.pins(shift + 1)
        started = time.perf_counter()
        WAYS[way](fleet, pins)
        seconds[way].append(time.perf_counter() - started)
        if not fleet.found("--live") == fleet.found("--config") == pins:
            raise SystemExit(f"{way}: libvirt has other pins than it was given")
    return seconds


@contextmanager
def a_fleet(vms: int, vcpus: int) -> Iterator[Fleet]:
    """A host whose VMs have a process and all their threads, and do not run, so that the machine is idle."""
    names = tuple(f"vm{number:02}" for number in range(vms))
    with Lab("bench") as lab, tempfile.TemporaryDirectory() as folder:
        lab.up(1)
        host = lab["hv1"]
        for name in names:
            lab.guests.define(GuestSpec(name, vcpus=vcpus), "hv1")
        with ThreadPoolExecutor(max_workers=4) as pool:
            for started in [pool.submit(host.virsh, "start", name, "--paused") for name in names]:
                started.result()
        topology = host.virsh("capabilities")
        cpus = tuple(sorted({int(part.split("'")[0]) for part in topology.split("<cpu id='")[1:]}))
        yield Fleet(lab, Ansible(lab.write_inventory(Path(folder) / "inventory.yml"), Path(folder)), names, vcpus, cpus)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.pinning", description=__doc__)
    parser.add_argument("--vms", type=int, default=50, help="VMs on the host (default 50)")
    parser.add_argument("--vcpus", type=int, default=8, help="vCPUs of each VM (default 8)")
    parser.add_argument("--rounds", type=int, default=1, help="rounds; the median counts (default 1)")
    options = parser.parse_args()
    sync()
    with a_fleet(options.vms, options.vcpus) as fleet:
        seconds = {way: statistics.median(times) for way, times in measure(fleet, options.rounds).items()}
    ours = next(iter(seconds.values()))
    print(f"Pinning {options.vms} VMs with {options.vcpus} vCPUs each on one host, live and in the definition")
    print(f"{'way':38}{'seconds':>9}{'ratio':>8}")
    for way, each in seconds.items():
        print(f"{way:38}{each:9.1f}{each / ours:8.1f}")


if __name__ == "__main__":
    main()
