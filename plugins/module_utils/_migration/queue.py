# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which move begins next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence


@dataclass(frozen=True)
class Limits:
    """How many moves may run at once from this source, to one destination and over one link; ``None`` is any number."""

    source: int
    destination: Optional[int] = None
    link: Optional[int] = None


@dataclass(frozen=True)
class Waiting:
    """A move: its ``number`` in the order given, where it goes, and over which link if that is known."""

    number: int
    destination: str
    link: Optional[str]
    size_kib: int


def startable(waiting: Sequence[Waiting], running: Sequence[Waiting], limits: Limits) -> Optional[Waiting]:
    """Return the largest move that may begin beside those that run, or ``None``.

    The largest first ends soonest, for nothing large is left for the end. One whose destination or link is full holds
    up nobody else.
    """
    if len(running) >= limits.source:
        return None
    ready = [move for move in waiting if _has_room(move, running, limits)]
    return min(ready, key=lambda move: (-move.size_kib, move.number), default=None)


def _has_room(move: Waiting, running: Sequence[Waiting], limits: Limits) -> bool:
    there = sum(other.destination == move.destination for other in running)
    beside = sum(other.link == move.link for other in running) if move.link is not None else 0
    return _below(there, limits.destination) and _below(beside, limits.link)


def _below(count: int, limit: Optional[int]) -> bool:
    return limit is None or count < limit
