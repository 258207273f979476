# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""Of all sets of so many host cells that can hold a guest, the best, by branch and bound."""

from __future__ import annotations

from heapq import nsmallest
from itertools import accumulate
from typing import Dict, Mapping, Optional, Sequence, Tuple

from ._packing import PATIENCE, Bin, Demand, Effort, Packing, pack
from ._worth import Bounds, worths

# Four times the sum of the distances of all pairs, cores shared with others, how crowded the bins are, CPUs left over,
# positions of the bins.
Cost = Tuple[int, int, int, int, Tuple[int, ...]]


class Nearest:
    """Improves a ``first`` set of bins that can hold a guest, without changing how many they are.

    Sets grow in the order of the bins. One is dropped when even the least that it can come to cost is more than the
    best so far: the distances it has, and for each bin to come those to the chosen ones and half of those to as many
    bins nearest to it. That is never more than the true cost, so the result is exact. Of bins that can be swapped
    without any change (``twins``) the earlier joins first.

    After ``PATIENCE`` steps the best so far is taken. A host with few cells is done before that.
    """

    def __init__(
        self,
        bins: Sequence[Bin],
        demand: Demand,
        distances: Mapping[int, Mapping[int, int]],
        first: Tuple[Tuple[int, ...], Packing],
    ) -> None:
        self.bins, self.demand, self.number = bins, demand, len(first[0])
        ids = [each.id for each in bins]
        self.between = [[0 if a == b else distances[a][b] + distances[b][a] for b in ids] for a in ids]
        self.near = [list(accumulate(sorted(row[:i] + row[i + 1 :]), initial=0)) for i, row in enumerate(self.between)]
        self.twins = [self._twin(index) for index in range(len(bins))]
        self.packings: Dict[Tuple[int, ...], Optional[Packing]] = {}
        self.cost, self.packing = self._cost(*first), first[1]
        self.bounds, self.effort = Bounds(worths(bins, demand), demand), Effort(PATIENCE)

    def best(self) -> Tuple[Tuple[int, ...], Packing]:
        """Return the positions of the best set's bins, and which item is in which."""
        self._grow(0, (), 0, [0] * len(self.bins))
        return self.cost[4], self.packing

    def _twin(self, index: int) -> Optional[int]:
        """Return the nearest earlier bin with which one can be swapped."""
        row, kind = self.between[index], self.bins[index].kind
        for other in range(index - 1, -1, -1):
            if self.bins[other].kind == kind:
                swapped = list(self.between[other])
                swapped[index], swapped[other] = swapped[other], swapped[index]
                if swapped == row:
                    return other
        return None

    def _grow(self, start: int, chosen: Tuple[int, ...], inner: int, toward: Sequence[int]) -> None:
        """Try all sets that hold ``chosen`` and else bins from ``start`` on.

        ``inner`` is the sum of the distances within it, ``toward`` that from all its bins to each.
        """
        for index in range(start, len(self.bins) + 1 + len(chosen) - self.number):
            if self.effort.is_over():
                return
            twin = self.twins[index]
            grown, within = (*chosen, index), inner + toward[index]
            farther = [sum(pair) for pair in zip(toward, self.between[index])]
            if (twin is not None and twin not in chosen) or self._too_dear(grown, within, farther):
                continue
            if len(grown) == self.number:
                self._consider(grown)
            else:
                self._grow(index + 1, grown, within, farther)

    def _too_dear(self, chosen: Tuple[int, ...], inner: int, toward: Sequence[int]) -> bool:
        """Whether no set with these bins, and else later ones, can be better than the best so far."""
        later, more = range(chosen[-1] + 1, len(self.bins)), self.number - len(chosen)
        paths = nsmallest(more, [2 * toward[index] + self.near[index][max(0, more - 1)] for index in later])
        crowded, free = self._sums(chosen)
        crowded += sum(nsmallest(more, [self.bins[index].crowded for index in later]))
        free += sum(nsmallest(more, [self.bins[index].stock.free for index in later]))
        least = (2 * inner + sum(paths), 0, crowded, free, chosen)
        best = (*self.cost[:4], self.cost[4][: len(chosen)])
        return least > best or not self.bounds.may_hold(chosen, chosen[-1] + 1, more)

    def _consider(self, chosen: Tuple[int, ...]) -> None:
        kinds = tuple(self.bins[index].kind for index in chosen)
        if kinds not in self.packings:
            self.packings[kinds] = pack([self.bins[index] for index in chosen], self.demand, self.effort)
        packing = self.packings[kinds]
        if packing is not None and self._cost(chosen, packing) < self.cost:
            self.cost, self.packing = self._cost(chosen, packing), packing

    def _cost(self, chosen: Tuple[int, ...], packing: Packing) -> Cost:
        pairs = sum(self.between[a][b] for a in chosen for b in chosen)
        return (pairs, packing.broken, *self._sums(chosen), chosen)

    def _sums(self, chosen: Sequence[int]) -> Tuple[int, int]:
        return sum(self.bins[index].crowded for index in chosen), sum(self.bins[index].stock.free for index in chosen)
