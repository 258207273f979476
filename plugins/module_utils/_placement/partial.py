# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What can be done when not all VMs find a place: the most important ones, and as many as possible of these."""

from __future__ import annotations

from collections import Counter
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .build import only
from .direct import by_size, tightest
from .make_room import Ejector
from .order import Schedule, schedule
from .problem import Problem
from .room import Room
from .traffic import Traffic, Transfer
from .transfers import pins_of, transfers

# Up to how many blocks each one is tried together with those before it; of more, only where no order can fail.
TRIED_TOGETHER = 200

# The effort for each of them.
TRIES = 200


def as_many_as_possible(problem: Problem) -> Tuple[Schedule, Tuple[int, ...]]:
    """Return steps that move some blocks, safe although the others stay, and the VMs that stay.

    Of each priority, tries the largest and the smallest first and keeps what places more of the most important ones.
    """
    largest = by_size(problem, problem.leaving)
    blocks = problem.blocks
    smallest = sorted(largest, key=lambda block: (-blocks[block].priority, blocks[block].size, block))
    results = [_in_order(problem, order) for order in (largest, smallest)]
    placed, found = max(results, key=lambda result: _worth(problem, result[0]))
    stay = tuple(vm for block in problem.leaving if block not in placed for vm in blocks[block].vms)
    return found, stay


def _worth(problem: Problem, placed: Mapping[int, int]) -> List[int]:
    """Return how many VMs of each priority are placed, the most important first."""
    counts = Counter(problem.blocks[block].priority for block in problem.leaving for _vm in problem.blocks[block].vms)
    counts.subtract(counts.copy())
    for block in placed:
        counts[problem.blocks[block].priority] += len(problem.blocks[block].vms)
    return [counts[priority] for priority in sorted(counts, reverse=True)]


def _in_order(problem: Problem, order: Sequence[int]) -> Tuple[Dict[int, int], Schedule]:
    if set(problem.source).isdisjoint(host for block in problem.blocks for host in block.hosts):
        # Nobody waits for room that another one leaves.
        return _one_by_one(problem, order)
    return _one_more(problem, order)


def _one_by_one(problem: Problem, order: Sequence[int]) -> Tuple[Dict[int, int], Schedule]:
    """Start all moves at once, one after the other: the pins of a tied VM are chosen beside those before it."""
    room, traffic = Room(problem), Traffic(problem.ground.now(), pins_of(problem))
    step: List[Transfer] = []
    for block in order:
        # Of the hosts with the amounts, for a tied VM the tightest one that can give it its CPUs and cells.
        hosts = list(room.fullest(block)) if problem.blocks[block].tied else [room.tightest(block)]
        for host in hosts:
            moves = None if host is None else _start(problem, block, host, traffic)
            if moves is not None and host is not None:
                room.put(block, host)
                step.extend(moves)
                break
    return room.moved(), Schedule((tuple(step),) if step else (), entries=traffic.entries)


def _start(problem: Problem, block: int, host: int, traffic: Traffic) -> Optional[Sequence[Transfer]]:
    """Let all VMs of a block begin to move, or none."""
    moments, entries = list(traffic.moments), dict(traffic.entries)
    moves = transfers(problem, {block: host})
    for number, move in enumerate(moves):
        if not traffic.start(move):
            for begun in moves[:number]:
                traffic.floor.release(begun.demand, begun.held, host)
            traffic.moments, traffic.entries = moments, entries
            return None
    return moves


def _one_more(problem: Problem, order: Sequence[int]) -> Tuple[Dict[int, int], Schedule]:
    """Add one block after the other, where all of them together still have destinations and an order.

    A block that needs the room of others, which would leave it too, is added with these.
    """
    chosen: List[int] = []
    best: Tuple[Dict[int, int], Schedule] = ({}, Schedule(()))
    for block in order[:TRIED_TOGETHER]:
        leavers = [each for each in order if each not in (*chosen, block) and _makes_way(problem, each, block)]
        for more in ([], leavers, *([each] for each in leavers[1:])) if block not in chosen else ():
            some = sorted([*chosen, block, *more])
            found = _together(problem, some)
            if found is not None:
                best, chosen = found, some
                break
    return best


def _makes_way(problem: Problem, leaver: int, block: int) -> bool:
    return any(problem.source[vm] in problem.blocks[block].hosts for vm in problem.blocks[leaver].vms)


def _together(problem: Problem, some: Sequence[int]) -> Optional[Tuple[Dict[int, int], Schedule]]:
    part = only(problem, some)
    room, missing = tightest(part)
    ejector = Ejector(room, 0, TRIES)
    if not all(ejector.place(each) for each in missing):
        return None
    found = _ordered(part, room.moved())
    return None if found is None else ({some[each]: host for each, host in room.moved().items()}, found)


def _ordered(problem: Problem, placed: Mapping[int, int]) -> Optional[Schedule]:
    found = schedule(transfers(problem, placed), problem.ground.now, TRIES, pins_of(problem))
    return None if found.steps is None else found
