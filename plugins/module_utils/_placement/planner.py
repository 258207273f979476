# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""From a request and a snapshot to an answer."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._topology import format_cpuset
from . import warnings
from .answer import Answer, Candidates, Move, Shortage, Unplaced, Wave
from .cell_warnings import of_cells
from .estimate import bounds, move_seconds
from .exact import EXHAUSTED, FOUND, LIMIT
from .greedy import choice_of
from .model import Host, Snapshot, Vm
from .pins import Given, given_pins
from .problem import Problem, Rest, Stuck, build, destinations, rejections, shortages
from .reasons import Reason
from .request import Request, parse
from .resources import Vector, capacity, demand, free_now, known, minus, plus
from .shortage import shortage
from .snapshot import load
from .solve import Solution, solve
from .weights import rank


def plan(request: Any, snapshot: Any, now_s: Optional[int] = None) -> Dict[str, Any]:
    """Return the answer (JSON) to a request (JSON) about a snapshot (JSON).

    ``now_s`` is the time in seconds since 1970 for the warning about old parts. Raises ``FleetError`` as ``load`` and
    ``parse`` do.
    """
    fleet = load(snapshot)
    return answer(parse(request, fleet), fleet, now_s).as_dict()


def answer(request: Request, snapshot: Snapshot, now_s: Optional[int] = None) -> Answer:
    """Return the answer to a request about a snapshot; the same input gives the same answer."""
    problem, stuck = build(request, snapshot)
    solution = solve(problem, request.options.node_limit)
    hosts = {host.name: host for host in snapshot.hosts}
    lacking = None if solution.search == FOUND else shortage(problem)
    unplaced = (*_unplaced_alone(stuck), *_unplaced_together(problem, solution, lacking, request, snapshot))
    moves = _moves(problem, solution)
    waves = _waves(request, problem, moves, unplaced)
    moved = [item for wave in waves for step in wave.steps for item in step]
    vms = [item.vm for item in stuck] + list(problem.vms)
    possible = {
        vm.key: [problem.hosts[host] for host in problem.candidates[index]] for index, vm in enumerate(problem.vms)
    }
    by_key = {(vm.uuid, vm.name, vm.host): vm for vm in problem.vms}
    pairs = [(by_key[move.uuid, move.vm, move.source], move) for move in moved]
    considered = _considered(vms, request, snapshot)
    return Answer(
        question=request.question,
        waves=waves,
        unplaced=tuple(sorted(unplaced, key=lambda item: (item.vm, item.host))),
        bounds=bounds(vms, hosts, possible, 1),
        search=EXHAUSTED if stuck else solution.search,
        search_nodes=solution.nodes,
        shortage=lacking,
        loads=_loads(pairs, snapshot),
        candidates=_candidates(problem, stuck, request, snapshot) if request.question == "place" else (),
        warnings=(
            *warnings.of_moves(pairs, hosts),
            *(of_cells(problem, solution) if moved else ()),
            *warnings.of_snapshot(snapshot, vms, considered, request.options.max_age_s, now_s),
        ),
    )


NO_HOST = Reason("no_host", "the snapshot has no other host.")


def _unplaced_alone(stuck: Sequence[Stuck]) -> List[Unplaced]:
    return [Unplaced(item.vm.name, item.vm.uuid, item.vm.host, item.reasons or (NO_HOST,)) for item in stuck]


def _unplaced_together(
    problem: Problem, solution: Solution, lacking: Optional[Shortage], request: Request, snapshot: Snapshot
) -> List[Unplaced]:
    """Return the VMs that the best partial plan leaves, with what the hosts have left after that plan."""
    rest = _rest(problem, solution)
    found: List[Unplaced] = []
    for index, vm in enumerate(problem.vms):
        if index not in solution.assignment:
            possible = [problem.hosts[host] for host in problem.candidates[index]]
            reasons = (*rejections(vm, request, snapshot, problem.context), *shortages(vm, possible, rest))
            found.append(Unplaced(vm.name, vm.uuid, vm.host, (_why_not_together(vm, solution, lacking), *reasons)))
    return found


def _rest(problem: Problem, solution: Solution) -> Rest:
    """Return what the hosts have left after the moves."""
    free = {host.name: problem.free[index] for index, host in enumerate(problem.hosts)}
    moments = {host.name: problem.start[index] for index, host in enumerate(problem.hosts)}
    for index, target in solution.assignment.items():
        vm, host = problem.vms[index], problem.hosts[target].name
        free[host] = minus(free[host], demand(vm))
        free[vm.host] = plus(free[vm.host], demand(vm))
        if index in solution.entries:
            moments[host] = problem.books.enter(moments[host], solution.entries[index])
            moments[vm.host] = problem.books.without(moments[vm.host], [vm])
    return Rest(free, moments, problem.books)


def _why_not_together(vm: Vm, solution: Solution, lacking: Optional[Shortage]) -> Reason:
    if solution.search == LIMIT and (lacking is None or lacking.proof is None):
        text = (
            f"{vm.name} fits alone, but no plan for all VMs was found in {solution.nodes} nodes, and none was ruled"
            " out. Raise options.node_limit to search on."
        )
        return Reason("search_limit", text, facts={"nodes": solution.nodes})
    if solution.blocked_by_order:
        text = (
            "all VMs of the plan would fit in the end, but each has to wait for room that another one holds."
            f" Free memory on a host, or move {vm.name} away by hand for the time of the exchange."
        )
        return Reason("order", text)
    text = f"{vm.name} fits alone, but not together with the other VMs of the plan."
    return Reason("together", text, facts={"vms": [] if lacking is None else list(lacking.vms)})


def _moves(problem: Problem, solution: Solution) -> Tuple[Tuple[Move, ...], ...]:
    """Return the moves by steps."""
    given, hosts = given_pins(problem, solution), problem.hosts
    return tuple(
        tuple(
            _move(problem.vms[vm], hosts[problem.source[vm]], hosts[solution.assignment[vm]], given[vm]) for vm in step
        )
        for step in solution.steps
    )


def _move(vm: Vm, source: Host, target: Host, given: Given) -> Move:
    changes = given.changes(vm)
    return Move(
        vm=vm.name,
        uuid=vm.uuid,
        source=source.name,
        destination=target.name,
        destination_uuid=target.uuid,
        uri=target.migration_uri,
        migrate_uri=_stream_uri(target.migration_address),
        pins=given.pins if changes else None,
        estimated_s=move_seconds(vm, source, target),
        following=given.following if changes else None,
        exclusive_cpus=format_cpuset(given.exclusive) or None,
    )


def _stream_uri(address: Optional[str]) -> Optional[str]:
    if address is None:
        return None
    return f"tcp://[{address}]" if ":" in address and not address.startswith("[") else f"tcp://{address}"


def _waves(
    request: Request, problem: Problem, steps: Tuple[Tuple[Move, ...], ...], unplaced: Sequence[Unplaced]
) -> Tuple[Wave, ...]:
    """Return one wave with all steps.

    A drain that cannot succeed touches nothing unless asked to; the VMs of the other questions do not depend on each
    other's success.
    """
    if request.question == "place":
        return (Wave((), steps),) if steps else ()
    if request.question == "drain" and unplaced and not request.options.best_effort:
        return ()
    failed = {item.host for item in unplaced} if request.question == "drain" else set()
    ready = tuple(host.name for host in request.hosts if host.name not in failed)
    return (Wave(ready, steps),) if ready or steps else ()


def _considered(vms: Sequence[Vm], request: Request, snapshot: Snapshot) -> List[Host]:
    """Return the hosts the answer depends on: those the VMs are on, and those they might go to."""
    targets = destinations(request, snapshot)
    names = {vm.host for vm in vms} | {host.name for vm in vms[:1] for host in targets(vm)}
    if request.question == "refill":
        names |= {host.name for vm in vms for host in targets(vm)}
    return [host for host in snapshot.hosts if host.name in names]


def _loads(moves: Sequence[Tuple[Vm, Move]], snapshot: Snapshot) -> Tuple[Dict[str, Any], ...]:
    """Return used memory before and after for every host that a move touches."""
    before: Mapping[str, Vector] = free_now(snapshot)
    after = dict(before)
    for vm, move in moves:
        after[move.source] = plus(after[move.source], demand(vm))
        after[move.destination] = minus(after[move.destination], demand(vm))
    touched = {name for _vm, move in moves for name in (move.source, move.destination)}
    return tuple(_load(host, before[host.name], after[host.name]) for host in snapshot.hosts if host.name in touched)


def _load(host: Host, before: Vector, after: Vector) -> Dict[str, Any]:
    total = capacity(host)[0]
    return {
        "host": host.name,
        "capacity_kib": known(total),
        "before_kib": total - before[0],
        "after_kib": total - after[0],
    }


def _candidates(
    problem: Problem, stuck: Sequence[Stuck], request: Request, snapshot: Snapshot
) -> Tuple[Candidates, ...]:
    found = [Candidates(item.vm.name, item.vm.uuid, item.vm.host, (), item.reasons) for item in stuck]
    free = problem.free_after()
    names = [host.name for host in problem.hosts]
    rest = Rest(dict(zip(names, free)), dict(zip(names, problem.after)), problem.books)
    for index, vm in enumerate(problem.vms):
        possible = [host for host in problem.candidates[index] if rest.misfit(vm, names[host]) is None]
        ranks = {
            host: rank(choice_of(problem, index, host, free[host], 0, rest.layout(vm, names[host])))
            for host in possible
        }
        best = tuple(problem.hosts[host].name for host in sorted(ranks, key=lambda host: (ranks[host], host)))
        rejected = rejections(vm, request, snapshot, problem.context)
        ruled_out = {reason.host for reason in rejected} | set(best)
        full = [host for host in destinations(request, snapshot)(vm) if host.name not in ruled_out]
        found.append(Candidates(vm.name, vm.uuid, vm.host, best, (*rejected, *shortages(vm, full, rest))))
    return tuple(sorted(found, key=lambda item: (item.vm, item.host)))
