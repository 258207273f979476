# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""What host cells are worth to a guest: which are alike, which are better, and what some of them can hold at most."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Callable, List, Optional, Sequence, Set, Tuple

from ._cores import ISOLATE
from ._packing import Bin, Demand, Item

# With more different sums of a guest's cells than this, amounts are not rounded.
_MANY = 4096


@dataclass(frozen=True)
class Worth:
    """What a bin can carry of one guest: vCPUs, vCPUs beside an emulator's CPU, memory, and whether it is ``roomy``.

    A bin is as good as another when none of these is less. How many CPUs stay empty beside the vCPUs is none of them:
    that can only matter to the limit of a demand, and only in the one set that holds all bins with such CPUs.
    """

    vcpus: int
    beside: int
    memory: int
    roomy: bool = True

    @property
    def order(self) -> Tuple[int, ...]:
        """A key that puts what is better first."""
        return -self.vcpus, -self.beside, -self.memory, -self.roomy

    def covers(self, other: Worth) -> bool:
        """Whether a bin of this worth can stand in for one of the other."""
        return all(a <= b for a, b in zip(self.order, other.order))


def worths(bins: Sequence[Bin], demand: Demand) -> List[Worth]:
    """Return what each bin is worth to a guest."""
    total = demand.total
    if len(demand.items) == 1:
        return [_part(each, total) for each in bins]
    vcpus = _rounding([item.vcpus for item in demand.items])
    memory = _rounding([item.memory for item in demand.items])
    return [_whole(each, vcpus, memory) for each in bins]


def _part(each: Bin, total: Item) -> Worth:
    """The one cell of a guest may lie in several bins, so that every CPU counts."""
    stock = each.stock
    beside = stock.free - (sum(stock.whole) if stock.threads == ISOLATE else stock.seats)
    seats = min(stock.seats, total.vcpus + total.extra)
    return Worth(seats, min(beside, 1), min(each.memory, total.memory), stock.roomy)


def _whole(each: Bin, vcpus: Callable[[int], int], memory: Callable[[int], int]) -> Worth:
    """A bin holds some cells of a guest as a whole, so that nothing counts but the sums of such."""
    stock, beside = each.stock, -1
    if stock.fits(0, 1):
        alone = stock.seats
        while not stock.fits(alone, 1):
            alone -= 1
        beside = vcpus(alone)
    return Worth(vcpus(stock.seats), beside, memory(each.memory), stock.roomy)


def _rounding(numbers: Sequence[int]) -> Callable[[int], int]:
    """Return how an amount is rounded down to a sum of some of the numbers."""
    sums: Set[int] = {0}
    for number in numbers:
        sums |= {number + each for each in sums}
        if len(sums) > _MANY:
            return lambda amount: min(amount, sum(numbers))
    return lambda amount: max(each for each in sums if each <= amount)


class Bounds:
    """The most that bins can hold, in sums that are never too small.

    Beside all vCPUs and all memory these are, for each cell of the guest, how many of those that are at least as large
    find a place.
    """

    def __init__(self, found: Sequence[Worth], demand: Demand) -> None:
        items = demand.items if len(demand.items) > 1 else ()
        kinds = sorted({(item.vcpus, item.memory) for item in items if item.vcpus or item.memory})
        self.needed = [demand.total.vcpus, demand.total.memory]
        self.needed += [sum(item.vcpus >= vcpus and item.memory >= memory for item in items) for vcpus, memory in kinds]
        self.values = [
            [worth.vcpus, worth.memory, *(_times(worth, vcpus, memory) for vcpus, memory in kinds)] for worth in found
        ]
        self.later = [
            [_largest_sums([row[measure] for row in self.values[start:]]) for start in range(len(found) + 1)]
            for measure in range(len(self.needed))
        ]

    def may_hold(self, chosen: Sequence[int], start: int, more: int) -> bool:
        """Whether some bins could be enough together with ``more`` of those from ``start`` on."""
        return start + more <= len(self.values) and all(
            sum(self.values[index][measure] for index in chosen) + self.later[measure][start][more] >= needed
            for measure, needed in enumerate(self.needed)
        )


def _times(worth: Worth, vcpus: int, memory: int) -> int:
    amounts: List[Optional[int]] = [worth.vcpus // vcpus if vcpus else None, worth.memory // memory if memory else None]
    return min(amount for amount in amounts if amount is not None)


def _largest_sums(numbers: Sequence[int]) -> List[int]:
    return list(accumulate(sorted(numbers, reverse=True), initial=0))
