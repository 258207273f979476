# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Benchmark of the planner: ``python -m tests.bench.planner``.

Compares it in the same run, on one core, with the one-by-one first-fit of drain scripts and with OR-Tools CP-SAT: how
often each finds a plan at growing fill, with how many moves beyond the least, and how long it takes. Prints tables and
asserts nothing, for times belong to a machine.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.bench.cp_sat import cp_sat
from tests.bench.first_fit import first_fit
from tests.bench.fleets import drain_request, fleet, host_name, mixed_fleet
from tests.tools.sync import BUILD, sync

FILLS = (0.85, 0.9, 0.95, 0.97)
SIZES = (50, 500, 5000)

Row = dict[str, Any]


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    gc.collect()
    start = time.perf_counter()
    result = work(*arguments)
    return result, time.perf_counter() - start


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.planner", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10, help="fleets for each level of fill (default 10)")
    parser.add_argument("--largest", type=int, default=5000, help="largest number of hosts (default 5000)")
    parser.add_argument("--cp-seconds", type=float, default=60, help="limit of CP-SAT for each fleet (default 60)")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sync()
    sys.path.insert(0, str(BUILD))
    from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _placement  # noqa: PLC0415
    from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement import exact_cp  # noqa: PLC0415
    from ansible_collections.virtops.kvm_fleet.plugins.plugin_utils._plan_text import table_lines  # noqa: PLC0415

    # The planner is measured as it is without the optional solver.
    exact_cp.HAS_ORTOOLS = False
    show(table_lines, "Drains of 3 of 40 hosts, by fill of the other 37 afterwards", success(_placement, options))
    show(table_lines, "Drains of a twentieth of the hosts, 75 % full", speed(_placement, options.largest))
    show(table_lines, "Rolling maintenance of all of 200 hosts, 72 % full", rollouts(_placement))
    show(table_lines, "Drains of 10 of 200 hosts, a third of the VMs with CPUs or cells of their own", tied(_placement))


def show(table_lines: Any, title: str, rows: Iterable[Row]) -> None:
    found: list[Row] = []
    for row in rows:
        # A long run shows how far it is.
        print(row, file=sys.stderr, flush=True)
        found.append(row)
    print(f"\n{title}")
    print("\n".join(table_lines(found, list(found[0]))), flush=True)


def success(planner: Any, options: Any) -> Iterable[Row]:
    """Yield how often each finds a plan, and what that costs."""
    for fill in FILLS:
        row: Row = {"fill": f"{fill:.0%}", "fleets": options.rounds, "first_fit": 0, "cp_sat": 0, "planner": 0}
        row |= {"missed": 0, "cp_extra_moves": 0, "extra_moves": 0, "direct_missed": 0}
        ours, theirs = [], []
        for seed in range(options.rounds):
            snapshot, request = fleet(40, 3, fill, seed), drain_request(3)
            answer, seconds = timed(planner.plan, request, snapshot)
            peer, peer_seconds = timed(cp_sat, snapshot, request, options.cp_seconds)
            row["first_fit"] += first_fit(snapshot, request) is not None
            row["cp_sat"] += peer.feasible
            row["planner"] += answer["feasible"]
            row["missed"] += peer.feasible and not answer["feasible"]
            row["cp_extra_moves"] += peer.extra or 0
            row["extra_moves"] += answer["totals"]["extra"]
            beyond = answer["feasible"] and answer["gap"]["moves"] > 0
            row["direct_missed"] += beyond and cp_sat(snapshot, request, options.cp_seconds, everyone=False).feasible
            ours.append(seconds)
            theirs.append(peer_seconds)
        row["median_ms"] = round(1000 * statistics.median(ours), 1)
        row["worst_ms"] = round(1000 * max(ours), 1)
        row["cp_sat_ratio"] = round(statistics.median(theirs) / statistics.median(ours))
        yield row


def speed(planner: Any, largest: int) -> Iterable[Row]:
    """Yield the time of the pure function on a parsed snapshot, and its ratio to first-fit."""
    for hosts in [size for size in SIZES if size <= largest]:
        drained = hosts // 20
        snapshot, asked = fleet(hosts, drained, 0.75, 1), drain_request(drained)
        parsed, loading = timed(planner.load, snapshot)
        request = planner.parse(asked, parsed)
        answer, seconds = timed(planner.answer, request, parsed)
        _chosen, peer = timed(first_fit, snapshot, asked)
        moves = answer.totals.moves
        yield {
            "hosts": hosts,
            "vms": len(snapshot["vms"]),
            "moves": moves,
            "bound": answer.bounds.moves,
            "load_s": round(loading, 2),
            "plan_s": round(seconds, 2),
            "us_per_move": round(1e6 * seconds / moves),
            "us_per_move_log": round(1e6 * seconds / moves / math.log2(len(snapshot["vms"]))),
            "first_fit_s": round(peer, 2),
            "ratio": round(seconds / peer, 1),
        }


def rollouts(planner: Any) -> Iterable[Row]:
    """Yield moves and waves beside their bounds."""
    snapshot = fleet(200, 0, 0.72, 1)
    for refill in ("leapfrog", "none", "home"):
        request = {"question": "rollout", "hosts": [host_name(number) for number in range(200)], "refill": refill}
        answer, seconds = timed(planner.plan, request, snapshot)
        totals, bounds = answer["totals"], answer["bounds"]
        yield {
            "refill": refill,
            "vms": len(snapshot["vms"]),
            "moves": totals["moves"],
            "bound": bounds["moves"],
            "over": f"{totals['moves'] / bounds['moves'] - 1:.1%}",
            "waves": totals["waves"],
            "waves_bound": bounds["waves"],
            "plan_s": round(seconds, 2),
        }


def tied(planner: Any) -> Iterable[Row]:
    """Yield the time where CPUs and cells have to be found too."""
    for seed in range(3):
        snapshot = mixed_fleet(200, 2000, seed)
        answer, seconds = timed(planner.plan, drain_request(10), snapshot)
        yield {
            "seed": seed,
            "vms": len(snapshot["vms"]),
            "tied": sum("policy" in vm for vm in snapshot["vms"]),
            "search": answer["search"],
            "moves": answer["totals"]["moves"],
            "bound": answer["bounds"]["moves"],
            "plan_s": round(seconds, 2),
        }


if __name__ == "__main__":
    main()
