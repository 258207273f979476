# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Benchmark of the planner: ``python -m tests.bench``.

Compares it in the same run with the greedy first-fit of drain scripts on random fleets: how often each finds a plan
at growing fill, and how long it takes. Prints tables and asserts nothing, for times belong to a machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.bench.first_fit import first_fit
from tests.bench.fleets import fleet, request
from tests.tools.sync import BUILD, sync

FILLS = (0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
SIZES = (10, 30, 100, 300, 500)


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work(*arguments)
    return result, time.perf_counter() - start


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="fleets per row of the table of success (default 20)")
    parser.add_argument("--largest", type=int, default=500, help="largest number of hosts (default 500)")
    options = parser.parse_args()
    sync()
    sys.path.insert(0, str(BUILD))
    from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _placement  # noqa: PLC0415

    success(_placement, options.rounds)
    print()
    speed(_placement, options.largest)


def success(planner: Any, rounds: int) -> None:
    """Print how often each finds a plan that exists; ``proven`` counts fleets that have none."""
    rows = []
    for fill in FILLS:
        ends = {"found": 0, "exhausted": 0, "limit": 0}
        greedy, times = 0, []
        for seed in range(rounds):
            snapshot, asked = fleet(10, 2, fill, seed), request(2)
            answer, seconds = timed(planner.plan, asked, snapshot)
            ends[answer["search"]] += 1
            greedy += first_fit(snapshot, asked) is not None
            times.append(seconds)
        rows.append(
            {
                "fill": f"{fill:.0%}",
                "planner": ends["found"],
                "first_fit": greedy,
                "proven_impossible": ends["exhausted"],
                "gave_up": ends["limit"],
                "median_ms": round(statistics.median(times) * 1000, 1),
                "worst_ms": round(max(times) * 1000, 1),
            }
        )
    print(f"Plans found for {rounds} drains of 2 of 10 hosts, by fill of the other 8 afterwards")
    print("\n".join(planner.table_lines(rows, list(rows[0]))))


def speed(planner: Any, largest: int) -> None:
    """Print the time for a drain of a tenth of the hosts, and its ratio to first-fit."""
    rows = []
    for hosts in [size for size in SIZES if size <= largest]:
        drained = max(1, hosts // 10)
        snapshot, asked = fleet(hosts, drained, 0.85, 1), request(drained)
        answer, seconds = timed(planner.plan, asked, snapshot)
        chosen, peer = timed(first_fit, snapshot, asked)
        rows.append(
            {
                "hosts": hosts,
                "vms": len(snapshot["vms"]),
                "moves": answer["bounds"]["moves"],
                "planner": answer["search"],
                "planner_ms": round(seconds * 1000, 1),
                "first_fit": "found" if chosen is not None else "none",
                "first_fit_ms": round(peer * 1000, 1),
                "ratio": round(seconds / peer, 1),
            }
        )
    print("Time to plan the drain of a tenth of the hosts, the rest 85% full afterwards")
    print("\n".join(planner.table_lines(rows, list(rows[0]))))


if __name__ == "__main__":
    main()
