# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Rolling maintenance: waves of hosts that are emptied, serviced, and filled again.

Every pool has its own waves, so that trouble in one does not delay another; waves of one number go side by side.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest
from typing import Iterator, List, Mapping, Optional, Sequence, Tuple

from .answer import Answer, Move, Totals, Unplaced, Wave
from .estimate import Bounds
from .exact import EXHAUSTED, FOUND, LIMIT
from .model import Host, Snapshot
from .moves import MoveSteps
from .pinned import in_order
from .pool_rollout import Part, Report, best_rollout
from .request import Request
from .wave_bounds import Pool, moves_bound, pools, seconds_bound, wave_bound


def rollout(request: Request, snapshot: Snapshot) -> Answer:
    """Return the waves in which hosts are serviced, without what they mean for loads and for trust in the snapshot."""
    service_s, fleet = request.options.service_s, snapshot
    runs: List[_Run] = []
    for pool in pools(request.hosts, snapshot, request.options):
        planner = best_rollout(request, pool, fleet)
        runs.append(_Run(request, pool, planner.parts, planner.report))
        fleet = planner.snapshot
    merged = tuple(_side_by_side(parts, service_s) for parts in zip_longest(*(run.parts for run in runs)))
    everything = [move for wave in merged for move in wave.moves]
    asked = sum(vm.host in run.done for run in runs for vm in run.pool.vms)
    waves = max((run.bound.waves for run in runs), default=0)
    hosts = {host.name: host for host in snapshot.hosts}
    seconds = max((run.fewest_seconds(hosts) for run in runs), default=0.0) + waves * service_s
    unplaced = [item for run in runs for item in run.unplaced()]
    proven = all(run.is_proven() for run in runs)
    return Answer(
        question=request.question,
        waves=merged,
        unplaced=tuple(sorted(unplaced, key=lambda item: (item.vm, item.host))),
        bounds=Bounds(sum(run.fewest_moves() for run in runs), waves, round(seconds, 1)),
        totals=Totals(
            moves=len(everything),
            waves=len(merged),
            seconds=round(sum((wave.estimated_s for wave in merged), 0.0), 1),
            extra=len(everything) - asked - sum(move.purpose == "back" for move in everything),
        ),
        search=FOUND if not unplaced else EXHAUSTED if proven else LIMIT,
        search_nodes=sum(run.report.nodes for run in runs),
        waves_gap_reason="; ".join(text for run in runs for text in run.gap()) if len(merged) > waves else None,
        warnings=tuple(caution for run in runs for caution in run.report.warnings),
    )


class _Run:
    """What became of one pool. ``done`` are its hosts that are serviced; bounds are for these only."""

    def __init__(self, request: Request, pool: Pool, parts: List[Part], report: Report) -> None:
        self.pool, self.parts, self.report = pool, parts, report
        self.options = request.options
        self.done = {host for part in parts for host in part.hosts}
        self.comes_home = request.refill == "home" and not report.left_behind
        self.bound = wave_bound(pool.only(self.done), request.options)

    def unplaced(self) -> List[Unplaced]:
        failures = self.report.failures.values()
        return [*(item for failure in failures for item in failure.unplaced), *self.report.left_behind]

    def is_proven(self) -> bool:
        """Whether nobody could do better."""
        return not self.report.left_behind and all(failure.proven for failure in self.report.failures.values())

    def fewest_moves(self) -> int:
        pool = self.pool.only(self.done)
        return moves_bound(pool, self.bound, len(self.parts), self.comes_home, self.options)

    def fewest_seconds(self, hosts: Mapping[str, Host]) -> float:
        """Return the seconds that no plan undercuts which lets the same VMs make room for others."""
        if self.comes_home:
            # What comes back goes over the same link again.
            return 2 * seconds_bound(self.pool.only(self.done), self.bound.at_once, hosts)
        moves = (move for part in self.parts for step in part.steps for move in step)
        early = {(move.vm, move.uuid) for move in moves if move.purpose == "room"}
        # A VM that makes room is not sent in the wave of its host.
        pool = replace(self.pool, vms=[vm for vm in self.pool.vms if (vm.name, vm.uuid) not in early])
        return seconds_bound(pool.only(self.done), self.bound.at_once, hosts)

    def gap(self) -> Iterator[str]:
        if len(self.parts) > self.bound.waves:
            name = "the hosts" if self.pool.name is None else f"pool {self.pool.name}"
            why = self.report.obstacle or "the hosts that are left could be emptied only later"
            yield f"{name}: {len(self.parts)} waves, the bound by {self.bound.by} is {self.bound.waves}; {why}"


def _side_by_side(parts: Sequence[Optional[Part]], service_s: int) -> Wave:
    """Return waves of several pools as one; a pool may have no wave of this number."""
    there = [part for part in parts if part is not None]
    paces = ([part.pace for part in there], [part.refill_pace for part in there])
    # A step begins when that of every pool before it has ended.
    together = sum(max(step) for pace in paces for step in zip_longest(*pace, fillvalue=0.0))
    longest = max(part.seconds for part in there)
    return Wave(
        hosts=tuple(sorted(host for part in there for host in part.hosts)),
        steps=_zipped([part.steps for part in there]),
        estimated_s=round((max(longest, together) if len(there) > 1 else longest) + service_s, 1),
        refill_steps=_zipped([part.refill_steps for part in there]),
        shutdowns=in_order([item for part in there for item in part.shutdowns]),
    )


def _zipped(runs: Sequence[MoveSteps]) -> MoveSteps:
    steps: List[Tuple[Move, ...]] = []
    for together in zip_longest(*runs, fillvalue=()):
        steps.append(tuple(move for step in together for move in step))
    return tuple(steps)
