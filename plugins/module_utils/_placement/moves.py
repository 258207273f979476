# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""From numbers to moves: what a person reads and a program executes, and the fleet after them."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Tuple

from .._migration import stream_uri
from .._topology import Cell, format_cpuset
from .answer import Move
from .books import Moment
from .estimate import link, move_seconds
from .model import Host, Snapshot, Vm
from .pins import Given, given_pins
from .resources import UNLIMITED
from .solve import Solution
from .timing import Flow, seconds
from .traffic import Transfer

MoveSteps = Tuple[Tuple[Move, ...], ...]


def moves_of(solution: Solution) -> MoveSteps:
    """Return the moves of a solution by steps."""
    problem, given = solution.problem, given_pins(solution)
    asked = {vm for number in problem.leaving for vm in problem.blocks[number].vms}
    last = {move.vm: move for step in solution.steps for move in step}

    def purpose(move: Transfer) -> str:
        if last[move.vm] is not move:
            return "detour"
        return "asked" if move.vm in asked else "room"

    return tuple(tuple(_move(solution, move, given[move], purpose(move)) for move in step) for step in solution.steps)


def _move(solution: Solution, move: Transfer, given: Given, purpose: str) -> Move:
    problem = solution.problem
    vm, source, target = problem.vms[move.vm], problem.hosts[move.source], problem.hosts[move.destination]
    changes = given.changes(vm)
    return Move(
        vm=vm.name,
        uuid=vm.uuid,
        source=source.name,
        destination=target.name,
        destination_uuid=target.uuid,
        uri=target.migration_uri,
        migrate_uri=stream_uri(target.migration_address),
        pins=given.pins if changes else None,
        estimated_s=move_seconds(vm, source, target),
        purpose=purpose,
        following=given.following if changes else None,
        exclusive_cpus=format_cpuset(given.exclusive) or None,
    )


def duration(solution: Solution) -> float:
    """Return the expected seconds of all steps."""
    problem = solution.problem
    touched = {host for step in solution.steps for move in step for host in (move.source, move.destination)}
    links = {host: link(problem.hosts[host]) for host in touched}
    steps = [[_flow(problem.vms[move.vm], move) for move in step] for step in solution.steps]
    return float(seconds(steps, links, problem.ground.question.options.concurrency))


def _flow(vm: Vm, move: Transfer) -> Flow:
    return Flow(move.source, move.destination, vm.sent_kib / 1024, vm.dirty_mib_s or 0.0)


def after(solution: Solution, snapshot: Snapshot) -> Snapshot:
    """Return the fleet when all moves of a solution have ended."""
    problem, given = solution.problem, given_pins(solution)
    moved: Dict[str, Vm] = {}
    moments: List[Moment] = list(problem.start)
    for step in solution.steps:
        for move in step:
            vm = problem.vms[move.vm]
            moved[vm.key] = _arrived(vm, problem.hosts[move.destination], given[move])
            if move.vm in solution.entries:
                entry = solution.entries[move.vm]
                moments[move.destination] = problem.books.enter(moments[move.destination], entry)
        for move in step:
            moments[move.source] = problem.books.without(moments[move.source], [problem.vms[move.vm]])
    hosts = tuple(
        _measured(solution, host, moments[number]) if moments[number] != problem.start[number] else host
        for number, host in enumerate(problem.hosts)
    )
    return replace(snapshot, hosts=hosts, vms=tuple(moved.get(vm.key, vm) for vm in snapshot.vms))


def _arrived(vm: Vm, host: Host, given: Given) -> Vm:
    def there(state: Vm) -> Vm:
        if not given.changes(vm):
            return replace(state, host=host.name)
        return replace(state, host=host.name, pinning=given.pins, following=given.following)

    return replace(there(vm), states=tuple(there(state) for state in vm.states))


def _measured(solution: Solution, host: Host, moment: Moment) -> Host:
    """Return a host with what its cells have left then, as if it had been measured."""
    amounts = solution.problem.books.taken(host.name, moment).amounts

    def left(cell: Cell) -> Cell:
        base = amounts.get((cell.id, None), UNLIMITED)
        pages = tuple(
            replace(page, free=max(0, amounts.get((cell.id, page.size_kib), page.free or 0))) for page in cell.pages
        )
        return replace(cell, free_kib=cell.free_kib if base >= UNLIMITED // 2 else max(0, base), pages=pages)

    return replace(host, cells=None if host.cells is None else tuple(left(cell) for cell in host.cells))
