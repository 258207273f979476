# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Fast assignments that look at one VM after the other: first choice, and what remains when not all VMs fit."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Set, Tuple

from .problem import Problem
from .resources import Vector, fits, minus, plus
from .weights import Choice, rank

Assignment = Dict[int, int]


def by_size(problem: Problem) -> List[int]:
    """Return the VMs, the largest first; those with fewer destinations first among equals."""
    return sorted(range(len(problem.vms)), key=lambda vm: (-problem.size[vm], len(problem.candidates[vm]), vm))


def preferred(problem: Problem) -> Optional[Assignment]:
    """Give every VM the destination that the weights like best, or ``None`` where one finds no room any more."""
    return _all(problem, _Preferred(problem))


def tightest(problem: Problem) -> Optional[Assignment]:
    """Best-fit decreasing: give every VM the destination where the least remains, so that large gaps stay whole."""
    return _all(problem, _Tightest(problem))


class _Chooser:
    """Room and names while VMs are given to hosts one by one."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
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
        if not possible:
            return None
        best = min(possible, key=lambda host: (self.key(vm, host, free[host]), host))
        self.arrivals[best] += 1
        self.names.add((best, name))
        return best

    def key(self, vm: int, host: int, free: Vector) -> Tuple[int, ...]:
        raise NotImplementedError


class _Preferred(_Chooser):
    def key(self, vm: int, host: int, free: Vector) -> Tuple[int, ...]:
        return rank(choice_of(self.problem, vm, host, free, self.arrivals[host]))


class _Tightest(_Chooser):
    def key(self, vm: int, host: int, free: Vector) -> Tuple[int, ...]:
        return minus(free, self.problem.demand[vm])


def choice_of(problem: Problem, vm: int, host: int, free: Vector, arrivals: int) -> Choice:
    """Return what the weights judge; ``free`` is what the host has before the VM arrives."""
    return Choice(
        vm=problem.vms[vm],
        host=problem.hosts[host],
        capacity_kib=problem.capacity[host][0],
        free_kib=free[0] - problem.demand[vm][0],
        arrivals=arrivals,
        pinned=problem.pinned[host],
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


def as_many_as_possible(problem: Problem) -> Tuple[Assignment, Tuple[Tuple[int, ...], ...]]:
    """Return an assignment of some VMs, with its steps, that is safe although the others stay where they are.

    Tries the largest and the smallest first and keeps what moves more VMs.
    """
    largest = by_size(problem)
    results = [_rounds(problem, order) for order in (largest, largest[::-1])]
    return max(results, key=lambda result: len(result[0]))


def _rounds(problem: Problem, order: Sequence[int]) -> Tuple[Assignment, Tuple[Tuple[int, ...], ...]]:
    free = list(problem.free)
    chooser = _Tightest(problem)
    assignment: Assignment = {}
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
            return assignment, tuple(steps)
        for vm in step:
            free[problem.source[vm]] = plus(free[problem.source[vm]], problem.demand[vm])
        steps.append(tuple(step))
