# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The order of moves: steps whose moves are safe at once and in any order.

During a live migration the memory is held at both ends, as in BtrPlace's slices: a move needs room at its destination
from its start, and frees room at its source only at its end. The same holds for CPUs that a VM has for itself and for
memory in single cells, which the ``books`` know.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .._pinning import Misfit
from .books import Books, Moment, urgency
from .model import Vm
from .resources import Vector, fits, minus, plus

Steps = Tuple[Tuple[int, ...], ...]


@dataclass(frozen=True)
class Transfer:
    """A move as numbers: which VM, from and to which host, and what it takes; ``tied`` is the VM if it is that."""

    vm: int
    source: int
    destination: int
    demand: Vector
    tied: Optional[Vm] = None


@dataclass(frozen=True)
class Pins:
    """Where tied VMs find their pins: the books, the hosts' names, and their moments before anything moves."""

    books: Books
    hosts: Tuple[str, ...]
    start: Tuple[Moment, ...]


@dataclass(frozen=True)
class Schedule:
    """Steps of VM indexes, or ``None`` where no order was found; ``limited`` where the search was cut short.

    ``entries`` are those of the tied VMs in the books, by their indexes.
    """

    steps: Optional[Steps]
    nodes: int = 0
    limited: bool = False
    entries: Mapping[int, int] = field(default_factory=dict)


class _Floor:
    """Hosts while moves are carried out."""

    def __init__(self, free: Sequence[Vector], pins: Optional[Pins]) -> None:
        self.left = list(free)
        self.pins = pins
        self.moments = list(pins.start) if pins else []
        self.entries: Dict[int, int] = {}

    def start(self, move: Transfer) -> bool:
        """Let a move begin, or say that there is no room."""
        if not fits(move.demand, self.left[move.destination]):
            return False
        if move.tied is not None and self.pins is not None:
            entry = self._offer(move, move.tied, self.pins)
            if entry is None:
                return False
            self.moments[move.destination] = self.pins.books.enter(self.moments[move.destination], entry)
            self.entries[move.vm] = entry
        self.left[move.destination] = minus(self.left[move.destination], move.demand)
        return True

    def end(self, move: Transfer) -> None:
        """Let a move that has begun be over."""
        self.left[move.source] = plus(self.left[move.source], move.demand)
        if move.tied is not None and self.pins is not None:
            self.moments[move.source] = self.pins.books.without(self.moments[move.source], [move.tied])

    def after(self, move: Transfer) -> Optional[Tuple[Moment, ...]]:
        """Return the moments after a move, or ``None`` where there is no room for it."""
        if not fits(move.demand, self.left[move.destination]):
            return None
        moments = list(self.moments)
        if move.tied is not None and self.pins is not None:
            entry = self._offer(move, move.tied, self.pins)
            if entry is None:
                return None
            moments[move.destination] = self.pins.books.enter(moments[move.destination], entry)
            moments[move.source] = self.pins.books.without(moments[move.source], [move.tied])
        return tuple(moments)

    def _offer(self, move: Transfer, vm: Vm, pins: Pins) -> Optional[int]:
        offered = pins.books.offer(pins.hosts[move.destination], self.moments[move.destination], vm)
        return None if isinstance(offered, Misfit) else offered


def schedule(
    transfers: Sequence[Transfer], free: Sequence[Vector], limit: int, pins: Optional[Pins] = None
) -> Schedule:
    """Return steps for all transfers.

    ``free`` is per host, with every VM charged at its source; ``limit`` bounds the search. Without ``pins`` no VM is
    tied.
    """
    ordered = sorted(transfers, key=_urgency)
    found = _rounds(ordered, _Floor(free, pins))
    return found or _search(ordered, free, limit, pins)


def _urgency(move: Transfer) -> Tuple[object, ...]:
    """Tied VMs first, in the order in which the books gather them."""
    if move.tied is not None:
        return 0, urgency(move.tied)
    return 1, tuple(-amount for amount in move.demand), move.vm


def _rounds(transfers: Sequence[Transfer], floor: _Floor) -> Optional[Schedule]:
    """Start in each round whatever has room; ``None`` where this leads into a dead end."""
    waiting = list(transfers)
    steps: List[Tuple[int, ...]] = []
    while waiting:
        started = [move for move in waiting if floor.start(move)]
        if not started:
            return None
        for move in started:
            floor.end(move)
        waiting = [move for move in waiting if move not in started]
        steps.append(tuple(move.vm for move in started))
    return Schedule(tuple(steps), entries=floor.entries)


def _search(transfers: Sequence[Transfer], free: Sequence[Vector], limit: int, pins: Optional[Pins]) -> Schedule:
    """Try orders depth first; the moves already done and the pins they got are the whole state, so none is tried twice.

    Without tied VMs the pins are none.
    """
    stack: List[Tuple[int, ...]] = [()]
    seen = set()
    nodes = 0
    while stack:
        nodes += 1
        if nodes > limit:
            return Schedule(None, nodes, True)
        done, floor = _play(stack.pop(), transfers, _Floor(free, pins))
        if len(done) == len(transfers):
            steps = _in_steps([transfers[index] for index in done], free)
            return Schedule(steps, nodes, entries=floor.entries)
        mask = sum(1 << index for index in done)
        for index in reversed(range(len(transfers))):
            moments = floor.after(transfers[index]) if not mask >> index & 1 else None
            after = (mask | 1 << index, moments)
            if moments is not None and after not in seen:
                seen.add(after)
                stack.append((*done, index))
    return Schedule(None, nodes)


def _play(done: Tuple[int, ...], transfers: Sequence[Transfer], floor: _Floor) -> Tuple[Tuple[int, ...], _Floor]:
    """Carry out ``done``, then every move that cannot hurt: one to a host with room for all that still come to it.

    A tied VM also waits while another leaves its destination: it may get better CPUs then.
    """
    more: List[int] = []
    waiting = list(range(len(transfers)))
    coming: Dict[int, Vector] = {}
    for move in transfers:
        coming[move.destination] = plus(coming.get(move.destination, (0,) * len(move.demand)), move.demand)

    def carry_out(index: int) -> None:
        move = transfers[index]
        if floor.start(move):
            floor.end(move)
            coming[move.destination] = minus(coming[move.destination], move.demand)
            more.append(index)
            waiting.remove(index)

    for index in done:
        carry_out(index)
    while True:
        before = len(more)
        leaving = {transfers[index].source for index in waiting if transfers[index].tied is not None}
        for index in list(waiting):
            move = transfers[index]
            patient = move.tied is not None and move.destination in leaving
            if not patient and fits(coming[move.destination], floor.left[move.destination]):
                carry_out(index)
        if len(more) == before:
            return tuple(more), floor


def _in_steps(sequence: Sequence[Transfer], free: Sequence[Vector]) -> Steps:
    """Give every move of a working sequence the earliest step at whose start there is room.

    Room counts departures of earlier steps only, but every arrival that stands before the move, whatever its step: so
    arrivals of one step never compete for the room that one of them was given. The pins of a tied VM were chosen when
    all tied VMs before it had gone.
    """
    arrived: Dict[int, Vector] = {}
    departed: Dict[int, List[Tuple[int, Vector]]] = {}
    cleared: Dict[int, int] = {}
    steps: List[List[int]] = []
    for move in sequence:
        before = arrived.get(move.destination, (0,) * len(move.demand))
        room = minus(free[move.destination], before)
        leaving = departed.get(move.destination, ())
        earliest = cleared.get(move.destination, 0) if move.tied is not None else 0
        numbers = range(earliest, len(steps) + 1)
        step = next(number for number in numbers if fits(move.demand, _with_departures(room, leaving, number)))
        arrived[move.destination] = plus(before, move.demand)
        departed.setdefault(move.source, []).append((step, move.demand))
        if move.tied is not None:
            cleared[move.source] = max(cleared.get(move.source, 0), step + 1)
        steps.extend([] for _missing in range(step + 1 - len(steps)))
        steps[step].append(move.vm)
    return tuple(tuple(step) for step in steps)


def _with_departures(room: Vector, departures: Sequence[Tuple[int, Vector]], step: int) -> Vector:
    for when, amounts in departures:
        if when < step:
            room = plus(room, amounts)
    return room
