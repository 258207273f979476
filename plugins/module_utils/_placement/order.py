# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Put moves into steps: all moves of a step are safe at once and in any order, the next step starts when all ended.

During a live migration the memory is held at both ends, as in BtrPlace's slices: a move needs room at its destination
from its start, and frees room at its source only at its end. The same holds for CPUs that a VM has for itself, for
memory in single cells, which the ``books`` know, and for names and groups that are kept apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from .books import urgency
from .floor import Floor
from .resources import Vector, fits, minus, plus
from .traffic import Pins, Traffic, Transfer

Steps = Tuple[Tuple[Transfer, ...], ...]

# Where a VM could wait until its destination has room: hosts, the best first.
Parking = Callable[[Transfer, Traffic], Iterable[int]]


@dataclass(frozen=True)
class Schedule:
    """Steps of transfers, or ``None`` where no order was found; ``limited`` where the search was cut short.

    ``entries`` are those of the tied VMs in the books, by their numbers. ``parked`` are the VMs that take a detour.
    """

    steps: Optional[Steps]
    nodes: int = 0
    limited: bool = False
    entries: Mapping[int, int] = field(default_factory=dict)
    parked: Tuple[int, ...] = ()


def schedule(
    transfers: Sequence[Transfer],
    floor: Callable[[], Floor],
    limit: int,
    pins: Optional[Pins] = None,
    parking: Optional[Parking] = None,
) -> Schedule:
    """Return steps for all transfers, without a detour where an order without one is found within ``limit`` nodes.

    ``floor`` makes the hosts with every VM charged at its source. Without ``pins`` no VM is tied, without ``parking``
    no VM takes a detour.
    """
    ordered = sorted(transfers, key=_urgency)
    found = _rounds(ordered, Traffic(floor(), pins), None)
    if found is not None:
        return found
    searched = _search(ordered, floor, limit, pins)
    if searched.steps is not None or parking is None:
        return searched
    found = _rounds(ordered, Traffic(floor(), pins), parking)
    return searched if found is None else replace(found, nodes=searched.nodes)


def _urgency(move: Transfer) -> Tuple[object, ...]:
    """Tied VMs first, in the order in which the books gather them."""
    if move.tied is not None:
        return 0, urgency(move.tied)
    return 1, tuple(-amount for amount in move.demand), move.vm


def _rounds(transfers: Sequence[Transfer], traffic: Traffic, parking: Optional[Parking]) -> Optional[Schedule]:
    """Start in each round whatever has room, and where nothing has, park a VM; ``None`` where this is a dead end."""
    waiting = list(transfers)
    steps: List[Tuple[Transfer, ...]] = []
    parked: List[int] = []
    while waiting:
        started = [move for move in waiting if traffic.start(move)]
        if not started:
            detour = _detour(waiting, traffic, parking, parked) if parking else None
            if detour is None or not traffic.start(detour):
                return None
            parked.append(detour.vm)
            started = [detour]
            waiting = [replace(move, source=detour.destination) if move.vm == detour.vm else move for move in waiting]
        else:
            gone = {move.vm for move in started}
            waiting = [move for move in waiting if move.vm not in gone]
        for move in started:
            traffic.end(move)
        steps.append(tuple(started))
    return Schedule(tuple(steps), entries=traffic.entries, parked=tuple(parked))


def _detour(
    waiting: Sequence[Transfer], traffic: Traffic, parking: Parking, parked: Sequence[int]
) -> Optional[Transfer]:
    """Return the move of a waiting VM to a third host, the smallest one that lets another begin if there is such.

    A VM waits aside once at most. What has CPUs of its own does not, for it would get pins for a while only.
    """
    first: Optional[Transfer] = None
    for move in sorted(waiting, key=lambda move: (move.demand, move.vm)):
        if move.tied is not None or move.vm in parked:
            continue
        host = next((host for host in parking(move, traffic) if host not in (move.source, move.destination)), None)
        if host is None:
            continue
        detour = replace(move, destination=host)
        if _lets_begin(detour, waiting, traffic):
            return detour
        first = first or detour
    return first


def _lets_begin(detour: Transfer, waiting: Sequence[Transfer], traffic: Traffic) -> bool:
    traffic.floor.charge(detour.demand, detour.held, detour.destination)
    traffic.floor.release(detour.demand, detour.held, detour.source)
    begins = any(move.vm != detour.vm and traffic.has_room(move) for move in waiting)
    traffic.floor.charge(detour.demand, detour.held, detour.source)
    traffic.floor.release(detour.demand, detour.held, detour.destination)
    return begins


def _search(transfers: Sequence[Transfer], floor: Callable[[], Floor], limit: int, pins: Optional[Pins]) -> Schedule:
    """Try orders depth first; the moves already done and the pins they got are the whole state, so none is tried twice.

    Without tied VMs the pins are none.
    """
    stack: List[Tuple[int, ...]] = [()]
    seen: Set[Tuple[object, ...]] = set()
    nodes = 0
    while stack:
        nodes += 1
        if nodes > limit:
            return Schedule(None, nodes, True)
        done, traffic = _play(stack.pop(), transfers, Traffic(floor(), pins))
        if len(done) == len(transfers):
            steps = in_steps([transfers[index] for index in done], floor())
            return Schedule(steps, nodes, entries=traffic.entries)
        mask = sum(1 << index for index in done)
        for index in reversed(range(len(transfers))):
            moments = traffic.after(transfers[index]) if not mask >> index & 1 else None
            after = (mask | 1 << index, moments)
            if moments is not None and after not in seen:
                seen.add(after)
                stack.append((*done, index))
    return Schedule(None, nodes)


def _play(done: Tuple[int, ...], transfers: Sequence[Transfer], traffic: Traffic) -> Tuple[Tuple[int, ...], Traffic]:
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
        if traffic.start(move):
            traffic.end(move)
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
            # A label that two of them want is taken by the first to come, which may be the wrong one.
            if not patient and not move.held and fits(coming[move.destination], traffic.floor.free[move.destination]):
                carry_out(index)
        if len(more) == before:
            return tuple(more), traffic


def in_steps(sequence: Sequence[Transfer], floor: Floor) -> Steps:
    """Give every move of a working sequence the earliest step at whose start there is room.

    Room counts departures of earlier steps only, but every arrival that stands before the move, whatever its step: so
    arrivals of one step never compete for the room that one of them was given. The pins of a tied VM were chosen when
    all tied VMs before it had gone, and who holds a label may wait for the one before.
    """
    arrived: Dict[int, Vector] = {}
    departed: Dict[int, List[Tuple[int, Vector]]] = {}
    cleared: Dict[int, int] = {}
    again: Dict[int, int] = {}
    steps: List[List[Transfer]] = []
    for move in sequence:
        before = arrived.get(move.destination, (0,) * len(move.demand))
        room = minus(floor.free[move.destination], before)
        leaving = departed.get(move.destination, ())
        patient = move.tied is not None or bool(move.held)
        earliest = max(again.get(move.vm, 0), cleared.get(move.destination, 0) if patient else 0)
        numbers = range(earliest, len(steps) + 1)
        step = next(number for number in numbers if fits(move.demand, _with_departures(room, leaving, number)))
        arrived[move.destination] = plus(before, move.demand)
        departed.setdefault(move.source, []).append((step, move.demand))
        if patient:
            cleared[move.source] = max(cleared.get(move.source, 0), step + 1)
        again[move.vm] = step + 1
        steps.extend([] for _missing in range(step + 1 - len(steps)))
        steps[step].append(move)
    return tuple(tuple(step) for step in steps)


def _with_departures(room: Vector, departures: Sequence[Tuple[int, Vector]], step: int) -> Vector:
    for when, amounts in departures:
        if when < step:
            room = plus(room, amounts)
    return room
