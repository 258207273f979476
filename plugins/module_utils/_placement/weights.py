# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Preferences among destinations that all fit.

Each weight is a pure function to a number, lower is better. For each, the hosts are ranked, and hosts that are equal
share a rank; the host with the least sum of factor x rank is the best. So scales do not matter, as in oVirt's
RankSelectorPolicyUnit. ``WEIGHTS`` is the registry: a new weight is a function and a line there.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Sequence, Tuple

from .._pinning import keeps_pinning
from .model import Host, Vm
from .resources import UNLIMITED, cpu_count
from .seat import wanted_pinning


@dataclass(frozen=True)
class Choice:
    """A VM on a possible destination.

    ``free_kib`` is what would be left there, ``arrivals`` how many VMs this plan sends there already. ``cells`` and
    ``broken`` are in how many NUMA cells its CPUs would lie and how many cores it would share; 0 where its policy does
    not choose them. ``tier`` says how little the host is wanted, because it is to be emptied itself later on.
    """

    vm: Vm
    host: Host
    capacity_kib: int
    free_kib: int
    arrivals: int
    pinned: int
    cells: int = 0
    broken: int = 0
    tier: int = 0


Weight = Callable[[Choice], int]


def losses(choice: Choice) -> int:
    """Count what the VM would lose: its pins, room for its sockets, cores and threads, a CPU for each vCPU.

    The second is oVirt's HighPerformanceCpuPolicyUnit.
    """
    vm, host = choice.vm, choice.host
    lost = 0 if not vm.tied or vm.is_placed or keeps_pinning(wanted_pinning(vm, host), host.cpus) else 1
    if vm.shape is not None and host.shape is not None and _pins(vm):
        pairs = (
            (vm.shape.sockets, host.shape.sockets),
            (vm.shape.cores, host.shape.cores),
            (vm.shape.threads, host.shape.threads),
        )
        lost += any(wanted > offered for wanted, offered in pairs)
    count = cpu_count(host) if vm.vcpus is not None else None
    if vm.vcpus is not None and count is not None and vm.vcpus > count:
        lost += 1
    return lost


def numa_split(choice: Choice) -> int:
    """Count the NUMA cells over which the VM's CPUs would be spread."""
    return choice.cells


def broken_cores(choice: Choice) -> int:
    """Count the cores of which the VM would have only a part."""
    return choice.broken


def least_pinned(choice: Choice) -> int:
    """Count vCPU pins of other VMs on the host, for a VM that has pins itself."""
    return choice.pinned if _pins(choice.vm) else 0


def memory_load(choice: Choice) -> int:
    """Return the share of memory in use afterwards in whole per cent, so that near ties go to other weights."""
    if choice.capacity_kib >= UNLIMITED // 2 or choice.capacity_kib <= 0:
        return 0
    return 100 - 100 * choice.free_kib // choice.capacity_kib


def spread(choice: Choice) -> int:
    """Count the VMs the plan sends to the host already."""
    return choice.arrivals


def moves_again(choice: Choice) -> int:
    """Return how soon the VM would have to move again."""
    return choice.tier


def _pins(vm: Vm) -> bool:
    return bool(vm.own_pinning.vcpus)


# Weight and its default factor, by the name under which a request may change that.
WEIGHTS: Dict[str, Tuple[Weight, int]] = {
    "moves_again": (moves_again, 64),
    "losses": (losses, 32),
    "numa_split": (numa_split, 16),
    "broken_cores": (broken_cores, 8),
    "least_pinned": (least_pinned, 4),
    "memory_load": (memory_load, 2),
    "spread": (spread, 1),
}


def best(choices: Sequence[Choice], factors: Mapping[str, int]) -> List[int]:
    """Return the numbers of the choices, the best first; equal ones stay in order.

    ``factors`` are those of a request, for some or all weights.
    """
    scores = [0] * len(choices)
    for name, (weight, default) in WEIGHTS.items():
        factor = factors.get(name, default)
        values = [weight(choice) for choice in choices] if factor else []
        ranked = sorted(set(values))
        for number, value in enumerate(values if len(ranked) > 1 else ()):
            scores[number] += factor * bisect_left(ranked, value)
    return sorted(range(len(choices)), key=lambda number: (scores[number], number))
