# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Hosts while VMs move: a VM under way is charged at both ends, with its memory, its labels and its CPUs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, FrozenSet, List, Optional, Tuple

from .._pinning import Misfit
from .books import Books, Moment
from .floor import Floor, Held
from .model import Vm
from .resources import Vector


@dataclass(frozen=True)
class Transfer:
    """A move as numbers: which VM, from and to which host, and what it takes; ``tied`` is the VM if it is that."""

    vm: int
    source: int
    destination: int
    demand: Vector
    held: FrozenSet[Held] = frozenset()
    tied: Optional[Vm] = field(default=None, compare=False)


@dataclass(frozen=True)
class Pins:
    """Where tied VMs find their pins: the books, the hosts' names, and their moments before anything moves."""

    books: Books
    hosts: Tuple[str, ...]
    start: Tuple[Moment, ...]


class Traffic:
    """The state of all hosts at one moment."""

    def __init__(self, floor: Floor, pins: Optional[Pins]) -> None:
        self.floor = floor
        self.pins = pins
        self.moments: List[Moment] = list(pins.start) if pins else []
        self.entries: Dict[int, int] = {}

    def has_room(self, move: Transfer) -> bool:
        """Whether a move could begin, its pins left aside."""
        return self.floor.is_free(move.demand, move.held, move.destination)

    def start(self, move: Transfer) -> bool:
        """Let a move begin, or say that there is no room."""
        if not self.has_room(move):
            return False
        if move.tied is not None and self.pins is not None:
            entry = self._offer(move, move.tied, self.pins)
            if entry is None:
                return False
            self.moments[move.destination] = self.pins.books.enter(self.moments[move.destination], entry)
            self.entries[move.vm] = entry
        self.floor.charge(move.demand, move.held, move.destination)
        return True

    def end(self, move: Transfer) -> None:
        """Let a move that has begun be over."""
        self.floor.release(move.demand, move.held, move.source)
        if move.tied is not None and self.pins is not None:
            self.moments[move.source] = self.pins.books.without(self.moments[move.source], [move.tied])

    def after(self, move: Transfer) -> Optional[Tuple[Moment, ...]]:
        """Return the moments after a move, or ``None`` where there is no room for it."""
        if not self.has_room(move):
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
