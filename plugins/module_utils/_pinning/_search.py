# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""The best cells of a host for a guest: as few as possible, near each other, with little left over."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from ._nearest import Nearest
from ._packing import PATIENCE, Bin, Demand, Effort, Packing, pack
from ._worth import Bounds, Worth, worths


def search(
    bins: Iterable[Bin], demand: Demand, distances: Mapping[int, Mapping[int, int]]
) -> Optional[Tuple[Tuple[int, ...], ...]]:
    """Return for each cell of the guest the numbers of its host cells, or ``None`` where it fits nowhere.

    The fewest host cells are found first, then the best of so many, see ``_Fewest`` and ``Nearest``.
    """
    known = _useful(sorted(bins, key=lambda each: each.id), demand)
    most = len(known) if len(demand.items) == 1 else min(len(known), len(demand.items))
    fewest = _Fewest(known, demand)
    for number in range(1, most + 1):
        first = fewest.find(number)
        if first is not None:
            return _mapped(known, demand, *Nearest(known, demand, distances, first).best())
    return None


def _mapped(
    known: Sequence[Bin], demand: Demand, chosen: Tuple[int, ...], packing: Packing
) -> Tuple[Tuple[int, ...], ...]:
    """Return the numbers of the bins of each cell of the guest, ascending if that breaks no more cores."""
    bins = [known[position] for position in chosen]
    ascending = pack(bins, demand, Effort(PATIENCE), in_order=True)
    if ascending is not None and ascending.broken <= packing.broken:
        packing = ascending
    return tuple(tuple(bins[position].id for position in each) for each in packing.bins)


def _useful(bins: Sequence[Bin], demand: Demand) -> List[Bin]:
    """Leave out bins that can hold nothing of the guest, and number the others by what they can hold.

    Memory beyond all that is needed makes no difference.
    """
    found: List[Bin] = []
    kinds: Dict[Tuple[object, int, int], int] = {}
    total = demand.total
    for each, worth in zip(bins, worths(bins, demand)):
        memory = min(each.memory, total.memory)
        kind = kinds.setdefault((each.stock, memory, each.crowded), len(kinds))
        if worth.vcpus or worth.memory or (total.extra and each.stock.free):
            found.append(replace(each, memory=memory, kind=kind))
    return found


class _Fewest:
    """Whether any set of so many bins can hold the guest; the answer is exact, however long it takes.

    A bin that can carry all that another can is as good in its place. So only sets are tried that hold the better of
    two wherever they hold the worse; of equal ones the earlier counts as better. Sets of the same worth are tried once.
    """

    def __init__(self, bins: Sequence[Bin], demand: Demand) -> None:
        self.demand = demand
        found = worths(bins, demand)
        # What can carry more is never behind what can carry less.
        order = sorted(range(len(bins)), key=lambda index: (found[index].order, index))
        self.positions, self.bins, self.worths = order, [bins[i] for i in order], [found[i] for i in order]
        self.better = [{j for j in range(i) if self.worths[j].covers(self.worths[i])} for i in range(len(bins))]
        self.bounds = Bounds(self.worths, demand)

    def find(self, number: int) -> Optional[Tuple[Tuple[int, ...], Packing]]:
        """Return the positions of such bins, ascending, and which item is in which of them."""
        return self._grow(number, 0, (), {})

    def _grow(
        self, number: int, start: int, chosen: Tuple[int, ...], failed: Dict[Tuple[Worth, ...], bool]
    ) -> Optional[Tuple[Tuple[int, ...], Packing]]:
        if len(chosen) == number:
            return self._pack(chosen, failed)
        for rank in range(start, len(self.bins)):
            if not self.bounds.may_hold(chosen, rank, number - len(chosen)):
                return None
            if self.better[rank] <= set(chosen):
                found = self._grow(number, rank + 1, (*chosen, rank), failed)
                if found is not None:
                    return found
        return None

    def _pack(
        self, chosen: Tuple[int, ...], failed: Dict[Tuple[Worth, ...], bool]
    ) -> Optional[Tuple[Tuple[int, ...], Packing]]:
        worth = tuple(self.worths[rank] for rank in chosen)
        if worth in failed:
            return None
        ranks = sorted(chosen, key=self.positions.__getitem__)
        packing = pack([self.bins[rank] for rank in ranks], self.demand, Effort())
        failed[worth] = packing is None
        return None if packing is None else (tuple(self.positions[rank] for rank in ranks), packing)
