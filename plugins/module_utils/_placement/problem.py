# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The question as numbers: which VMs must find a host, where each could go, and what is free.

VMs and hosts are indexes here, in the order of names, so that the search is fast and always takes the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict, FrozenSet, List, Mapping, Sequence, Tuple

from .filters import Context, host_reasons, vm_reasons
from .model import Host, Snapshot, Vm
from .reasons import Reason, amount
from .request import Request
from .resources import Vector, capacity, demand, fits, free_now, known, plus
from .weights import static_losses


@dataclass(frozen=True)
class Problem:
    """VMs that all need a destination. Every tuple is indexed by VM or by host.

    ``free`` is what hosts have left now, with these VMs still charged where they run. ``candidates`` are host indexes
    that pass all filters and could hold the VM alone. VMs of one ``kind`` are interchangeable.
    """

    vms: Tuple[Vm, ...]
    hosts: Tuple[Host, ...]
    demand: Tuple[Vector, ...]
    source: Tuple[int, ...]
    candidates: Tuple[Tuple[int, ...], ...]
    capacity: Tuple[Vector, ...]
    free: Tuple[Vector, ...]
    losses: Tuple[Mapping[int, int], ...]
    pinned: Tuple[int, ...]
    kind: Tuple[int, ...]
    size: Tuple[int, ...]

    def free_after(self) -> List[Vector]:
        """Return what hosts have when all these VMs have left and none has arrived."""
        free = list(self.free)
        for vm, host in enumerate(self.source):
            free[host] = plus(free[host], self.demand[vm])
        return free


@dataclass(frozen=True)
class Stuck:
    """A VM that no destination could take even alone, with every reason."""

    vm: Vm
    reasons: Tuple[Reason, ...]


def subjects(request: Request, snapshot: Snapshot) -> Tuple[Vm, ...]:
    """Return the VMs the question is about."""
    if request.question == "place":
        return request.vms
    hosts = {host.name for host in request.hosts}
    if request.question == "drain":
        # A leftover keeps its host from being empty, so it is named as well.
        return tuple(vm for vm in (*snapshot.vms, *snapshot.leftovers) if vm.host in hosts and vm.active)
    if request.refill == "none":
        return ()
    return tuple(vm for vm in snapshot.vms if vm.active and home_of(vm, request.hosts) not in ("", vm.host))


def home_of(vm: Vm, hosts: Sequence[Host]) -> str:
    """Return the name of the host a VM belongs to, or nothing where it is none of ``hosts``."""
    return next((host.name for host in hosts if vm.home is not None and vm.home.is_host(host)), "")


def destinations(request: Request, snapshot: Snapshot) -> Callable[[Vm], Tuple[Host, ...]]:
    """Return the function that says which hosts the question considers for a VM."""
    if request.question == "refill":
        return lambda vm: tuple(host for host in request.hosts if vm.home is not None and vm.home.is_host(host))
    named = request.hosts if request.question == "place" and request.hosts else snapshot.hosts
    return lambda vm: tuple(host for host in named if host.name != vm.host)


def context_of(request: Request, snapshot: Snapshot) -> Context:
    defined: Dict[str, Dict[str, str]] = {}
    for vm in (*snapshot.vms, *snapshot.leftovers):
        defined.setdefault(vm.host, {})[vm.name] = vm.key
    emptied: FrozenSet[str] = frozenset()
    if request.question == "drain":
        emptied = frozenset(host.name for host in request.hosts)
    return Context(request.options, {host.name: host for host in snapshot.hosts}, defined, emptied)


def build(request: Request, snapshot: Snapshot) -> Tuple[Problem, Tuple[Stuck, ...]]:
    """Return the joint problem of the VMs that could move, and those that could not even alone.

    A VM that stays takes room that another one counted on, so the test is repeated until nothing changes.
    """
    context, considered = context_of(request, snapshot), destinations(request, snapshot)
    free = free_now(snapshot)
    stuck: List[Stuck] = []
    moving: Dict[str, Tuple[Host, ...]] = {}
    vms: List[Vm] = []
    for vm in subjects(request, snapshot):
        refused = vm_reasons(vm, context)
        passing = tuple(host for host in considered(vm) if next(host_reasons(vm, host, context), None) is None)
        if refused or not passing:
            stuck.append(Stuck(vm, (*refused, *_rejections(vm, considered(vm), context))))
        else:
            vms.append(vm)
            moving[vm.key] = passing
    while True:
        left = _free_without(vms, free)
        alone = [vm for vm in vms if any(fits(demand(vm), left[host.name]) for host in moving[vm.key])]
        if len(alone) == len(vms):
            break
        for vm in vms:
            if vm not in alone:
                rejected = _rejections(vm, considered(vm), context)
                stuck.append(Stuck(vm, (*rejected, *shortages(vm, moving[vm.key], left))))
        vms = alone
    return _numbers(vms, moving, snapshot, free, left), tuple(
        sorted(stuck, key=lambda item: (item.vm.name, item.vm.key))
    )


def _rejections(vm: Vm, hosts: Sequence[Host], context: Context) -> Tuple[Reason, ...]:
    return tuple(reason for host in hosts for reason in host_reasons(vm, host, context))


def rejections(vm: Vm, request: Request, snapshot: Snapshot) -> Tuple[Reason, ...]:
    """Return every reason why a host that the filters reject is none for a VM."""
    return _rejections(vm, destinations(request, snapshot)(vm), context_of(request, snapshot))


def shortages(vm: Vm, hosts: Sequence[Host], free: Mapping[str, Vector]) -> Tuple[Reason, ...]:
    """Return a reason for every host that has too little of a resource left."""
    reasons: List[Reason] = []
    for host in hosts:
        needed, left = demand(vm), free[host.name]
        if needed[0] and needed[0] > left[0]:
            text = f"has {amount(max(0, left[0]))} of memory left for VMs, the VM needs {amount(needed[0])}"
            facts = {"needed_kib": needed[0], "free_kib": left[0], "capacity_kib": known(capacity(host)[0])}
            reasons.append(Reason("memory", text, host.name, facts))
        if needed[1] and needed[1] > left[1]:
            text = f"has room for {max(0, left[1])} more vCPUs within its overcommit limit, the VM has {needed[1]}"
            facts = {"needed_vcpus": needed[1], "free_vcpus": left[1], "capacity_vcpus": known(capacity(host)[1])}
            reasons.append(Reason("vcpus", text, host.name, facts))
    return tuple(reasons)


def _free_without(vms: Sequence[Vm], free: Mapping[str, Vector]) -> Dict[str, Vector]:
    left = dict(free)
    for vm in vms:
        left[vm.host] = plus(left[vm.host], demand(vm))
    return left


def _numbers(
    vms: Sequence[Vm],
    moving: Mapping[str, Tuple[Host, ...]],
    snapshot: Snapshot,
    free: Mapping[str, Vector],
    left: Mapping[str, Vector],
) -> Problem:
    index = {host.name: number for number, host in enumerate(snapshot.hosts)}
    demands = tuple(demand(vm) for vm in vms)
    possible = [[host for host in moving[vm.key] if fits(demand(vm), left[host.name])] for vm in vms]
    candidates = tuple(tuple(index[host.name] for host in hosts) for hosts in possible)
    losses = tuple({index[host.name]: static_losses(vm, host) for host in hosts} for vm, hosts in zip(vms, possible))
    source = tuple(index[vm.host] for vm in vms)
    pinned = [0] * len(snapshot.hosts)
    for vm in snapshot.vms:
        pinned[index[vm.host]] += len(vm.pinning.vcpus) if vm.active else 0
    return Problem(
        vms=tuple(vms),
        hosts=snapshot.hosts,
        demand=demands,
        source=source,
        candidates=candidates,
        capacity=tuple(capacity(host) for host in snapshot.hosts),
        free=tuple(free[host.name] for host in snapshot.hosts),
        losses=losses,
        pinned=tuple(pinned),
        kind=_kinds(vms, demands, source, candidates),
        size=_sizes(demands, snapshot.hosts),
    )


def _kinds(
    vms: Sequence[Vm], demands: Sequence[Vector], source: Sequence[int], candidates: Sequence[Tuple[int, ...]]
) -> Tuple[int, ...]:
    """Number the VMs so that interchangeable ones share a number; VMs of one name do not, as no host takes both."""
    names = [vm.name for vm in vms]
    kinds: Dict[Tuple[object, ...], int] = {}
    numbers: List[int] = []
    for vm, name in enumerate(names):
        own = vm if names.count(name) > 1 else None
        numbers.append(kinds.setdefault((demands[vm], source[vm], candidates[vm], own), len(kinds)))
    return tuple(numbers)


def _sizes(demands: Sequence[Vector], hosts: Sequence[Host]) -> Tuple[int, ...]:
    """Return the dominant share of each VM in the fleet, in billionths: comparable across resources."""
    totals = [sum(known(capacity(host)[kind]) or 0 for host in hosts) for kind in range(2)]
    shares = [[amounts[kind] * 10**9 // max(1, totals[kind]) for kind in range(2)] for amounts in demands]
    return tuple(max(share) for share in shares)
