# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Amounts that add up on a host: memory and vCPUs.

Capacity = total - reserved - the maximum memory and overhead of every active domain, not what is free at the moment:
a guest may use all it was promised.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

from .model import Host, Snapshot, Vm

# One number per resource, in the order of RESOURCES.
Vector = Tuple[int, ...]

RESOURCES = ("memory_kib", "vcpus")

# Stands for "not known, so not limited"; far above any sum of real amounts.
UNLIMITED = 1 << 60


def demand(vm: Vm) -> Vector:
    """Return what a VM takes from its host; unknown amounts are 0."""
    return (vm.total_kib, vm.vcpus or 0)


def capacity(host: Host) -> Vector:
    """Return what a host can give to VMs."""
    memory = UNLIMITED if host.memory_kib is None else host.memory_kib - host.reserved_memory_kib
    count = cpu_count(host)
    if count is None or host.cpu_overcommit is None:
        return (memory, UNLIMITED)
    return (memory, int(count * host.cpu_overcommit))


def cpu_count(host: Host) -> Optional[int]:
    """Return how many CPUs carry guests, without the reserved ones; cores where threads do not count as CPUs."""
    if host.cpus is None:
        return None if host.shape is None else _count_by_shape(host)
    usable = host.cpus - host.reserved_cpus
    if host.count_threads_as_cores:
        return len(usable)
    cores = {core & usable for cell in host.cells or () for core in cell.siblings}
    named = {cpu for core in cores for cpu in core}
    # A CPU that no core lists is taken for a core of its own.
    return len(cores - {frozenset()}) + len(usable - named)


def _count_by_shape(host: Host) -> Optional[int]:
    if host.shape is None:
        return None
    count = host.shape.cpus if host.count_threads_as_cores else host.shape.cpus // host.shape.threads
    return max(0, count - len(host.reserved_cpus))


def free_now(snapshot: Snapshot) -> Dict[str, Vector]:
    """Return what each host has left; less than nothing where a host is overcommitted already."""
    loads: Dict[str, List[int]] = {host.name: list(capacity(host)) for host in snapshot.hosts}
    for vm in (*snapshot.vms, *snapshot.leftovers):
        if vm.active:
            for index, amount in enumerate(demand(vm)):
                loads[vm.host][index] -= amount
    return {name: tuple(left) for name, left in loads.items()}


def fits(wanted: Sequence[int], free: Sequence[int]) -> bool:
    """Whether the amounts fit; a resource of which nothing is wanted does not matter."""
    return all(amount == 0 or amount <= left for amount, left in zip(wanted, free))


def plus(left: Sequence[int], right: Sequence[int]) -> Vector:
    return tuple(a + b for a, b in zip(left, right))


def minus(left: Sequence[int], right: Sequence[int]) -> Vector:
    return tuple(a - b for a, b in zip(left, right))


def known(amount: int) -> Optional[int]:
    """Return an amount for an answer: ``None`` where it is not limited."""
    return None if amount >= UNLIMITED // 2 else amount
