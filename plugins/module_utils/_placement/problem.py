# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The question as numbers: which VMs must find a host, where each could go, and what is free.

VMs and hosts are indexes here, in the order of names, so that the search is fast and always takes the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from .._pinning import Misfit
from .books import Books, Moment
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
    that pass all filters and have the amounts for the VM alone. VMs of one ``kind`` are interchangeable.
    VMs that are ``tied`` ask the ``books`` too; ``start`` and ``after`` are the hosts' moments with all these VMs where
    they run, and with all of them gone.
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
    tied: Tuple[bool, ...]
    start: Tuple[Moment, ...]
    after: Tuple[Moment, ...]
    context: Context

    @property
    def books(self) -> Books:
        return self.context.books

    def free_after(self) -> List[Vector]:
        """Return what hosts have when all these VMs have left and none has arrived."""
        free = list(self.free)
        for vm, host in enumerate(self.source):
            free[host] = plus(free[host], self.demand[vm])
        return free


@dataclass(frozen=True)
class Rest:
    """What hosts have at one moment of a plan, by their names."""

    free: Mapping[str, Vector]
    moments: Mapping[str, Moment]
    books: Books

    def takes(self, vm: Vm, host: str) -> bool:
        """Whether a host has everything for one more VM."""
        return fits(demand(vm), self.free[host]) and self.misfit(vm, host) is None

    def misfit(self, vm: Vm, host: str) -> Optional[Misfit]:
        """Return why a host cannot give a VM its CPUs and cells."""
        found = self.books.offer(host, self.moments[host], vm) if vm.tied else None
        return found if isinstance(found, Misfit) else None

    def layout(self, vm: Vm, host: str) -> Tuple[int, int]:
        """Return over how many cells a VM would lie on a host, and how many cores it would share."""
        found = self.books.offer(host, self.moments[host], vm) if vm.tied else None
        return self.books.layout(host, found) if isinstance(found, int) else (0, 0)


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


def context_of(request: Request, snapshot: Snapshot, books: Books) -> Context:
    defined: Dict[str, Dict[str, str]] = {}
    for vm in (*snapshot.vms, *snapshot.leftovers):
        defined.setdefault(vm.host, {})[vm.name] = vm.key
    emptied: FrozenSet[str] = frozenset()
    if request.question == "drain":
        emptied = frozenset(host.name for host in request.hosts)
    return Context(request.options, {host.name: host for host in snapshot.hosts}, defined, books, emptied)


def build(request: Request, snapshot: Snapshot) -> Tuple[Problem, Tuple[Stuck, ...]]:
    """Return the joint problem of the VMs that could move, and those that could not even alone.

    A VM that stays takes room that another one counted on, so the test is repeated until nothing changes.
    """
    asked = subjects(request, snapshot)
    books = Books(snapshot, asked)
    context, considered = context_of(request, snapshot, books), destinations(request, snapshot)
    free = free_now(snapshot)
    stuck: List[Stuck] = []
    moving: Dict[str, Tuple[Host, ...]] = {}
    vms: List[Vm] = []
    for vm in asked:
        refused = vm_reasons(vm, context)
        passing = tuple(host for host in considered(vm) if next(host_reasons(vm, host, context), None) is None)
        if refused or not passing:
            stuck.append(Stuck(vm, (*refused, *_rejections(vm, considered(vm), context))))
        else:
            vms.append(vm)
            moving[vm.key] = passing
    while True:
        left = Rest(_free_without(vms, free), _moments_without(vms, snapshot, books), books)
        alone = [vm for vm in vms if any(left.takes(vm, host.name) for host in moving[vm.key])]
        if len(alone) == len(vms):
            break
        for vm in vms:
            if vm not in alone:
                rejected = _rejections(vm, considered(vm), context)
                stuck.append(Stuck(vm, (*rejected, *shortages(vm, moving[vm.key], left))))
        vms = alone
    problem = _numbers(vms, moving, snapshot, free, left, context)
    return problem, tuple(sorted(stuck, key=lambda item: (item.vm.name, item.vm.key)))


def _rejections(vm: Vm, hosts: Sequence[Host], context: Context) -> Tuple[Reason, ...]:
    return tuple(reason for host in hosts for reason in host_reasons(vm, host, context))


def rejections(vm: Vm, request: Request, snapshot: Snapshot, context: Context) -> Tuple[Reason, ...]:
    """Return every reason why a host that the filters reject is none for a VM."""
    return _rejections(vm, destinations(request, snapshot)(vm), context)


def shortages(vm: Vm, hosts: Sequence[Host], rest: Rest) -> Tuple[Reason, ...]:
    """Return a reason for every host that has too little of a resource left, or cannot give the VM its pins."""
    reasons: List[Reason] = []
    for host in hosts:
        needed, left = demand(vm), rest.free[host.name]
        if needed[0] and needed[0] > left[0]:
            text = f"has {amount(max(0, left[0]))} of memory left for VMs, the VM needs {amount(needed[0])}"
            facts = {"needed_kib": needed[0], "free_kib": left[0], "capacity_kib": known(capacity(host)[0])}
            reasons.append(Reason("memory", text, host.name, facts))
        if needed[1] and needed[1] > left[1]:
            text = f"has room for {max(0, left[1])} more vCPUs within its overcommit limit, the VM has {needed[1]}"
            facts = {"needed_vcpus": needed[1], "free_vcpus": left[1], "capacity_vcpus": known(capacity(host)[1])}
            reasons.append(Reason("vcpus", text, host.name, facts))
        misfit = rest.misfit(vm, host.name)
        if misfit is not None:
            text = f"cannot give {vm.name} its pins: {misfit.text}" if vm.is_placed else misfit.text
            reasons.append(Reason(misfit.code, text, host.name, misfit.facts))
    return tuple(reasons)


def _free_without(vms: Sequence[Vm], free: Mapping[str, Vector]) -> Dict[str, Vector]:
    left = dict(free)
    for vm in vms:
        left[vm.host] = plus(left[vm.host], demand(vm))
    return left


def _moments_without(vms: Sequence[Vm], snapshot: Snapshot, books: Books) -> Dict[str, Moment]:
    leaving: Dict[str, List[Vm]] = {}
    for vm in vms:
        leaving.setdefault(vm.host, []).append(vm)
    return {host.name: books.without(books.start(host.name), leaving.get(host.name, ())) for host in snapshot.hosts}


def _numbers(
    vms: Sequence[Vm],
    moving: Mapping[str, Tuple[Host, ...]],
    snapshot: Snapshot,
    free: Mapping[str, Vector],
    left: Rest,
    context: Context,
) -> Problem:
    index = {host.name: number for number, host in enumerate(snapshot.hosts)}
    demands = tuple(demand(vm) for vm in vms)
    possible = [[host for host in moving[vm.key] if fits(demand(vm), left.free[host.name])] for vm in vms]
    candidates = tuple(tuple(index[host.name] for host in hosts) for hosts in possible)
    losses = tuple({index[host.name]: static_losses(vm, host) for host in hosts} for vm, hosts in zip(vms, possible))
    source = tuple(index[vm.host] for vm in vms)
    pinned = [0] * len(snapshot.hosts)
    for vm in snapshot.vms:
        pinned[index[vm.host]] += len(vm.own_pinning.vcpus) if vm.active else 0
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
        tied=tuple(vm.tied for vm in vms),
        start=tuple(left.books.start(host.name) for host in snapshot.hosts),
        after=tuple(left.moments[host.name] for host in snapshot.hosts),
        context=context,
    )


def _kinds(
    vms: Sequence[Vm], demands: Sequence[Vector], source: Sequence[int], candidates: Sequence[Tuple[int, ...]]
) -> Tuple[int, ...]:
    """Number the VMs so that interchangeable ones share a number; VMs of one name do not, as no host takes both."""
    names = [vm.name for vm in vms]
    reached = {host for hosts in candidates for host in hosts}
    kinds: Dict[Tuple[object, ...], int] = {}
    numbers: List[int] = []
    for vm, name in enumerate(names):
        # What a tied VM leaves free is its own wherever somebody may come.
        unlike = names.count(name) > 1 or bool(vms[vm].states) or (vms[vm].tied and source[vm] in reached)
        own = vm if unlike else _ties(vms[vm])
        numbers.append(kinds.setdefault((demands[vm], source[vm], candidates[vm], own), len(kinds)))
    return tuple(numbers)


def _ties(vm: Vm) -> Optional[Tuple[object, ...]]:
    """Return what a VM asks of a host beside amounts."""
    if not vm.tied:
        return None
    guest = None if vm.guest is None else replace(vm.guest, name="", uuid="")
    return vm.policy, guest, None if vm.is_placed else vm.own_pinning, vm.home


def _sizes(demands: Sequence[Vector], hosts: Sequence[Host]) -> Tuple[int, ...]:
    """Return the dominant share of each VM in the fleet, in billionths: comparable across resources."""
    totals = [sum(known(capacity(host)[kind]) or 0 for host in hosts) for kind in range(2)]
    shares = [[amounts[kind] * 10**9 // max(1, totals[kind]) for kind in range(2)] for amounts in demands]
    return tuple(max(share) for share in shares)
