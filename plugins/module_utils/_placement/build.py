# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""From a question about a snapshot to a problem."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Dict, FrozenSet, Iterable, List, Optional, Sequence, Set, Tuple

from .blocks import Block, Company, companies, whole_companies
from .books import Books, Moment
from .constraints import Context, host_reasons, labels, vm_reasons
from .floor import Held
from .model import Snapshot, Vm
from .problem import Ground, Problem
from .question import Question, others
from .reach import Reach
from .reasons import Reason
from .resources import Vector, capacity, demand, free_now, known, plus
from .rest import Rest


@dataclass(frozen=True)
class Stuck:
    """A VM that no destination could take even alone, with every reason."""

    vm: Vm
    reasons: Tuple[Reason, ...]


def build(question: Question, snapshot: Snapshot, tiers: Sequence[int] = ()) -> Tuple[Problem, Tuple[Stuck, ...]]:
    """Return the joint problem of the VMs that could move, and those that could not even alone.

    ``tiers`` say how little each host is wanted as a destination, 0 is best.
    """
    ground = _ground(question, snapshot, question.vms, tiers)
    vms, stuck = _possible(ground)
    blocks, split = _leaving(ground, vms)
    return _problem(ground, blocks), tuple(sorted((*stuck, *split), key=lambda item: (item.vm.name, item.vm.key)))


def widened(problem: Problem) -> Problem:
    """Return the problem with every VM that may move to make room.

    Those on hosts where no VM of the problem could go are among them: they make room for VMs that make room.
    """
    ground = problem.ground
    near = list(others(ground.snapshot, ground.question))
    if problem.vms and all(vm.tied for vm in problem.vms) and not all(vm.tied for vm in near):
        # Now VMs that share CPUs may come, so that some have to be left to them.
        ground = _ground(ground.question, ground.snapshot, (*ground.question.vms, *near), ground.reach.tier)
    staying = [each for each in (_staying(ground, vms) for vms in whole_companies(near, ground.snapshot)) if each]
    leaving = [_Draft(problem.members(number), block.hosts, block.kinds) for number, block in enumerate(problem.blocks)]
    return _problem(ground, [*leaving, *staying])


def only(problem: Problem, blocks: Sequence[int]) -> Problem:
    """Return the problem with some of its blocks that have to go; the others stay where they are."""
    some = tuple(problem.blocks[block] for block in blocks)
    leaving = [problem.vms[vm] for block in some for vm in block.vms]
    return replace(problem, blocks=some, after=moments_without(problem.ground, leaving))


def rejections(vm: Vm, ground: Ground) -> Tuple[Reason, ...]:
    """Return every reason why a host of the question that the filters reject is none for a VM."""
    within = ground.question.within(vm)
    return tuple(
        reason
        for host in ground.hosts
        if host.name != vm.host and (within is None or host.name in within)
        for reason in host_reasons(vm, host, ground.context)
    )


def rest_without(ground: Ground, leaving: Sequence[Vm]) -> Rest:
    """Return the hosts without some VMs."""
    floor = ground.now()
    for vm in leaving:
        floor.release(demand(vm), held(ground, vm), ground.number[vm.host])
    return ground.rest(floor, moments_without(ground, leaving))


def moments_without(ground: Ground, leaving: Iterable[Vm]) -> Tuple[Moment, ...]:
    """Return how tied VMs are placed without some of them, by host."""
    gone: Dict[str, List[Vm]] = {}
    for vm in leaving:
        gone.setdefault(vm.host, []).append(vm)
    books = ground.books
    return tuple(books.without(books.start(host.name), gone.get(host.name, ())) for host in ground.hosts)


def held(ground: Ground, vm: Vm) -> FrozenSet[Held]:
    """Return what a VM holds of what others want too."""
    return frozenset((label, vm.key) for label in labels(vm) & ground.contested)


def reachable(ground: Ground, vm: Vm) -> Tuple[int, ...]:
    """Return where a VM may go by the filters and the question."""
    own, within = ground.number[vm.host], ground.question.within(vm)
    found = ground.reach.hosts(vm)
    if own not in found and within is None:
        return found
    return tuple(host for host in found if host != own and (within is None or ground.hosts[host].name in within))


def _ground(question: Question, snapshot: Snapshot, movers: Iterable[Vm], tiers: Sequence[int]) -> Ground:
    number = {host.name: index for index, host in enumerate(snapshot.hosts)}
    own = {host.name: host for host in snapshot.hosts}
    everyone = (*snapshot.vms, *snapshot.leftovers)
    context = Context(question.options, own, Books(snapshot, movers), question.emptied)
    counts = Counter(label for vm in everyone for label in labels(vm))
    contested = frozenset(label for label, count in counts.items() if count > 1)
    held_by: Dict[int, List[Held]] = {}
    pinned = [0] * len(snapshot.hosts)
    for vm in everyone:
        host = number[vm.host]
        for label in sorted(labels(vm) & contested) if contested else ():
            held_by.setdefault(host, []).append((label, vm.key))
        pinned[host] += len(vm.own_pinning.vcpus) if vm.active else 0
    free = free_now(snapshot)
    return Ground(
        snapshot=snapshot,
        question=question,
        context=context,
        reach=Reach(snapshot.hosts, context, tiers),
        number=number,
        capacity=tuple(capacity(host) for host in snapshot.hosts),
        free=tuple(free[host.name] for host in snapshot.hosts),
        contested=contested,
        labels={host: tuple(found) for host, found in held_by.items()},
        pinned=tuple(pinned),
    )


def _possible(ground: Ground) -> Tuple[List[Vm], List[Stuck]]:
    """Return the VMs that could move alone, and those that could not.

    A VM that stays takes room that another one counted on, so the test is repeated until nothing changes.
    """
    stuck: List[Stuck] = []
    vms: List[Vm] = []
    for vm in ground.question.vms:
        refused = vm_reasons(vm, ground.question.options)
        if refused or not reachable(ground, vm):
            stuck.append(Stuck(vm, (*refused, *rejections(vm, ground))))
        else:
            vms.append(vm)
    aside = list(others(ground.snapshot, ground.question))
    while True:
        left = rest_without(ground, vms)
        missing = {vm.key for vm in vms if not _fits_alone(ground, vm, left)}
        if missing and aside:
            cleared = rest_without(ground, [*vms, *aside])
            missing = {vm.key for vm in vms if vm.key in missing and not _fits_alone(ground, vm, cleared)}
        if not missing:
            return vms, stuck
        for vm in vms:
            if vm.key in missing:
                stuck.append(Stuck(vm, (*rejections(vm, ground), *left.reasons(vm, reachable(ground, vm)))))
        vms = [vm for vm in vms if vm.key not in missing]


def _fits_alone(ground: Ground, vm: Vm, left: Rest) -> bool:
    own = held(ground, vm)
    return any(left.takes(vm, own, host) for host in reachable(ground, vm))


@dataclass(frozen=True)
class _Draft:
    """A block before it is numbered."""

    vms: Sequence[Vm]
    hosts: Tuple[int, ...]
    kinds: Optional[Tuple[int, ...]]
    at: Optional[int] = None


def _leaving(ground: Ground, vms: Sequence[Vm]) -> Tuple[List[_Draft], List[Stuck]]:
    """Return the blocks of the VMs that go, and the VMs that cannot because those they are to be with cannot."""
    drafts: List[_Draft] = []
    stuck: List[Stuck] = []
    for company in companies(vms, ground.snapshot):
        # Where those that stay are apart already, nothing can keep them together.
        parts = [company.vms] if len(company.hosts) < 2 else [(vm,) for vm in company.vms]
        for part in parts:
            draft = _draft(ground, part, company.hosts if len(company.hosts) == 1 else frozenset())
            if draft.hosts:
                drafts.append(draft)
            else:
                stuck.extend(Stuck(vm, (_not_together(vm, company), *rejections(vm, ground))) for vm in part)
    return drafts, stuck


def _not_together(vm: Vm, company: Company) -> Reason:
    where = f" with those on {', '.join(sorted(company.hosts))}" if company.hosts else ""
    text = f"{vm.name} is kept together with the group {company.group}, and no host can take all of it{where}."
    return Reason("keep_together", text, facts={"group": company.group, "vms": [each.name for each in company.vms]})


def _draft(ground: Ground, vms: Sequence[Vm], only: FrozenSet[str]) -> _Draft:
    hosts = reachable(ground, vms[0])
    if len(vms) == 1 and not only:
        within = ground.question.within(vms[0]) is None and not ground.reach.is_single(vms[0])
        return _Draft(vms, hosts, ground.reach.kinds(vms[0]) if within else None)
    common = set(hosts).intersection(*(reachable(ground, vm) for vm in vms[1:]))
    shared = Counter(label for vm in vms for label in labels(vm)).most_common(1)[0][1] > 1
    allowed = () if shared else (host for host in sorted(common) if not only or ground.hosts[host].name in only)
    return _Draft(vms, tuple(allowed), None)


def _staying(ground: Ground, vms: Sequence[Vm]) -> Optional[_Draft]:
    """Return the block of VMs that may make room, if they can go anywhere."""
    draft = _draft(ground, vms, frozenset())
    at = ground.number[vms[0].host]
    return replace(draft, hosts=tuple(sorted({*draft.hosts, at})), at=at) if draft.hosts else None


def _problem(ground: Ground, drafts: Sequence[_Draft]) -> Problem:
    vms = [vm for draft in drafts for vm in draft.vms]
    total = [sum(known(each[kind]) or 0 for each in ground.capacity) for kind in range(2)]
    blocks: List[Block] = []
    twins: Dict[object, int] = {}
    entered = {host for draft in drafts if draft.at is None for host in draft.hosts}
    first = 0
    for draft in drafts:
        need: Vector = (0, 0)
        for vm in draft.vms:
            need = plus(need, demand(vm))
        holds = frozenset(each for vm in draft.vms for each in held(ground, vm))
        look = _look(ground, draft, need, holds, entered)
        blocks.append(
            Block(
                vms=tuple(range(first, first + len(draft.vms))),
                need=need,
                held=holds,
                hosts=draft.hosts,
                kinds=draft.kinds,
                size=max((need[kind] * 10**9 // total[kind] for kind in range(2) if total[kind] > 0), default=0),
                tied=any(vm.tied for vm in draft.vms),
                priority=max(vm.priority for vm in draft.vms),
                twin=twins.setdefault(len(blocks) if look is None else look, len(twins)),
                at=draft.at,
            )
        )
        first += len(draft.vms)
    gone: Set[str] = {vm.key for draft in drafts if draft.at is None for vm in draft.vms}
    return Problem(
        ground=ground,
        vms=tuple(vms),
        source=tuple(ground.number[vm.host] for vm in vms),
        demand=tuple(demand(vm) for vm in vms),
        held=tuple(held(ground, vm) for vm in vms),
        blocks=tuple(blocks),
        start=moments_without(ground, ()),
        after=moments_without(ground, [vm for vm in vms if vm.key in gone]),
    )


def _look(ground: Ground, draft: _Draft, need: Vector, holds: FrozenSet[Held], entered: Set[int]) -> Optional[object]:
    """Return what interchangeable blocks share, or ``None`` for one that has no like."""
    (vm, *more), source = draft.vms, ground.number[draft.vms[0].host]
    # What a tied VM leaves free is its own wherever somebody may come.
    if more or holds or vm.states or draft.at is not None or (vm.tied and source in entered):
        return None
    if not vm.tied:
        return need, source, draft.hosts, vm.priority
    guest = None if vm.guest is None else replace(vm.guest, name="", uuid="")
    pins = None if vm.is_placed else vm.own_pinning
    return need, source, draft.hosts, vm.priority, vm.policy, guest, pins, vm.home
