# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Exact search for a destination of every VM: depth first, bounded, always in the same order.

The VM with the fewest destinations left comes next. Branches are cut where a VM has no destination left, where a host
cannot give its VMs their pins, or where the rest needs more than all usable hosts have. After a failed branch,
interchangeable VMs and hosts are not tried in the same role again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Dict, Iterable, List, Optional, Set, Tuple

from .greedy import Assignment
from .problem import Problem
from .resources import Vector, fits, minus, plus

# The answer of a search: a result, or how it ended without one.
FOUND, EXHAUSTED, LIMIT = "found", "exhausted", "limit"

# What a host looks like to the rest of a search; hosts that look alike are interchangeable.
Look = Tuple[object, ...]


@dataclass
class _Level:
    """One VM on the way down, with the hosts still to try."""

    vm: int
    hosts: List[int]
    placed: Optional[int] = None
    shut: List[int] = field(default_factory=list)
    tried: Set[Look] = field(default_factory=set)


class Search:
    """One search over a problem. ``run`` may be called once.

    ``accept`` judges a complete assignment (is there an order of moves?) and may itself count nodes by ``spend``.
    """

    def __init__(self, problem: Problem, limit: int, accept: Callable[[Assignment], bool]) -> None:
        self.problem = problem
        self.limit = limit
        self.accept = accept
        self.nodes = 0
        self.complete = 0
        self.assignment: Assignment = {}
        self._free: List[Vector] = problem.free_after()
        # Per host: the kinds of VMs not to be tried there, and those names on it that several VMs share.
        self._shut: List[Set[int]] = [set() for _host in problem.hosts]
        self._names: List[Set[str]] = [set() for _host in problem.hosts]
        self._repeated = _repeated([vm.name for vm in problem.vms])
        self._open = set(range(len(problem.vms)))
        self._visitors: Dict[int, List[int]] = {}
        for vm, hosts in enumerate(problem.candidates):
            for host in hosts:
                self._visitors.setdefault(host, []).append(vm)
        self._choices = [len(hosts) for hosts in problem.candidates]
        self._usable = sorted(self._visitors)
        self._tied: List[Tuple[int, ...]] = [() for _host in problem.hosts]
        self._alike = self._static_looks()

    def _static_looks(self) -> Dict[int, Look]:
        """Hosts that VMs of the plan leave are looked at alone: the order of moves can tell them apart."""
        sources = set(self.problem.source)
        looks: Dict[int, Look] = {}
        for host, vms in self._visitors.items():
            pins = self.problem.books.look(self.problem.hosts[host].name) if self._any_tied(vms) else None
            looks[host] = (frozenset(self.problem.kind[vm] for vm in vms), host if host in sources else None, pins)
        return looks

    def _any_tied(self, vms: Iterable[int]) -> bool:
        return any(self.problem.tied[vm] for vm in vms)

    def spend(self, nodes: int) -> int:
        """Count nodes and return how many are left."""
        self.nodes += nodes
        return max(0, self.limit - self.nodes)

    def run(self) -> str:
        """Search until an assignment is accepted, all are refuted, or the limit is reached."""
        if not self._open:
            return FOUND if self.accept(self.assignment) else EXHAUSTED
        stack = [self._next()] if self._enough() else []
        while stack:
            level = stack[-1]
            self._take_back(level)
            host = self._choose(level)
            if host is None:
                self._close(level)
                stack.pop()
            elif self.spend(1) == 0:
                return LIMIT
            elif not self._place(level, host):
                continue
            elif self._open:
                stack.append(self._next())
            elif self._accepted():
                return FOUND
        # ``accept`` may have run into the limit too, and then nothing is proven.
        return LIMIT if self.nodes >= self.limit else EXHAUSTED

    def _accepted(self) -> bool:
        self.complete += 1
        return self.accept(self.assignment)

    def _close(self, level: _Level) -> None:
        kind = self.problem.kind[level.vm]
        for host in level.shut:
            self._shut[host].discard(kind)

    def _next(self) -> _Level:
        problem = self.problem
        vm = min(self._open, key=lambda item: (self._choices[item], -problem.size[item], item))
        hosts = [host for host in problem.candidates[vm] if fits(problem.demand[vm], self._free[host])]
        hosts.sort(
            key=lambda host: (problem.losses[vm][host], minus(self._free[host], problem.demand[vm]), host), reverse=True
        )
        return _Level(vm, hosts)

    def _choose(self, level: _Level) -> Optional[int]:
        kind, name = self.problem.kind[level.vm], self.problem.vms[level.vm].name
        while level.hosts:
            host = level.hosts.pop()
            if kind in self._shut[host] or name in self._names[host]:
                continue
            # Whatever comes of this host, nothing of this kind needs to be tried on it again at this level.
            level.shut.append(host)
            look = (
                self._alike[host],
                self._free[host],
                frozenset(self._shut[host]),
                frozenset(self._names[host]),
                tuple(sorted(self.problem.kind[vm] for vm in self._tied[host])),
            )
            if look in level.tried:
                self._shut[host].add(kind)
                continue
            level.tried.add(look)
            level.placed = host
            return host
        return None

    def _place(self, level: _Level, host: int) -> bool:
        """Put the VM on the host; ``False`` where the rest cannot follow (``_take_back`` still applies)."""
        vm, problem = level.vm, self.problem
        before = self._free[host]
        self._free[host] = minus(before, problem.demand[vm])
        self._open.discard(vm)
        self._names[host].update(self._repeated & {problem.vms[vm].name})
        self.assignment[vm] = host
        alive = not problem.tied[vm] or self._take_pins(vm, host)
        for other in self._visitors[host]:
            if (
                other in self._open
                and fits(problem.demand[other], before)
                and not fits(problem.demand[other], self._free[host])
            ):
                self._choices[other] -= 1
                alive = alive and self._choices[other] > 0
        return alive and self._enough()

    def _take_pins(self, vm: int, host: int) -> bool:
        """Whether the host can give the VM its pins beside the others that were put there."""
        problem = self.problem
        self._tied[host] = (*self._tied[host], vm)
        vms = [problem.vms[each] for each in self._tied[host]]
        return problem.books.together(problem.hosts[host].name, problem.after[host], vms) is not None

    def _take_back(self, level: _Level) -> None:
        host, vm, problem = level.placed, level.vm, self.problem
        if host is None:
            return
        after = self._free[host]
        self._free[host] = plus(after, problem.demand[vm])
        for other in self._visitors[host]:
            if (
                other in self._open
                and fits(problem.demand[other], self._free[host])
                and not fits(problem.demand[other], after)
            ):
                self._choices[other] += 1
        self._open.add(vm)
        self._names[host].discard(problem.vms[vm].name)
        self._tied[host] = tuple(each for each in self._tied[host] if each != vm)
        del self.assignment[vm]
        level.placed = None
        self._shut[host].add(problem.kind[vm])

    def _enough(self) -> bool:
        """Whether the hosts have, in total, what the rest needs; a gap smaller than the smallest VM is no room."""
        if not self._open:
            return True
        for kind in range(len(self.problem.demand[0])):
            wanted = [self.problem.demand[vm][kind] for vm in self._open]
            smallest = min(wanted)
            offered = sum(self._free[host][kind] for host in self._usable if self._free[host][kind] >= max(1, smallest))
            if sum(wanted) > offered:
                return False
        return True


def _repeated(names: List[str]) -> Set[str]:
    return {name for name in names if names.count(name) > 1}
