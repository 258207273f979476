# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The peer that knows: OR-Tools CP-SAT with every VM free to move. It finds final states, and no order of moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ortools.sat.python import cp_model

GIB = 1048576


@dataclass(frozen=True)
class Found:
    """Whether there is a final state, whether that is certain, and with how few moves of VMs on other hosts."""

    feasible: bool
    proven: bool
    extra: int | None


def cp_sat(snapshot: dict[str, Any], request: dict[str, Any], limit_s: float, everyone: bool = True) -> Found:
    """Return the best final state that is found in time; without ``everyone`` only VMs on drained hosts may move."""
    drained = set(request["hosts"])
    room = {host["name"]: host["memory_kib"] // GIB for host in snapshot["hosts"] if host["name"] not in drained}
    model = cp_model.CpModel()
    loads: dict[str, list[Any]] = {name: [] for name in room}
    stays: list[Any] = []
    for vm in snapshot["vms"]:
        size = vm["memory_kib"] // GIB
        if vm["host"] in room and not everyone:
            room[vm["host"]] -= size
            continue
        chosen = {name: model.new_bool_var("") for name in room}
        model.add_exactly_one(chosen.values())
        for name, choice in chosen.items():
            loads[name].append(size * choice)
        if vm["host"] in room:
            stays.append(chosen[vm["host"]])
    for name, load in loads.items():
        model.add(sum(load) <= room[name])
    if stays:
        model.maximize(sum(stays))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = limit_s
    solver.parameters.num_workers = 1
    status = solver.solve(model)
    feasible = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    extra = len(stays) - sum(solver.value(stay) for stay in stays) if feasible else None
    return Found(feasible, status in (cp_model.OPTIMAL, cp_model.INFEASIBLE), extra)
