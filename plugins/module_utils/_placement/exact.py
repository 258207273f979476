# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Exact search for a destination of every block that has to go: depth first, bounded, always in the same order.

The block with the fewest destinations left comes next. Branches are cut where a block has no destination left, where a
host cannot give its VMs their pins, or where the rest needs more than all usable hosts have. After a failed branch,
interchangeable blocks and hosts are not tried in the same role again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Set, Tuple

from .constraints import Label
from .problem import Problem
from .resources import Vector, fits, minus, plus

# The answer of a search: a result, or how it ended without one.
FOUND, EXHAUSTED, LIMIT = "found", "exhausted", "limit"

# What a host looks like to the rest of a search; hosts that look alike are interchangeable.
Look = Tuple[object, ...]

Assignment = Mapping[int, int]


@dataclass
class _Level:
    """One block on the way down, with the hosts still to try."""

    block: int
    hosts: List[int]
    placed: Optional[int] = None
    shut: List[int] = field(default_factory=list)
    tried: Set[Look] = field(default_factory=set)


class Search:
    """One search over a problem of blocks that all have to go. ``run`` may be called once.

    ``accept`` judges a complete assignment (is there an order of moves?) and may itself count nodes by ``spend``.
    """

    def __init__(self, problem: Problem, limit: int, accept: Callable[[Assignment], bool]) -> None:
        self.problem = problem
        self.limit = limit
        self.accept = accept
        self.nodes = 0
        self.complete = 0
        self.assignment: Dict[int, int] = {}
        floor = problem.emptied()
        self._free: List[Vector] = floor.free
        # Per host: the kinds of blocks not to be tried there, and the labels that blocks have brought there.
        self._shut: List[Set[int]] = [set() for _host in problem.hosts]
        self._labels: List[Set[Label]] = [set() for _host in problem.hosts]
        self._held = [frozenset(label for label, _key in block.held) for block in problem.blocks]
        self._open = set(range(len(problem.blocks)))
        self._candidates = [
            [host for host in block.hosts if floor.is_free(block.need, block.held, host)] for block in problem.blocks
        ]
        self._visitors: Dict[int, List[int]] = {}
        for number, hosts in enumerate(self._candidates):
            for host in hosts:
                self._visitors.setdefault(host, []).append(number)
        self._choices = [len(hosts) for hosts in self._candidates]
        self._usable = sorted(self._visitors)
        self._tied: List[Tuple[int, ...]] = [() for _host in problem.hosts]
        self._alike = self._static_looks()

    def _static_looks(self) -> Dict[int, Look]:
        """Hosts that VMs of the plan leave are looked at alone: the order of moves can tell them apart."""
        sources = set(self.problem.source)
        looks: Dict[int, Look] = {}
        for host, blocks in self._visitors.items():
            pins = self.problem.books.look(self.problem.hosts[host].name) if self._any_tied(blocks) else None
            twins = frozenset(self.problem.blocks[number].twin for number in blocks)
            looks[host] = (twins, host if host in sources else None, pins)
        return looks

    def _any_tied(self, blocks: Iterable[int]) -> bool:
        return any(self.problem.blocks[number].tied for number in blocks)

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
        twin = self.problem.blocks[level.block].twin
        for host in level.shut:
            self._shut[host].discard(twin)

    def _next(self) -> _Level:
        blocks = self.problem.blocks
        number = min(self._open, key=lambda each: (self._choices[each], -blocks[each].size, each))
        need = blocks[number].need
        hosts = [host for host in self._candidates[number] if fits(need, self._free[host])]
        hosts.sort(key=lambda host: (minus(self._free[host], need), host), reverse=True)
        return _Level(number, hosts)

    def _choose(self, level: _Level) -> Optional[int]:
        twin, labels = self.problem.blocks[level.block].twin, self._held[level.block]
        while level.hosts:
            host = level.hosts.pop()
            if twin in self._shut[host] or labels & self._labels[host]:
                continue
            # Whatever comes of this host, nothing of this kind needs to be tried on it again at this level.
            level.shut.append(host)
            look = (
                self._alike[host],
                self._free[host],
                frozenset(self._shut[host]),
                frozenset(self._labels[host]),
                tuple(sorted(self.problem.blocks[number].twin for number in self._tied[host])),
            )
            if look in level.tried:
                self._shut[host].add(twin)
                continue
            level.tried.add(look)
            level.placed = host
            return host
        return None

    def _place(self, level: _Level, host: int) -> bool:
        """Put the block on the host; ``False`` where the rest cannot follow (``_take_back`` still applies)."""
        number, blocks = level.block, self.problem.blocks
        before = self._free[host]
        self._free[host] = minus(before, blocks[number].need)
        self._open.discard(number)
        self._labels[host].update(self._held[number])
        self.assignment[number] = host
        alive = not blocks[number].tied or self._take_pins(number, host)
        for other in self._visitors[host]:
            need = blocks[other].need
            if other in self._open and fits(need, before) and not fits(need, self._free[host]):
                self._choices[other] -= 1
                alive = alive and self._choices[other] > 0
        return alive and self._enough()

    def _take_pins(self, number: int, host: int) -> bool:
        """Whether the host can give the VMs their pins beside the others that were put there."""
        problem = self.problem
        self._tied[host] = (*self._tied[host], number)
        vms = [vm for each in self._tied[host] for vm in problem.members(each) if vm.tied]
        return problem.books.together(problem.hosts[host].name, problem.after[host], vms) is not None

    def _take_back(self, level: _Level) -> None:
        host, number, blocks = level.placed, level.block, self.problem.blocks
        if host is None:
            return
        after = self._free[host]
        self._free[host] = plus(after, blocks[number].need)
        for other in self._visitors[host]:
            need = blocks[other].need
            if other in self._open and fits(need, self._free[host]) and not fits(need, after):
                self._choices[other] += 1
        self._open.add(number)
        self._labels[host] -= self._held[number]
        self._tied[host] = tuple(each for each in self._tied[host] if each != number)
        del self.assignment[number]
        level.placed = None
        self._shut[host].add(blocks[number].twin)

    def _enough(self) -> bool:
        """Whether the hosts have, in total, what the rest needs; a gap smaller than the smallest block is no room."""
        if not self._open:
            return True
        for kind in range(2):
            wanted = [self.problem.blocks[number].need[kind] for number in self._open]
            smallest = min(wanted)
            offered = sum(self._free[host][kind] for host in self._usable if self._free[host][kind] >= max(1, smallest))
            if sum(wanted) > offered:
                return False
        return True
