# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Try all sequences of single moves, for small problems: the shortest plan, or the proof that there is none.

An A* search over who is where. It knows detours and VMs that make room, so what it rules out is impossible: moves at
the same time need no less room than one after the other. Only tied VMs move once at most, and at once to where they
stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Dict, FrozenSet, Iterator, List, Optional, Sequence, Tuple

from .exact import EXHAUSTED, FOUND, LIMIT
from .problem import Problem
from .traffic import Pins, Traffic, Transfer
from .transfers import transfer

# Pairs of a VM and a host up to which a problem is small.
SMALL = 100

# States that are looked at, at most.
MOST_STATES = 5000


@dataclass(frozen=True)
class Path:
    """``moves`` one after the other if ``search`` is ``found``; ``entries`` are those of tied VMs in the books."""

    search: str
    nodes: int
    moves: Tuple[Transfer, ...] = ()
    traffic: Optional[Traffic] = None


def is_small(problem: Problem) -> bool:
    return len(problem.vms) * len(problem.hosts) <= SMALL


def explore(problem: Problem, pins: Optional[Pins], limit: int) -> Path:
    """Return the shortest sequence of moves that solves a problem."""
    return _Explorer(problem, pins, min(limit, MOST_STATES)).run()


class _Explorer:
    def __init__(self, problem: Problem, pins: Optional[Pins], limit: int) -> None:
        self.problem = problem
        self.pins = pins
        self.limit = limit
        question, reach = problem.ground.question, problem.ground.reach
        self.final: List[FrozenSet[int]] = [frozenset()] * len(problem.vms)
        for block in problem.blocks:
            for vm in block.vms:
                self.final[vm] = frozenset(block.hosts)
        self.steps: List[Tuple[int, ...]] = [
            tuple(sorted({*self.final[number], *(reach.hosts(vm) if question.parks and not vm.tied else ())}))
            for number, vm in enumerate(problem.vms)
        ]
        extra = question.options.max_extra_moves
        self.most = None if extra is None else sum(len(problem.blocks[each].vms) for each in problem.leaving) + extra

    def run(self) -> Path:
        start = self.problem.source
        heap: List[Tuple[int, int, Tuple[Transfer, ...]]] = [(self._left(start), 0, ())]
        best: Dict[Tuple[object, ...], int] = {}
        nodes = counter = 0
        while heap:
            _cost, _order, moves = heappop(heap)
            at, traffic = self._play(moves)
            if self._is_done(at):
                return Path(FOUND, nodes, moves, traffic)
            nodes += 1
            if nodes > self.limit:
                return Path(LIMIT, nodes)
            for move in self._next(at):
                moments = traffic.after(move)
                after = (*at[: move.vm], move.destination, *at[move.vm + 1 :])
                cost = len(moves) + 1 + self._left(after)
                state = (after, moments)
                known = best.get(state)
                if moments is None or (known is not None and known <= cost) or (self.most or cost) < cost:
                    continue
                best[state] = cost
                counter += 1
                heappush(heap, (cost, counter, (*moves, move)))
        return Path(EXHAUSTED, nodes)

    def _play(self, moves: Sequence[Transfer]) -> Tuple[Tuple[int, ...], Traffic]:
        traffic, at = Traffic(self.problem.ground.now(), self.pins), list(self.problem.source)
        for move in moves:
            traffic.start(move)
            traffic.end(move)
            at[move.vm] = move.destination
        return tuple(at), traffic

    def _next(self, at: Sequence[int]) -> Iterator[Transfer]:
        problem = self.problem
        for number, vm in enumerate(problem.vms):
            if vm.tied and at[number] != problem.source[number]:
                continue
            for host in self.steps[number]:
                if host != at[number]:
                    yield transfer(problem, number, at[number], host)

    def _left(self, at: Sequence[int]) -> int:
        """Return how many moves are missing at least."""
        return sum(at[vm] not in self.final[vm] for vm in range(len(at)))

    def _is_done(self, at: Sequence[int]) -> bool:
        return not self._left(at) and all(len({at[vm] for vm in block.vms}) == 1 for block in self.problem.blocks)
