# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Answers of one wave: to drain hosts, to place VMs, to bring VMs home."""

from __future__ import annotations

from typing import Sequence, Tuple

from .answer import Answer, Totals, Wave
from .build import build
from .candidates import candidates
from .cell_warnings import of_cells
from .estimate import Bounds, transfer_bound
from .exact import EXHAUSTED, FOUND
from .model import Snapshot, Vm
from .moves import duration, moves_of
from .pinned import shutdowns
from .question import home_of, question_of
from .request import Request
from .shortage import shortage
from .solve import Solution, solve
from .unplaced import of_problem

# Up to how many destinations of a VM the bound of time looks at.
FEW = 16


def one_wave(request: Request, snapshot: Snapshot) -> Answer:
    """Return the answer, without what it means for loads and for the trust in the snapshot."""
    problem, stuck = build(question_of(request, snapshot), snapshot)
    solution = solve(problem, request.options.node_limit)
    lacking = None if solution.search == FOUND else shortage(problem)
    proven = bool(stuck) or (lacking is not None and lacking.proof is not None)
    unplaced = of_problem(problem, stuck, solution, lacking)
    without_place = [*(item.vm for item in stuck), *(problem.vms[vm] for vm in solution.missing)]
    waves = _waves(request, snapshot, solution, without_place)
    vms = [*(item.vm for item in stuck), *problem.vms]
    hosts = {host.name: host for host in snapshot.hosts}
    few = {
        problem.vms[vm].key: [problem.hosts[host] for host in block.hosts]
        for block in problem.blocks
        for vm in block.vms
        if len(block.hosts) <= FEW
    }
    moves = [move for wave in waves for move in wave.moves]
    return Answer(
        question=request.question,
        waves=waves,
        unplaced=unplaced,
        bounds=Bounds(len(vms), 1 if vms else 0, transfer_bound(vms, hosts, few)),
        totals=Totals(
            moves=len(moves),
            waves=1 if moves else 0,
            seconds=sum(wave.estimated_s for wave in waves),
            extra=sum(move.purpose != "asked" for move in moves),
        ),
        search=EXHAUSTED if proven else solution.search,
        search_nodes=solution.nodes,
        shortage=lacking,
        candidates=candidates(problem, stuck) if request.question == "place" else (),
        warnings=tuple(of_cells(solution)) if moves else (),
    )


def _waves(request: Request, snapshot: Snapshot, solution: Solution, without_place: Sequence[Vm]) -> Tuple[Wave, ...]:
    """Return one wave with all steps.

    A drain that cannot succeed touches nothing unless asked to; the VMs of the other questions do not depend on each
    other's success.
    """
    if request.question == "place":
        failed = {host.name for host in request.hosts}
    elif request.question == "drain":
        failed = {vm.host for vm in without_place}
    else:
        failed = {home_of(vm, request.hosts) for vm in without_place}
    if request.question == "drain" and failed and not request.options.best_effort:
        return ()
    ready = tuple(host.name for host in request.hosts if host.name not in failed)
    steps = moves_of(solution)
    # What is not going to be empty needs nothing shut down.
    asleep = shutdowns(snapshot, ready, request.options) if request.question == "drain" else ()
    return (Wave(ready, steps, duration(solution), shutdowns=asleep),) if ready or steps else ()
