# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The order of moves: steps whose moves are safe at once and in any order.

During a live migration the memory is held at both ends, as in BtrPlace's slices: a move needs room at its destination
from its start, and frees room at its source only at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional, Sequence, Tuple

from .resources import Vector, fits, minus, plus

Steps = Tuple[Tuple[int, ...], ...]


@dataclass(frozen=True)
class Transfer:
    """A move as numbers: which VM, from and to which host, and what it takes."""

    vm: int
    source: int
    destination: int
    demand: Vector


@dataclass(frozen=True)
class Schedule:
    """Steps of VM indexes, or ``None`` where no order was found; ``limited`` where the search was cut short."""

    steps: Optional[Steps]
    nodes: int = 0
    limited: bool = False


def schedule(transfers: Sequence[Transfer], free: Sequence[Vector], limit: int) -> Schedule:
    """Return steps for all transfers.

    ``free`` is per host, with every VM charged at its source; ``limit`` bounds the search.
    """
    ordered = sorted(transfers, key=lambda move: (tuple(-amount for amount in move.demand), move.vm))
    steps = _rounds(ordered, free)
    if steps is not None:
        return Schedule(steps)
    return _search(ordered, free, limit)


def _rounds(transfers: Sequence[Transfer], free: Sequence[Vector]) -> Optional[Steps]:
    """Start in each round whatever has room; ``None`` where this leads into a dead end."""
    left = list(free)
    waiting = list(transfers)
    steps: List[Tuple[int, ...]] = []
    while waiting:
        started = [move for move in waiting if _start(move, left)]
        if not started:
            return None
        for move in started:
            left[move.source] = plus(left[move.source], move.demand)
        waiting = [move for move in waiting if move not in started]
        steps.append(tuple(move.vm for move in started))
    return tuple(steps)


def _start(move: Transfer, left: List[Vector]) -> bool:
    if not fits(move.demand, left[move.destination]):
        return False
    left[move.destination] = minus(left[move.destination], move.demand)
    return True


def _search(transfers: Sequence[Transfer], free: Sequence[Vector], limit: int) -> Schedule:
    """Try orders depth first; the moves already done are the whole state, so no set is tried twice."""
    stack: List[Tuple[int, ...]] = [()]
    seen = {0}
    nodes = 0
    while stack:
        nodes += 1
        if nodes > limit:
            return Schedule(None, nodes, True)
        done, left = _play(stack.pop(), transfers, free)
        if len(done) == len(transfers):
            return Schedule(_in_steps([transfers[index] for index in done], free), nodes)
        mask = sum(1 << index for index in done)
        for index in reversed(range(len(transfers))):
            move = transfers[index]
            after = mask | 1 << index
            if after != mask and after not in seen and fits(move.demand, left[move.destination]):
                seen.add(after)
                stack.append((*done, index))
    return Schedule(None, nodes)


def _play(
    done: Tuple[int, ...], transfers: Sequence[Transfer], free: Sequence[Vector]
) -> Tuple[Tuple[int, ...], List[Vector]]:
    """Carry out ``done``, then every move that cannot hurt: one to a host with room for all that still come to it."""
    left = list(free)
    coming: Dict[int, Vector] = {}
    for move in transfers:
        coming[move.destination] = plus(coming.get(move.destination, (0,) * len(move.demand)), move.demand)

    def carry_out(move: Transfer) -> None:
        left[move.destination] = minus(left[move.destination], move.demand)
        left[move.source] = plus(left[move.source], move.demand)
        coming[move.destination] = minus(coming[move.destination], move.demand)

    for index in done:
        carry_out(transfers[index])
    waiting = [index for index in range(len(transfers)) if index not in done]
    more = list(done)
    while True:
        harmless = [index for index in waiting if fits(*_room(transfers[index], coming, left))]
        if not harmless:
            return tuple(more), left
        for index in harmless:
            carry_out(transfers[index])
        more.extend(harmless)
        waiting = [index for index in waiting if index not in harmless]


def _room(move: Transfer, coming: Dict[int, Vector], left: Sequence[Vector]) -> Tuple[Vector, Vector]:
    return coming[move.destination], left[move.destination]


def _in_steps(sequence: Sequence[Transfer], free: Sequence[Vector]) -> Steps:
    """Give every move of a working sequence the earliest step at whose start there is room.

    Room counts departures of earlier steps only, but every arrival that stands before the move, whatever its step: so
    arrivals of one step never compete for the room that one of them was given.
    """
    arrived: Dict[int, Vector] = {}
    departed: Dict[int, List[Tuple[int, Vector]]] = {}
    steps: List[List[int]] = []
    for move in sequence:
        before = arrived.get(move.destination, (0,) * len(move.demand))
        room = minus(free[move.destination], before)
        leaving = departed.get(move.destination, ())
        numbers = range(len(steps) + 1)
        step = next(number for number in numbers if fits(move.demand, _with_departures(room, leaving, number)))
        arrived[move.destination] = plus(before, move.demand)
        departed.setdefault(move.source, []).append((step, move.demand))
        steps.extend([] for _missing in range(step + 1 - len(steps)))
        steps[step].append(move.vm)
    return tuple(tuple(step) for step in steps)


def _with_departures(room: Vector, departures: Sequence[Tuple[int, Vector]], step: int) -> Vector:
    for when, amounts in departures:
        if when < step:
            room = plus(room, amounts)
    return room
