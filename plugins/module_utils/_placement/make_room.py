# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Ejection chains: a block gets a place because others leave it, which get places because others leave those.

Cheap ways first: fewer levels, blocks of the plan before VMs that nobody asked to move, small ones before large ones.
The effort is bounded by the number of tries.
"""

from __future__ import annotations

from itertools import islice
from typing import FrozenSet, Iterator, List, Tuple

from .room import Room

# Levels of a chain, and how many sets of blocks are tried at each level that is still to come.
DEPTH = 3
WIDTH = (0, 200, 24, 8)

# How many hosts are looked at, how many sets of blocks of each, and how many blocks may leave it together.
HOSTS = 64
SETS = 300
TOGETHER = 6

Ejection = Tuple[int, Tuple[int, ...]]


class Ejector:
    """Puts blocks into a room by ejecting others. ``extra`` is how many VMs may leave their own hosts in all."""

    def __init__(self, room: Room, extra: int, tries: int) -> None:
        self.room = room
        self.extra = extra
        self.tries = tries
        # VMs that nobody asked to move and that are not where they were, and what was done, to undo it.
        self._away = 0
        self._journal: List[Tuple[int, int, bool]] = []

    def place(self, block: int) -> bool:
        """Put a block somewhere; on failure the room is as before."""
        return any(self._insert(block, depth, frozenset()) for depth in range(DEPTH + 1))

    def _insert(self, block: int, depth: int, fixed: FrozenSet[int]) -> bool:
        self.tries -= 1
        own = self.room.problem.blocks[block].at
        host = own if own is not None and self.room.takes(block, own) else self.room.tightest(block)
        if host is not None:
            self._put(block, host)
            return True
        return depth > 0 and self._eject(block, depth, fixed | {block})

    def _eject(self, block: int, depth: int, fixed: FrozenSet[int]) -> bool:
        for host, leavers in self._ways(block, depth, fixed):
            if self.tries <= 0:
                return False
            start = len(self._journal)
            for each in leavers:
                self._take_away(each)
            if self.room.takes(block, host):
                self._put(block, host)
                if all(self._insert(each, depth - 1, fixed | set(leavers)) for each in leavers):
                    return True
            self._undo(start)
        return False

    def _ways(self, block: int, depth: int, fixed: FrozenSet[int]) -> List[Ejection]:
        """Return hosts with what has to leave them, the least disturbance first."""
        room, problem = self.room, self.room.problem
        wanted = problem.blocks[block]
        hosts = list(islice(room.emptiest(block, 0), HOSTS))
        found: List[Tuple[Tuple[int, int, int], Ejection]] = []
        for host in hosts:
            missing = max(1, wanted.need[0] - room.floor.free[host][0])
            for leavers in self._leavers(host, missing, fixed):
                sizes = [problem.blocks[each].need[0] for each in leavers]
                strangers = sum(len(problem.blocks[each].vms) for each in leavers if problem.blocks[each].at == host)
                if self._away + strangers <= self.extra:
                    found.append(((strangers, sum(sizes), host), (host, leavers)))
        found.sort()
        return [way for _cost, way in found[: WIDTH[depth]]]

    def _leavers(self, host: int, missing: int, fixed: FrozenSet[int]) -> Iterator[Tuple[int, ...]]:
        """Yield sets of blocks that would make enough memory free, none with one that is not needed, the large first.

        Of blocks of one size the first ones stand for all.
        """
        blocks = self.room.problem.blocks
        there = [each for each in self.room.on.get(host, ()) if each not in fixed]
        there.sort(key=lambda each: (-blocks[each].need[0], blocks[each].at == host, each))
        sizes = [blocks[each].need[0] for each in there]

        def more(start: int, chosen: Tuple[int, ...], left: int) -> Iterator[Tuple[int, ...]]:
            if left <= 0:
                yield chosen
            elif len(chosen) < TOGETHER:
                for index in range(start, len(there)):
                    if index == start or sizes[index] != sizes[index - 1]:
                        yield from more(index + 1, (*chosen, there[index]), left - sizes[index])

        return islice(more(0, (), missing), SETS)

    def _put(self, block: int, host: int) -> None:
        self.room.put(block, host)
        self._count(block, host, -1)
        self._journal.append((block, host, True))

    def _take_away(self, block: int) -> None:
        host = self.room.take_away(block)
        self._count(block, host, 1)
        self._journal.append((block, host, False))

    def _count(self, block: int, host: int, sign: int) -> None:
        wanted = self.room.problem.blocks[block]
        if wanted.at == host:
            self._away += sign * len(wanted.vms)

    def _undo(self, start: int) -> None:
        while len(self._journal) > start:
            block, host, came = self._journal.pop()
            if came:
                self.room.take_away(block)
            else:
                self.room.put(block, host)
            self._count(block, host, 1 if came else -1)
