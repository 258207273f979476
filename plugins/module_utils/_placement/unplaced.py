# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Why VMs have no destination, host by host."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

from .answer import Shortage, Unplaced
from .build import Stuck, reachable, rejections
from .exact import EXHAUSTED
from .model import Vm
from .problem import Problem
from .reasons import Reason
from .rest import Rest
from .solve import Solution

NO_HOST = Reason("no_host", "the snapshot has no other host.")


def of_problem(
    problem: Problem, stuck: Sequence[Stuck], solution: Solution, lacking: Optional[Shortage]
) -> Tuple[Unplaced, ...]:
    """Return the VMs that cannot move even alone, and those that the best partial plan leaves."""
    found = [_unplaced(item.vm, item.reasons or (NO_HOST,)) for item in stuck]
    if solution.missing:
        rest, alone = _rest(solution), problem.ground.rest(problem.emptied(), problem.after)
        for number in solution.missing:
            vm, hosts = problem.vms[number], reachable(problem.ground, problem.vms[number])
            fits = any(alone.takes(vm, problem.held[number], host) for host in hosts)
            why = _why_not(vm, fits, solution, lacking)
            found.append(_unplaced(vm, (why, *rejections(vm, problem.ground), *rest.reasons(vm, hosts))))
    return tuple(sorted(found, key=lambda item: (item.vm, item.host)))


def _unplaced(vm: Vm, reasons: Sequence[Reason]) -> Unplaced:
    return Unplaced(vm.name, vm.uuid, vm.host, tuple(reasons))


def _rest(solution: Solution) -> Rest:
    """Return what the hosts have left after the moves."""
    problem = solution.problem
    floor, moments = problem.ground.now(), list(problem.start)
    for move in (move for step in solution.steps for move in step):
        floor.charge(move.demand, move.held, move.destination)
        floor.release(move.demand, move.held, move.source)
        if move.vm in solution.entries:
            entry = solution.entries[move.vm]
            moments[move.destination] = problem.books.enter(moments[move.destination], entry)
            moments[move.source] = problem.books.without(moments[move.source], [problem.vms[move.vm]])
    return problem.ground.rest(floor, moments)


def _why_not(vm: Vm, fits: bool, solution: Solution, lacking: Optional[Shortage]) -> Reason:
    """Return the reason beside those of single hosts; ``fits`` says whether the VM would fit alone."""
    if solution.blocked_by_order:
        text = (
            "all VMs of the plan would fit in the end, but each has to wait for room that another one holds."
            f" Free memory on a host, or move {vm.name} away by hand for the time of the exchange."
        )
        return Reason("order", text)
    short = "fits alone" if fits else "fits nowhere unless others make room"
    if solution.search != EXHAUSTED and (lacking is None or lacking.proof is None):
        text = (
            f"{vm.name} {short}, but no plan for all VMs was found in {solution.nodes} nodes, and none was ruled out."
            " Raise options.node_limit to search on."
        )
        return Reason("search_limit", text, facts={"nodes": solution.nodes})
    if not fits:
        return Reason("no_room", f"{vm.name} {short}, and these cannot make enough.")
    vms: List[str] = [] if lacking is None else list(lacking.vms)
    text = f"{vm.name} {short}, but not together with the other VMs of the plan."
    return Reason("together", text, facts={"vms": vms})
