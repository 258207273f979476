# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""Whether the cells of a guest fit into given cells of a host, and which goes where."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, List, Optional, Sequence, Tuple

from ._cores import ISOLATE, REQUIRE, broken

# Steps after which an answer is good enough, though there may be a better one.
PATIENCE = 2000


class Effort:
    """Counts steps of a search; without a ``limit`` it never ends."""

    def __init__(self, limit: Optional[int] = None) -> None:
        self.limit, self.steps = limit, 0

    def is_over(self) -> bool:
        """Count a step, and return whether it is one too many."""
        self.steps += 1
        return self.limit is not None and self.steps > self.limit


@dataclass(frozen=True)
class Stock:
    """What cores can carry: ``seats`` for vCPUs among the ``free`` threads, under a thread policy.

    ``whole`` are the sizes of the cores that ``isolate`` may take, ascending; ``roomy`` says whether a core has three
    free threads, with which ``require`` leaves no vCPU alone on its core.
    """

    shape: Tuple[Tuple[int, int], ...]
    threads: str
    seats: int
    free: int
    whole: Tuple[int, ...]
    roomy: bool

    def fits(self, vcpus: int, extra: int) -> bool:
        """Whether so many vCPUs fit, with so many further CPUs beside them."""
        return vcpus <= self.seats and self.taken(vcpus) + extra <= self.free

    def taken(self, vcpus: int) -> int:
        """Return how many CPUs so many vCPUs cost, with those that stay empty."""
        return sum(self.whole[:vcpus]) if self.threads == ISOLATE else vcpus

    def alone(self, vcpus: int) -> int:
        """Return how many vCPUs must be alone on their core though the policy wants them in company."""
        odd = vcpus % 2 == 1 and not self.roomy
        return int(self.threads == REQUIRE and (vcpus == 1 or odd))


def stock_of(shape: Sequence[Tuple[int, int]], threads: str) -> Stock:
    """Return the stock of cores, given by the numbers of their free and of all threads."""
    whole = tuple(sorted(size for free, size in shape if free == size)) if threads == ISOLATE else ()
    least = 2 if threads == REQUIRE else 1
    seats = len(whole) if threads == ISOLATE else sum(free for free, size in shape if free >= least)
    free = sum(free for free, size in shape)
    return Stock(tuple(shape), threads, seats, free, whole, any(free >= 3 for free, size in shape))


@dataclass(frozen=True)
class Bin:
    """A host cell: its number, what its CPUs can carry, its memory, and how ``crowded`` it is.

    Bins of one ``kind`` differ in nothing else.
    """

    id: int
    stock: Stock
    memory: int
    crowded: int = 0
    kind: int = 0


@dataclass(frozen=True)
class Item:
    """A cell of the guest: how many vCPUs, how much memory, and whether the emulator wants a CPU of its own there."""

    vcpus: int
    memory: int
    extra: int = 0


@dataclass(frozen=True)
class Demand:
    """All of a guest. ``unit`` are the vCPUs of a guest's core, ``limit`` the CPUs that it may take from others."""

    items: Tuple[Item, ...]
    unit: int = 1
    limit: Optional[int] = None

    @property
    def total(self) -> Item:
        """The sums over all cells."""
        return Item(*(sum(getattr(item, name) for item in self.items) for name in ("vcpus", "memory", "extra")))

    def without_memory(self) -> Demand:
        """Return the demand for CPUs alone."""
        return replace(self, items=tuple(replace(item, memory=0) for item in self.items))

    def allows(self, taken: int) -> bool:
        """Whether so many CPUs may be taken."""
        return self.limit is None or taken <= self.limit


@dataclass(frozen=True)
class Packing:
    """Which bins each item is in, by their position, and how many cores the guest shares with others."""

    broken: int
    bins: Tuple[Tuple[int, ...], ...]


def pack(bins: Sequence[Bin], demand: Demand, effort: Effort, in_order: bool = False) -> Optional[Packing]:
    """Return where the guest's cells go so that few cores are broken, or ``None`` where they do not fit.

    The one cell of a guest lies in all the bins together; of several, each is in one bin, and a bin may hold several.
    When the effort is over, the best so far is the answer. ``in_order`` prefers the first bins for the first cells, at
    the price of a longer search where little fits.
    """
    return _spread(bins, demand) if len(demand.items) == 1 else _Packer(bins, demand, effort, in_order).best()


def _spread(bins: Sequence[Bin], demand: Demand) -> Optional[Packing]:
    item = demand.items[0]
    stock = stock_of([core for each in bins for core in each.stock.shape], bins[0].stock.threads)
    memory = sum(each.memory for each in bins)
    if not stock.fits(item.vcpus, item.extra) or memory < item.memory:
        return None
    if not demand.allows(stock.taken(item.vcpus) + item.extra):
        return None
    parts = broken(stock.shape, item.vcpus, stock.threads, demand.unit)
    return Packing(parts, (tuple(range(len(bins))),))


class _Packer:
    """A search through all ways to put items into bins, without those that differ in names only.

    Equal items go to bins in ascending order, and of bins that are of one kind and hold as much the first stands for
    all. Swapping two such items or bins changes no sum, so the first of the best ways passes both rules.
    """

    def __init__(self, bins: Sequence[Bin], demand: Demand, effort: Effort, in_order: bool) -> None:
        self.bins, self.demand, self.effort = bins, demand, effort
        items = demand.items
        # Large ones first: where they do not fit is known at once.
        sizes = [() if in_order else (-item.vcpus, -item.memory, -item.extra) for item in items]
        self.order = sorted(range(len(items)), key=lambda index: (sizes[index], index))
        # How many items with an odd number of vCPUs there are from each on.
        self.odd = [sum(items[i].vcpus % 2 for i in self.order[depth:]) for depth in range(len(items) + 1)]
        self.loads = [Item(0, 0) for each in bins]
        self.where: List[int] = []
        self.found: Optional[Packing] = None
        self.better = Effort(PATIENCE)

    def best(self) -> Optional[Packing]:
        """Return the packing that breaks the fewest cores."""
        self._next()
        return self.found

    def _next(self) -> None:
        depth = len(self.where)
        if depth == len(self.order):
            self._consider()
            return
        item = self.demand.items[self.order[depth]]
        equal = depth > 0 and self.demand.items[self.order[depth - 1]] == item
        tried = set()
        for index in range(self.where[-1] if equal else 0, len(self.bins)):
            before = self.loads[index]
            state = (self.bins[index].kind, before)
            if state in tried or self._is_done():
                continue
            tried.add(state)
            self.loads[index] = after = Item(
                before.vcpus + item.vcpus, before.memory + item.memory, before.extra + item.extra
            )
            if self._holds(index, after):
                self.where.append(index)
                self._next()
                self.where.pop()
            self.loads[index] = before

    def _is_done(self) -> bool:
        if self.found is not None and (self.found.broken == 0 or self.better.is_over()):
            return True
        return self.effort.is_over()

    def _holds(self, index: int, load: Item) -> bool:
        each = self.bins[index]
        if load.memory > each.memory or not each.stock.fits(load.vcpus, load.extra):
            return False
        taken = sum(other.stock.taken(held.vcpus) + held.extra for other, held in zip(self.bins, self.loads))
        return self.demand.allows(taken) and self._lonely() <= 1 + self.odd[len(self.where) + 1]

    def _lonely(self) -> int:
        """Return in how many bins a vCPU is alone until a cell with an odd number of vCPUs joins it."""
        return sum(load.vcpus > 1 and each.stock.alone(load.vcpus) for each, load in zip(self.bins, self.loads))

    def _consider(self) -> None:
        filled = [(each.stock, load.vcpus) for each, load in zip(self.bins, self.loads)]
        if sum(stock.alone(vcpus) for stock, vcpus in filled) > 1:
            return
        parts = sum(broken(stock.shape, vcpus, stock.threads, self.demand.unit) for stock, vcpus in filled)
        if self.found is None or parts < self.found.broken:
            bins: Dict[int, int] = dict(zip(self.order, self.where))
            self.found = Packing(parts, tuple((bins[item],) for item in sorted(bins)))
