# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Who is where in the end: blocks are given to hosts and taken away again, in any order."""

from __future__ import annotations

from itertools import islice
from typing import Dict, Iterator, List, Optional, Set, Tuple

from .books import Moment
from .by_free import ByFree
from .model import Vm
from .problem import Problem
from .resources import UNLIMITED

# How many hosts are compared where memory is not all that counts.
COMPARED = 8


class Room:
    """Hosts with some of the blocks on them. Blocks that have to go begin nowhere, the others where they are."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.floor = problem.emptied()
        self.at: List[Optional[int]] = [block.at for block in problem.blocks]
        self.on: Dict[int, Set[int]] = {}
        for number, block in enumerate(problem.blocks):
            if block.at is not None:
                self.on.setdefault(block.at, set()).add(number)
        # Tied blocks that have come to a host, and those that were there and have left.
        self._come: Dict[int, Tuple[int, ...]] = {}
        self._gone: Dict[int, Tuple[int, ...]] = {}
        self._index = ByFree(problem.ground.reach.kind, (left[0] for left in self.floor.free))

    def moved(self) -> Dict[int, int]:
        """Return the destinations of the blocks that are not where they were, by block."""
        blocks = self.problem.blocks
        return {number: host for number, host in enumerate(self.at) if host is not None and host != blocks[number].at}

    def takes(self, block: int, host: int) -> bool:
        """Whether a host has room for a block, beside all that is there; whether it may go there is not asked."""
        wanted = self.problem.blocks[block]
        if not self.floor.is_free(wanted.need, wanted.held, host):
            return False
        return not wanted.tied or self._moment(host, block) is not None

    def _moment(self, host: int, block: int) -> Optional[Moment]:
        """Return the moment of a host with one more tied block, ``None`` where it cannot give the VMs their CPUs."""
        problem, name = self.problem, self.problem.hosts[host].name
        if problem.blocks[block].at == host:
            gone = tuple(each for each in self._gone.get(host, ()) if each != block)
            return problem.books.together(name, self._left(host, gone), self._members(self._come.get(host, ())))
        come = (*self._come.get(host, ()), block)
        return problem.books.together(name, self._left(host, self._gone.get(host, ())), self._members(come))

    def _left(self, host: int, gone: Tuple[int, ...]) -> Moment:
        return self.problem.books.without(self.problem.after[host], self._members(gone))

    def _members(self, blocks: Tuple[int, ...]) -> List[Vm]:
        return [vm for block in blocks for vm in self.problem.members(block) if vm.tied]

    def layout(self, block: int, host: int) -> Tuple[int, int]:
        """Return over how many cells the VMs of a tied block would lie, and how many cores they would share."""
        moment, books, name = self._moment(host, block), self.problem.books, self.problem.hosts[host].name
        if moment is None or self.problem.blocks[block].at == host:
            return (0, 0)
        found = [books.layout(name, books.find(moment, vm)) for vm in self._members((block,))]
        return max(cells for cells, _broken in found), sum(broken for _cells, broken in found)

    def put(self, block: int, host: int) -> None:
        """Give a block to a host that takes it."""
        wanted = self.problem.blocks[block]
        before = self.floor.free[host][0]
        self.floor.charge(wanted.need, wanted.held, host)
        self._index.change(host, before, self.floor.free[host][0])
        self.at[block] = host
        self.on.setdefault(host, set()).add(block)
        if wanted.tied and wanted.at == host:
            self._gone[host] = tuple(each for each in self._gone.get(host, ()) if each != block)
        elif wanted.tied:
            self._come[host] = (*self._come.get(host, ()), block)

    def take_away(self, block: int) -> int:
        """Take a block from its host, and return that."""
        wanted, host = self.problem.blocks[block], self.at[block]
        if host is None:
            raise ValueError(f"block {block} is on no host")
        before = self.floor.free[host][0]
        self.floor.release(wanted.need, wanted.held, host)
        self._index.change(host, before, self.floor.free[host][0])
        self.at[block] = None
        self.on[host].discard(block)
        if wanted.tied and wanted.at == host:
            self._gone[host] = (*self._gone.get(host, ()), block)
        elif wanted.tied:
            self._come[host] = tuple(each for each in self._come[host] if each != block)
        return host

    def fullest(self, block: int) -> Iterator[int]:
        """Yield the hosts with memory for a block, those with the least first, by tiers."""
        return self._sorted(block, self.problem.blocks[block].need[0], False)

    def emptiest(self, block: int, need: Optional[int] = None) -> Iterator[int]:
        """Yield the hosts with an amount of memory (by default what the block needs), those with the most first."""
        return self._sorted(block, self.problem.blocks[block].need[0] if need is None else need, True)

    def _sorted(self, block: int, need: int, most: bool) -> Iterator[int]:
        wanted = self.problem.blocks[block]
        # What needs no memory does not ask whether there is any.
        least = need or -UNLIMITED
        if wanted.kinds is None:
            sign = -1 if most else 1
            fitting = [host for host in wanted.hosts if self.floor.free[host][0] >= least]
            tier = self.problem.ground.reach.tier
            yield from sorted(fitting, key=lambda host: (tier[host], sign * self.floor.free[host][0], host))
            return
        index = self._index.with_most if most else self._index.with_least
        away = {self.problem.source[vm] for vm in wanted.vms} if wanted.at is None else set()
        for kinds in self.problem.ground.reach.by_tier(wanted.kinds):
            yield from (host for host in index(kinds, least) if host not in away)

    def tightest(self, block: int) -> Optional[int]:
        """Return the host where the least remains, measured by what is scarcest there."""
        fitting = list(islice((host for host in self.fullest(block) if self.takes(block, host)), self._compared(block)))
        if len(fitting) < 2:
            return next(iter(fitting), None)
        return min(fitting, key=lambda host: (self._remainder(block, host), host))

    def _compared(self, block: int) -> int:
        return COMPARED if self.problem.blocks[block].need[1] and self.problem.ground.limits_vcpus else 1

    def _remainder(self, block: int, host: int) -> Tuple[int, float]:
        need, left, total = self.problem.blocks[block].need, self.floor.free[host], self.problem.ground.capacity[host]
        shares = [(free - wanted) / max(1, all_of_it) for free, wanted, all_of_it in zip(left, need, total)]
        return self.problem.ground.reach.tier[host], sum(shares)
