# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The waves of one pool: which hosts are down together, and where their VMs are meanwhile."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Optional, Sequence, Set, Tuple, Union

from .answer import Shutdown, Unplaced
from .build import build
from .cell_warnings import of_cells
from .exact import EXHAUSTED, FOUND
from .model import Home, Snapshot, Vm
from .moves import MoveSteps, after, duration, moves_of
from .pinned import shutdowns
from .question import Question, drain_of
from .request import Request
from .shortage import shortage
from .solve import Solution, solve
from .unplaced import of_problem
from .wave_bounds import Pool, load_share, wave_bound

# The effort of a search for a wave that is a proposal only: where it fails, one with fewer hosts is tried.
TRIAL = 2000

# Up to how many hosts of a pool several rollouts are compared.
MANY_HOSTS = 500


@dataclass(frozen=True)
class Part:
    """One wave of one pool. ``seconds`` is for all moves, ``pace`` and ``refill_pace`` for each step."""

    hosts: Tuple[str, ...]
    steps: MoveSteps
    refill_steps: MoveSteps
    seconds: float
    pace: Tuple[float, ...]
    refill_pace: Tuple[float, ...] = ()
    shutdowns: Tuple[Shutdown, ...] = ()


@dataclass(frozen=True)
class Failure:
    """Why a host cannot be emptied even alone."""

    unplaced: Tuple[Unplaced, ...]
    proven: bool


@dataclass
class Report:
    """What was found on the way: ``failures`` by host, and why a wave could not have more hosts."""

    failures: Dict[str, Failure] = field(default_factory=dict)
    left_behind: List[Unplaced] = field(default_factory=list)
    warnings: List[Dict[str, Any]] = field(default_factory=list)
    obstacle: str = ""
    nodes: int = 0


def best_rollout(request: Request, pool: Pool, snapshot: Snapshot) -> PoolRollout:
    """Return the waves of a pool, planned.

    Where VMs stay away, those of the first wave move again, so that fewer hosts in it are fewer moves; but later waves
    are larger then, and may not be possible. Some sizes are tried.
    """
    found: Optional[PoolRollout] = None
    for first in _first_sizes(request, pool):
        planner = PoolRollout(request, pool, snapshot, first)
        planner.run()
        found = planner if found is None or planner.cost() < found.cost() else found
    return found or PoolRollout(request, pool, snapshot)


def _first_sizes(request: Request, pool: Pool) -> List[int]:
    """Return sizes of a first wave: all waves alike, and down to one that the second wave just fills."""
    bound, count = wave_bound(pool, request.options), len(pool.serviced)
    even = -(-count // bound.waves) if bound.waves else 0
    if bound.waves < 2 or request.refill == "home" or count > MANY_HOSTS:
        return [even]
    later = min(bound.at_once, int(count / (bound.waves - 1 + load_share(pool, request.options))) + 1)
    lean = max(1, count - (bound.waves - 1) * later)
    return sorted({even, (even + lean) // 2, lean} - {0}, reverse=True)


class PoolRollout:
    """Plans wave after wave. ``snapshot`` is the fleet after those that are planned.

    ``first`` is how many hosts the first wave has; the others share what is left.
    """

    def __init__(self, request: Request, pool: Pool, snapshot: Snapshot, first: int = 0) -> None:
        self.first = first
        self.parts: List[Part] = []
        self.request = request
        self.pool = pool
        self.snapshot = snapshot
        self.report = Report()
        self.ready: Set[str] = set()
        # Hosts with a VM that had no place even alone; they take the places of others in a wave for nothing.
        self.doubtful: Set[str] = set()
        self.waiting = [host.name for host in pool.serviced]
        self.asleep = {vm.key for vm in pool.asleep}

    def run(self) -> List[Part]:
        """Return the waves; hosts that are in none are among the failures."""
        parts = self.parts
        postponed: List[str] = []
        while self.waiting:
            part = self._wave(self._fewest_vms()[: self._size()])
            if isinstance(part, Part):
                parts.append(part)
                self.waiting = [host for host in self.waiting if host not in part.hosts] + postponed
                postponed = []
            else:
                # What other hosts have to offer after their service may help.
                postponed.append(part)
                self.waiting.remove(part)
        return parts

    def cost(self) -> Tuple[int, int, int, int]:
        """Return what makes one rollout worse than another, the worst first."""
        moves = sum(len(step) for part in self.parts for step in (*part.steps, *part.refill_steps))
        return len(self.report.failures), len(self.report.left_behind), len(self.parts), moves

    def _size(self) -> int:
        """Return how many hosts are to be down: as few as the least number of waves lets, and not many at first."""
        if self.first and not self.parts:
            return self.first
        bound = wave_bound(self._members(), self.request.options)
        # A host that can never be empty says nothing about the others.
        return max(1, -(-len(self.waiting) // bound.waves) if bound.waves else bound.at_once)

    def _members(self) -> Pool:
        """Return the pool as it is now, with the hosts that still wait."""
        names = {host.name for host in self.pool.hosts}
        hosts = [host for host in self.snapshot.hosts if host.name in names]
        there = [vm for vm in (*self.snapshot.vms, *self.snapshot.leftovers) if vm.host in names and vm.active]
        # Those that are shut down never move, so they stay the same.
        vms = [vm for vm in there if vm.key not in self.asleep]
        return replace(self.pool, hosts=hosts, vms=vms).only(self.waiting)

    def _fewest_vms(self) -> List[str]:
        """Return the hosts that wait, those with few VMs first."""
        counts = Counter(vm.host for vm in self.snapshot.vms if vm.active and vm.key not in self.asleep)
        return sorted(self.waiting, key=lambda host: (host in self.doubtful, counts[host], host))

    def _wave(self, hosts: Sequence[str]) -> Union[Part, str]:
        """Return a wave of these hosts, or of fewer, or the one of them that cannot be emptied even alone."""
        while True:
            alone = len(hosts) == 1
            question = drain_of(frozenset(hosts), self.snapshot, self.request.options)
            problem, stuck = build(question, self.snapshot, self._tiers(hosts))
            solution = solve(problem, self.request.options.node_limit if alone else TRIAL, thorough=alone)
            self.report.nodes += solution.nodes
            if solution.search == FOUND and not stuck:
                for host in hosts:
                    self.report.failures.pop(host, None)
                return self._part(tuple(sorted(hosts)), solution)
            self.doubtful.update(item.vm.host for item in stuck)
            lacking = shortage(problem)
            unplaced = of_problem(problem, stuck, solution, lacking)
            if alone:
                proven = bool(stuck) or solution.search == EXHAUSTED or lacking.proof is not None
                self.report.failures[hosts[0]] = Failure(unplaced, proven)
                return hosts[0]
            hosts = self._without_some(hosts, unplaced)

    def _without_some(self, hosts: Sequence[str], unplaced: Sequence[Unplaced]) -> List[str]:
        """Return hosts without those that have VMs left, at most half of them; and note why."""
        first = unplaced[0]
        self.report.obstacle = f"{first.vm} of {first.host} finds no place while all hosts of the wave are down"
        left = Counter(item.host for item in unplaced)
        worst = sorted((host for host in hosts if left[host]), key=lambda host: (-left[host], host))
        dropped = set(worst[: max(1, len(hosts) // 2)])
        return [host for host in hosts if host not in dropped]

    def _tiers(self, hosts: Sequence[str]) -> List[int]:
        """Return how little each host is wanted as a destination: hosts that wait would have to be emptied again."""
        if self.request.refill == "home":
            return []
        ready = 0 if self.request.refill == "leapfrog" else 1
        later = [host for host in self._fewest_vms() if host not in hosts]
        # What comes to a host that is emptied last has the best chance of room on hosts that are ready by then.
        soon = set(later[: len(hosts)])

        def tier(name: str) -> int:
            if name in self.waiting:
                return 3 if name in soon else 2
            return ready if name in self.ready else 1

        return [tier(host.name) for host in self.snapshot.hosts]

    def _part(self, hosts: Tuple[str, ...], solution: Solution) -> Part:
        before = self.snapshot
        self.ready.update(hosts)
        self.report.warnings.extend(of_cells(solution))
        away = _in_service(after(solution, before), hosts)
        seconds, asleep = duration(solution), shutdowns(before, hosts, self.request.options)
        if self.request.refill != "home":
            self.snapshot = away
            return Part(hosts, moves_of(solution), (), seconds, _pace(solution), shutdowns=asleep)
        back, missing = self._back(before, away)
        self.report.nodes += back.nodes
        self.report.warnings.extend(of_cells(back))
        self.report.left_behind.extend(missing)
        self.snapshot = after(back, away) if missing else _in_service(before, hosts)
        seconds += duration(back)
        steps, refill_steps = moves_of(solution), _called_back(moves_of(back))
        return Part(hosts, steps, refill_steps, seconds, _pace(solution), _pace(back), asleep)

    def _back(self, before: Snapshot, away: Snapshot) -> Tuple[Solution, Tuple[Unplaced, ...]]:
        """Return how the VMs come back to where they were."""
        homes = {vm.key: vm.host for vm in before.vms}
        own = {host.name: host.uuid for host in before.hosts}
        pins = {vm.key: vm.own_pinning for vm in before.vms if vm.tied}

        def homesick(vm: Vm) -> Vm:
            home = homes[vm.key]
            if home == vm.host:
                return vm
            return replace(vm, home=Home(own[home], home, pins.get(vm.key)))

        there = replace(away, vms=tuple(homesick(vm) for vm in away.vms))
        vms = tuple(vm for vm in there.vms if homes[vm.key] != vm.host)
        parks = self.request.options.max_extra_moves != 0
        question = Question(vms, lambda vm: frozenset({homes[vm.key]}), self.request.options, parks=parks)
        problem, stuck = build(question, there)
        solution = solve(problem, self.request.options.node_limit)
        lacking = shortage(problem) if solution.search != FOUND else None
        return solution, of_problem(problem, stuck, solution, lacking)


def _in_service(snapshot: Snapshot, hosts: Tuple[str, ...]) -> Snapshot:
    """Return the fleet with hosts that take VMs again."""
    return replace(
        snapshot,
        hosts=tuple(replace(host, maintenance=False) if host.name in hosts else host for host in snapshot.hosts),
    )


def _pace(solution: Solution) -> Tuple[float, ...]:
    return tuple(duration(replace(solution, steps=(step,))) for step in solution.steps)


def _called_back(steps: MoveSteps) -> MoveSteps:
    return tuple(
        tuple(replace(move, purpose="back") if move.purpose == "asked" else move for move in step) for step in steps
    )
