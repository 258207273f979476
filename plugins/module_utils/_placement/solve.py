# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Find a destination for all blocks of a problem together, and the order of their moves.

Fast ways first: the destinations people like best, the tightest packing, ejection among the VMs of the plan, the exact
search. Where all of them fail, other VMs make room and VMs wait on third hosts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Iterator, List, Mapping, Optional, Tuple, Union

from . import exact_cp
from .build import widened
from .direct import better_tiers, by_size, pack, preferred, tightest
from .exact import EXHAUSTED, FOUND, LIMIT, Search
from .explore import explore, is_small
from .make_room import Ejector
from .order import Parking, Schedule, Steps, in_steps, schedule
from .partial import as_many_as_possible
from .problem import Problem
from .room import Room
from .traffic import Traffic, Transfer
from .transfers import pins_of, transfers

# Blocks times hosts up to which the exact search is of use; beyond that one node of it costs too much.
EXACT_LIMIT = 20_000

# How often VMs that make room are looked for in another order, and how many blocks are tried by that in all.
RESTARTS = 12
MANY = 20_000

# How much work the search for an order may be, in moves looked at.
ORDER_WORK = 2_000_000

Assignment = Mapping[int, int]


@dataclass(frozen=True)
class Solution:
    """``steps`` move all VMs of the question if ``search`` is ``found``, else as many as possible.

    VMs are numbers of ``problem``, which may be wider than the one that was asked. ``missing`` are the VMs without a
    destination. ``blocked_by_order`` says that a complete assignment exists, but that no order of moves to it was
    found. ``entries`` are those of the tied VMs in the books of the problem.
    """

    problem: Problem
    steps: Steps
    search: str
    nodes: int
    entries: Mapping[int, int]
    missing: Tuple[int, ...] = ()
    blocked_by_order: bool = False


# A solution, or how a search ended without one.
Result = Union[Solution, str]


def solve(problem: Problem, effort: int, thorough: bool = True) -> Solution:
    """Return a complete solution where one is found within ``effort`` nodes for each search, else a partial one.

    What is not ``thorough`` leaves out the exact solver, whose effort is not counted in nodes.
    """
    return _Solver(problem, effort, thorough).run()


class _Solver:
    def __init__(self, problem: Problem, effort: int, thorough: bool) -> None:
        self.thorough = thorough
        self.problem = problem
        self.effort = effort
        self.nodes = 0
        self.assigned: List[Assignment] = []

    def run(self) -> Solution:
        found = self._directly() or self._exactly()
        if isinstance(found, Solution):
            return found
        proven = found == EXHAUSTED and not self.assigned
        more = self._with_detours(self.problem) or self._wider(proven)
        if isinstance(more, Solution):
            return more
        return self._partly(EXHAUSTED if more == EXHAUSTED else LIMIT)

    def _directly(self) -> Optional[Solution]:
        sparing = (self._sparing(better) for better in better_tiers(self.problem))
        return next((found for found in sparing if found), None) or self._packed(self.problem)

    def _packed(self, problem: Problem) -> Optional[Solution]:
        """Give all blocks the hosts they like best, or else pack them tightly."""
        room = preferred(problem)
        found = self._ordered(room) if room is not None else None
        if found is None:
            room, missing = self._tightly(problem)
            found = None if missing else self._ordered(room)
        return found

    def _tightly(self, problem: Problem) -> Tuple[Room, List[int]]:
        """Return who is where, and the blocks that found no room even where others of the plan made some."""
        room, missing = tightest(problem)
        ejector = Ejector(room, 0, self.effort)
        missing = [block for block in missing if not ejector.place(block)]
        self.nodes += self.effort - ejector.tries
        return room, missing

    def _sparing(self, better: Problem) -> Optional[Solution]:
        """Give as few blocks as possible hosts that are wanted least, for they would have to leave them again."""
        room = preferred(better)
        found = self._ordered(room) if room is not None else None
        if found is not None:
            return found
        packed, missing = self._tightly(better)
        room = Room(self.problem)
        for block, host in packed.moved().items():
            room.put(block, host)
        return None if pack(room, by_size(self.problem, missing)) else self._ordered(room)

    def _exactly(self) -> Result:
        """Return a solution, or how the search for one ended."""
        problem = self.problem
        if len(problem.blocks) * len(problem.hosts) > EXACT_LIMIT:
            return LIMIT
        accepted: List[Solution] = []

        def accept(assignment: Assignment) -> bool:
            found = self._order(problem, assignment, max(0, search.limit - search.nodes))
            search.spend(found.nodes)
            if found.steps is None:
                self.assigned.append(dict(assignment))
            else:
                accepted.append(self._solution(problem, found))
            return found.steps is not None

        search = Search(problem, self.effort, accept)
        end = search.run()
        self.nodes += search.nodes
        return replace(accepted[0], nodes=self.nodes) if end == FOUND else end

    def _with_detours(self, problem: Problem) -> Optional[Solution]:
        """Try the complete assignments that lack an order, with VMs that wait on third hosts."""
        for assignment in self.assigned[:20]:
            found = self._order(problem, assignment, 0, parks=True)
            if found.steps is not None:
                return self._solution(problem, found)
        return None

    def _wider(self, proven: bool) -> Result:
        """Let other VMs make room."""
        if not self.problem.ground.question.makes_room:
            return self._explored(self.problem, proven)
        wide = widened(self.problem)
        if len(wide.blocks) == len(self.problem.blocks):
            return self._explored(wide, proven)
        return self._ejected(wide) or self._solved(wide) or self._explored(wide, False)

    def _ejected(self, wide: Problem) -> Optional[Solution]:
        """Return the solution with the fewest moves of others that some orders of blocks lead to."""
        extra, best = wide.ground.question.options.max_extra_moves, None
        tries = self.effort
        for order in _orders(wide):
            room = Room(wide)
            missing = pack(room, order)
            ejector = Ejector(room, len(wide.vms) if extra is None else extra, tries)
            if all(ejector.place(block) for block in missing):
                _go_home(room)
                if best is None or len(room.moved()) < _moves(best):
                    best = self._ordered(room, parks=True) or best
            self.nodes += tries - ejector.tries
            tries = ejector.tries
            if tries <= 0:
                break
        return best

    def _solved(self, wide: Problem) -> Optional[Solution]:
        assignment = exact_cp.assign(wide) if self.thorough else None
        if assignment is None:
            return None
        found = self._order(wide, assignment, self.effort, parks=True)
        return None if found.steps is None else self._solution(wide, found)

    def _explored(self, problem: Problem, proven: bool) -> Result:
        if proven:
            return EXHAUSTED
        if not is_small(problem):
            return LIMIT
        pins = pins_of(problem)
        path = explore(problem, pins, self.effort)
        self.nodes += path.nodes
        if path.search != FOUND or path.traffic is None:
            return path.search
        steps = in_steps(path.moves, problem.ground.now())
        return self._solution(problem, Schedule(steps, entries=path.traffic.entries))

    def _partly(self, search: str) -> Solution:
        result, missing = as_many_as_possible(self.problem)
        if not missing:
            # Tied VMs that came in another order left better gaps.
            search = FOUND
        steps = result.steps or ()
        blocked = bool(self.assigned)
        return Solution(self.problem, steps, search, self.nodes, result.entries, missing, blocked)

    def _ordered(self, room: Room, parks: bool = False) -> Optional[Solution]:
        moved = room.moved()
        found = self._order(room.problem, moved, self.effort, parks)
        if found.steps is None:
            self.assigned.append(moved)
            return None
        return self._solution(room.problem, found)

    def _order(self, problem: Problem, assignment: Assignment, limit: int, parks: bool = False) -> Schedule:
        moves = transfers(problem, assignment)
        limit = min(limit, ORDER_WORK // (len(moves) * len(moves) + len(problem.hosts) + 1))
        allowed = parks and problem.ground.question.parks
        found = schedule(moves, problem.ground.now, limit, pins_of(problem), _parking(problem) if allowed else None)
        self.nodes += found.nodes
        most, extra = problem.ground.question.options.max_extra_moves, len(found.parked)
        extra += sum(len(problem.blocks[block].vms) for block in assignment if problem.blocks[block].at is not None)
        return found if most is None or extra <= most else replace(found, steps=None)

    def _solution(self, problem: Problem, found: Schedule) -> Solution:
        return Solution(problem, found.steps or (), FOUND, self.nodes, found.entries)


def _parking(problem: Problem) -> Parking:
    reach = problem.ground.reach

    def hosts(move: Transfer, traffic: Traffic) -> Iterator[int]:
        possible = reach.hosts(problem.vms[move.vm])
        fitting = [host for host in possible if traffic.has_room(replace(move, destination=host))]
        return iter(sorted(fitting, key=lambda host: (reach.tier[host], -traffic.floor.free[host][0], host)))

    return hosts


def _moves(solution: Solution) -> int:
    return sum(len(step) for step in solution.steps)


def _go_home(room: Room) -> None:
    """Let VMs that made room stay after all, where the room they made was not needed."""
    for block in sorted(room.moved()):
        own = room.problem.blocks[block].at
        if own is None:
            continue
        host = room.take_away(block)
        room.put(block, own if room.takes(block, own) else host)


def _orders(problem: Problem) -> Iterator[List[int]]:
    """Yield orders in which blocks are given places: the largest first, then others, always the same ones."""
    first = by_size(problem, problem.leaving)
    yield first
    shuffle = Random(len(first))
    for _restart in range(min(RESTARTS, MANY // len(problem.blocks))):
        # Nearly by size: large blocks that come late find no room at all.
        yield sorted(first, key=lambda block: -problem.blocks[block].size * shuffle.uniform(0.5, 1.0))
