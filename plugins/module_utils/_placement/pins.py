# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The pins of all moves of a plan: what the books say, and the CPUs that threads without pins share there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, FrozenSet, List, Optional, Tuple

from .._domain import AUTO, Following, IothreadPin, Pinning, VcpuPin, threads_on
from .._pinning import pins_all
from .._topology import format_cpuset, parse_cpuset
from .books import Moment
from .model import Host, Vm
from .seat import shared_cpus, wanted_pinning
from .solve import Solution
from .traffic import Transfer


@dataclass(frozen=True)
class Given:
    """What a VM gets at its destination: pins, the record of those that follow the host, and CPUs of its own."""

    pins: Pinning
    following: Optional[Following]
    exclusive: FrozenSet[int]

    def changes(self, vm: Vm) -> bool:
        """Whether this differs from what the VM has."""
        # The policy only says who chose the pins; libvirt gets the same XML either way.
        return any(
            replace(self.pins, policy=state.pinning.policy) != state.pinning or self.following != state.following
            for state in vm.states or (vm,)
        )


def given_pins(solution: Solution) -> Dict[Transfer, Given]:
    """Return what each VM gets with each of its moves."""
    problem, entries = solution.problem, solution.entries
    names, books = [host.name for host in problem.hosts], problem.books
    moments: List[Moment] = list(problem.start)
    arriving: Dict[int, FrozenSet[int]] = {}
    for move in (move for step in solution.steps for move in step if move.vm in entries):
        own = books.owned(names[move.destination], frozenset({entries[move.vm]}))
        arriving[move.destination] = arriving.get(move.destination, frozenset()) | own
    result: Dict[Transfer, Given] = {}
    for step in solution.steps:
        for move in step:
            if move.vm in entries:
                moments[move.destination] = books.enter(moments[move.destination], entries[move.vm])
        for move in step:
            host, entry = move.destination, entries.get(move.vm)
            own = frozenset() if entry is None else books.owned(names[host], frozenset({entry}))
            pins = None if entry is None else books.pins(entry)
            owned = books.owned(names[host], moments[host])
            foreign = (owned - own, arriving.get(host, frozenset()) - own)
            result[move] = _given(problem.vms[move.vm], problem.hosts[host], pins, own, foreign)
        for move in step:
            moments[move.source] = books.without(moments[move.source], [problem.vms[move.vm]])
    return result


def _given(
    vm: Vm, host: Host, pins: Optional[Pinning], own: FrozenSet[int], foreign: Tuple[FrozenSet[int], FrozenSet[int]]
) -> Given:
    """``foreign`` are the CPUs that others own when the VM comes, and those of all that the plan sends there."""
    now, later = foreign
    # Whatever comes later finds its CPUs free, unless that left none to share.
    away = now | later if shared_cpus(host, own | now | later) else now
    shared = shared_cpus(host, own | away)
    if vm.is_placed and pins is not None:
        pins = _keeping_off(pins, away, shared)
        limit = vm.following.limit if vm.following is not None else None
        # What the user once allowed the VM is not lost while a policy chooses its pins.
        return Given(pins, Following(pins.cpuset, limit) if limit and pins.cpuset else None, own)
    return Given(*_floating(vm, host, wanted_pinning(vm, host) if pins is None else pins, shared), own)


def _keeping_off(pins: Pinning, away: FrozenSet[int], shared: FrozenSet[int]) -> Pinning:
    """Return the pins that a policy made without CPUs of others; what has none left goes to those that are shared."""

    def off(text: str) -> str:
        return text if text == AUTO else format_cpuset(parse_cpuset(text) - away or shared) or text

    return replace(
        pins,
        vcpus=tuple(VcpuPin(pin.vcpu, off(pin.cpus)) for pin in pins.vcpus),
        iothreads=tuple(IothreadPin(pin.iothread, off(pin.cpus)) for pin in pins.iothreads),
        emulator=off(pins.emulator) if pins.emulator else None,
        cpuset=off(pins.cpuset) if pins.cpuset else None,
    )


def _floating(vm: Vm, host: Host, pins: Pinning, shared: FrozenSet[int]) -> Tuple[Pinning, Optional[Following]]:
    """Return the pins with a ``cpuset`` for threads that have none of their own, and the record of it if it is ours.

    The user's own set is narrowed to what is shared; if nothing of it is, it means nothing there.
    """
    if pins.cpuset == AUTO or host.cpus is None:
        return pins, None
    limit = pins.cpuset
    wanted = parse_cpuset(limit) & host.cpus if limit else host.cpus
    # Without a description of its threads, pins of vCPUs are taken for pins of all.
    all_pinned = bool(pins.vcpus) if vm.guest is None else pins_all(pins, vm.guest.vcpus, vm.guest.iothreads)
    if shared >= host.cpus or all_pinned:
        return replace(pins, cpuset=format_cpuset(wanted) or None if limit else None), None
    cpuset = format_cpuset(wanted & shared or shared)
    following = None if cpuset == limit else Following(cpuset, limit, threads_on(pins, cpuset))
    return replace(pins, cpuset=cpuset), following
