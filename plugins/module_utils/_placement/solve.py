# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Find a destination for all VMs of a problem together, and the order of their moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Mapping, Sequence

from .exact import FOUND, Search
from .greedy import Assignment, as_many_as_possible, preferred, tightest
from .order import Pins, Schedule, Steps, Transfer, schedule
from .problem import Problem


@dataclass(frozen=True)
class Solution:
    """``assignment`` maps VM to host indexes: of all VMs if ``search`` is ``found``, else of as many as possible.

    ``blocked_by_order`` says that a complete assignment exists, but no order of moves leads to it. ``entries`` are
    those of the tied VMs in the books of the problem.
    """

    assignment: Mapping[int, int]
    steps: Steps
    search: str
    nodes: int
    blocked_by_order: bool = False
    entries: Mapping[int, int] = field(default_factory=dict)


def solve(problem: Problem, node_limit: int) -> Solution:
    """Return a complete solution where one is found within ``node_limit`` nodes, else the best partial one.

    Fast ways first: the destinations people like best, then the tightest packing, then the exact search.
    """
    nodes = 0
    for way in (preferred, tightest):
        assignment = way(problem)
        if assignment is not None:
            ordered = _order(problem, assignment, node_limit)
            nodes += ordered.nodes
            if ordered.steps is not None:
                return Solution(assignment, ordered.steps, FOUND, nodes, entries=ordered.entries)
    return _exact(problem, node_limit, nodes)


def _exact(problem: Problem, node_limit: int, nodes: int) -> Solution:
    accepted: List[Schedule] = []

    def accept(assignment: Assignment) -> bool:
        ordered = _order(problem, assignment, max(0, search.limit - search.nodes))
        search.spend(ordered.nodes)
        if ordered.steps is not None:
            accepted.append(ordered)
        return ordered.steps is not None

    search = Search(problem, node_limit, accept)
    end = search.run()
    nodes += search.nodes
    if end == FOUND:
        steps = accepted[0].steps or ()
        return Solution(dict(search.assignment), steps, FOUND, nodes, entries=accepted[0].entries)
    some, some_steps, entries = as_many_as_possible(problem)
    if len(some) == len(problem.vms):
        # Tied VMs that came in another order left better gaps.
        end = FOUND
    return Solution(some, some_steps, end, nodes, search.complete > 0, entries)


def _order(problem: Problem, assignment: Mapping[int, int], limit: int) -> Schedule:
    pins = Pins(problem.books, tuple(host.name for host in problem.hosts), problem.start)
    return schedule(transfers(problem, assignment), problem.free, limit, pins if any(problem.tied) else None)


def transfers(problem: Problem, assignment: Mapping[int, int]) -> Sequence[Transfer]:
    """Return the moves of an assignment as numbers."""
    moves: List[Transfer] = []
    for vm, host in sorted(assignment.items()):
        tied = problem.vms[vm] if problem.tied[vm] else None
        moves.append(Transfer(vm, problem.source[vm], host, problem.demand[vm], tied))
    return tuple(moves)
