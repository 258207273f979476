# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The exact solver, where OR-Tools is installed on the controller: it decides what the heuristics could not."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from .constraints import Label
from .problem import Problem
from .resources import known

HAS_ORTOOLS = True
try:
    from ortools.sat.python import cp_model
except ImportError:
    HAS_ORTOOLS = False

Chosen = Dict[Tuple[int, int], Any]

# Pairs of a block and a host up to which the model is built.
LARGEST = 50_000

# Work, not time, ends the search, so that the same question gets the same answer.
DETERMINISTIC_TIME = 30.0


def assign(problem: Problem) -> Optional[Dict[int, int]]:
    """Return destinations of all blocks that have to go, with as few others moved as possible, or ``None``.

    Asked only where no VM is tied: what CPUs and cells a VM finds depends on who came before.
    """
    pairs = sum(len(block.hosts) for block in problem.blocks)
    if not HAS_ORTOOLS or problem.tied or pairs > LARGEST:
        return None
    model, chosen = _model(problem)
    solver: Any = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = DETERMINISTIC_TIME
    if solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None
    found = {block: host for (block, host), choice in chosen.items() if solver.value(choice)}
    return {block: host for block, host in found.items() if host != problem.blocks[block].at}


def _model(problem: Problem) -> Tuple[Any, Chosen]:
    model: Any = cp_model.CpModel()
    chosen: Chosen = {}
    comers: Dict[int, List[int]] = {}
    floor = problem.emptied()
    for number, block in enumerate(problem.blocks):
        for host in block.hosts:
            chosen[number, host] = model.new_bool_var("")
            comers.setdefault(host, []).append(number)
        model.add_exactly_one(chosen[number, host] for host in block.hosts)
    for host, blocks in comers.items():
        for kind in range(2):
            if known(problem.ground.capacity[host][kind]) is not None:
                needs = {each: problem.blocks[each].need[kind] for each in blocks}
                there = sum(need for each, need in needs.items() if problem.blocks[each].at == host)
                # A host that has more than it should may keep that, but gets nothing.
                room = max(there, floor.free[host][kind] + there)
                model.add(sum(need * chosen[each, host] for each, need in needs.items()) <= room)
        _keep_labels_apart(problem, host, blocks, model, chosen)
    own = [(each, block.at, len(block.vms)) for each, block in enumerate(problem.blocks) if block.at is not None]
    model.maximize(sum(chosen[each, host] * vms for each, host, vms in own))
    return model, chosen


def _keep_labels_apart(problem: Problem, host: int, blocks: List[int], model: Any, chosen: Chosen) -> None:
    keys = {problem.vms[vm].key for number in blocks for vm in problem.blocks[number].vms}
    taken = {label for label, key in problem.ground.labels.get(host, ()) if key not in keys}
    wanted: Dict[Label, List[int]] = {}
    for number in blocks:
        for label, _key in problem.blocks[number].held:
            wanted.setdefault(label, []).append(number)
    for label, some in wanted.items():
        # Those that share a host already may stay there, but no other one comes to them.
        stay = [chosen[number, host] for number in some if problem.blocks[number].at == host]
        come = [chosen[number, host] for number in some if problem.blocks[number].at != host]
        if label in taken:
            model.add(sum(come) == 0)
        else:
            model.add_at_most_one(come)
            for each in stay:
                model.add_at_most_one([each, *come])
