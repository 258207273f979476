# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Fast assignments that look at one VM after the other: first choice, and what remains when not all VMs fit."""

from __future__ import annotations

from itertools import islice
from typing import Dict, Iterator, List, Optional, Sequence, Set, Tuple

from .books import Moment
from .model import Vm
from .problem import Problem
from .resources import Vector, fits, minus, plus
from .weights import Choice, rank

Assignment = Dict[int, int]


def by_size(problem: Problem) -> List[int]:
    """Return the VMs, the largest first; those with fewer destinations first among equals."""
    return sorted(range(len(problem.vms)), key=lambda vm: (-problem.size[vm], len(problem.candidates[vm]), vm))


def preferred(problem: Problem) -> Optional[Assignment]:
    """Give every VM the destination that the weights like best, or ``None`` where one finds no room any more."""
    return _all(problem, _Preferred(problem, problem.after))


def tightest(problem: Problem) -> Optional[Assignment]:
    """Best-fit decreasing: give every VM the destination where the least remains, so that large gaps stay whole."""
    return _all(problem, _Tightest(problem, problem.after))


class _Chooser:
    """Room and names while VMs are given to hosts one by one.

    ``moments`` are what hosts start from, ``coming`` the tied VMs that were given to them since.
    """

    # Of how many hosts that can take a tied VM the pins there are compared: to find them is work.
    compared = 1

    def __init__(self, problem: Problem, moments: Sequence[Moment]) -> None:
        self.problem = problem
        self.moments = list(moments)
        self.coming: List[Tuple[Vm, ...]] = [() for _host in problem.hosts]
        self.arrivals = [0] * len(problem.hosts)
        self.names: Set[Tuple[int, str]] = set()

    def choose(self, vm: int, free: Sequence[Vector]) -> Optional[int]:
        """Return the best host with room, or ``None``."""
        problem, name = self.problem, self.problem.vms[vm].name
        possible = [
            host
            for host in problem.candidates[vm]
            if fits(problem.demand[vm], free[host]) and (host, name) not in self.names
        ]
        best = self._best(vm, possible, free)
        if best is None:
            return None
        if problem.tied[vm]:
            self.coming[best] = (*self.coming[best], problem.vms[vm])
        self.arrivals[best] += 1
        self.names.add((best, name))
        return best

    def _best(self, vm: int, possible: Sequence[int], free: Sequence[Vector]) -> Optional[int]:
        def key(host: int) -> Tuple[Tuple[int, ...], int]:
            return self.key(vm, host, free[host]), host

        if not self.problem.tied[vm]:
            return min(possible, key=key, default=None)
        taking = islice(self._taking(vm, sorted(possible, key=key)), self.compared)
        found = [(self.key(vm, host, free[host], layout), host) for host, layout in taking]
        return min(found)[1] if found else None

    def _taking(self, vm: int, hosts: Sequence[int]) -> Iterator[Tuple[int, Tuple[int, int]]]:
        """Yield the hosts that can take a VM beside those it got before, with its layout there."""
        books, tied = self.problem.books, self.problem.vms[vm]
        for host in hosts:
            name = self.problem.hosts[host].name
            moment = books.together(name, self.moments[host], (*self.coming[host], tied))
            if moment is not None:
                yield host, books.layout(name, books.find(moment, tied))

    def settle(self) -> None:
        """Let everything that is coming be there."""
        for host, vms in enumerate(self.coming):
            moment = self.problem.books.together(self.problem.hosts[host].name, self.moments[host], vms)
            self.moments[host] = self.moments[host] if moment is None else moment
            self.coming[host] = ()

    def key(self, vm: int, host: int, free: Vector, layout: Tuple[int, int] = (0, 0)) -> Tuple[int, ...]:
        raise NotImplementedError


class _Preferred(_Chooser):
    compared = 16

    def key(self, vm: int, host: int, free: Vector, layout: Tuple[int, int] = (0, 0)) -> Tuple[int, ...]:
        return rank(choice_of(self.problem, vm, host, free, self.arrivals[host], layout))


class _Tightest(_Chooser):
    def key(self, vm: int, host: int, free: Vector, layout: Tuple[int, int] = (0, 0)) -> Tuple[int, ...]:
        return minus(free, self.problem.demand[vm])


def choice_of(
    problem: Problem, vm: int, host: int, free: Vector, arrivals: int, layout: Tuple[int, int] = (0, 0)
) -> Choice:
    """Return what the weights judge; ``free`` is what the host has before the VM arrives, ``layout`` is the books'."""
    return Choice(
        vm=problem.vms[vm],
        host=problem.hosts[host],
        capacity_kib=problem.capacity[host][0],
        free_kib=free[0] - problem.demand[vm][0],
        arrivals=arrivals,
        pinned=problem.pinned[host],
        cells=layout[0],
        broken=layout[1],
    )


def _all(problem: Problem, chooser: _Chooser) -> Optional[Assignment]:
    free = problem.free_after()
    assignment: Assignment = {}
    for vm in by_size(problem):
        host = chooser.choose(vm, free)
        if host is None:
            return None
        free[host] = minus(free[host], problem.demand[vm])
        assignment[vm] = host
    return assignment


def as_many_as_possible(problem: Problem) -> Tuple[Assignment, Tuple[Tuple[int, ...], ...], Dict[int, int]]:
    """Return an assignment of some VMs, with its steps and entries, that is safe although the others stay.

    Tries the largest and the smallest first and keeps what moves more VMs.
    """
    largest = by_size(problem)
    results = [_rounds(problem, order) for order in (largest, largest[::-1])]
    return max(results, key=lambda result: len(result[0]))


def _rounds(problem: Problem, order: Sequence[int]) -> Tuple[Assignment, Tuple[Tuple[int, ...], ...], Dict[int, int]]:
    free, books = list(problem.free), problem.books
    chooser = _Tightest(problem, problem.start)
    assignment: Assignment = {}
    entries: Dict[int, int] = {}
    steps: List[Tuple[int, ...]] = []
    while True:
        step: List[int] = []
        for vm in order:
            host = None if vm in assignment else chooser.choose(vm, free)
            if host is not None:
                free[host] = minus(free[host], problem.demand[vm])
                assignment[vm] = host
                step.append(vm)
        if not step:
            return assignment, tuple(steps), entries
        chooser.settle()
        for vm in step:
            source, moved = problem.source[vm], problem.vms[vm]
            free[source] = plus(free[source], problem.demand[vm])
            if problem.tied[vm]:
                entries[vm] = books.find(chooser.moments[assignment[vm]], moved)
                chooser.moments[source] = books.without(chooser.moments[source], [moved])
        steps.append(tuple(step))
