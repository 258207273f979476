# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Find a destination for all VMs of a problem together, and the order of their moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Mapping, Sequence

from .exact import FOUND, Search
from .greedy import Assignment, as_many_as_possible, preferred, tightest
from .order import Schedule, Steps, Transfer, schedule
from .problem import Problem


@dataclass(frozen=True)
class Solution:
    """``assignment`` maps VM to host indexes: of all VMs if ``search`` is ``found``, else of as many as possible.

    ``blocked_by_order`` says that a complete assignment exists, but no order of moves leads to it.
    """

    assignment: Mapping[int, int]
    steps: Steps
    search: str
    nodes: int
    blocked_by_order: bool = False


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
                return Solution(assignment, ordered.steps, FOUND, nodes)
    return _exact(problem, node_limit, nodes)


def _exact(problem: Problem, node_limit: int, nodes: int) -> Solution:
    steps: List[Steps] = []

    def accept(assignment: Assignment) -> bool:
        ordered = _order(problem, assignment, max(0, search.limit - search.nodes))
        search.spend(ordered.nodes)
        if ordered.steps is not None:
            steps.append(ordered.steps)
        return ordered.steps is not None

    search = Search(problem, node_limit, accept)
    end = search.run()
    nodes += search.nodes
    if end == FOUND:
        return Solution(dict(search.assignment), steps[0], FOUND, nodes)
    some, some_steps = as_many_as_possible(problem)
    return Solution(some, some_steps, end, nodes, search.complete > 0)


def _order(problem: Problem, assignment: Mapping[int, int], limit: int) -> Schedule:
    return schedule(transfers(problem, assignment), problem.free, limit)


def transfers(problem: Problem, assignment: Mapping[int, int]) -> Sequence[Transfer]:
    """Return the moves of an assignment as numbers."""
    moves: List[Transfer] = []
    for vm, host in sorted(assignment.items()):
        moves.append(Transfer(vm, problem.source[vm], host, problem.demand[vm]))
    return tuple(moves)
