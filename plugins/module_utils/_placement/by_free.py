# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Hosts sorted by the memory they have left, so that among thousands the next one is found at once."""

from __future__ import annotations

from bisect import bisect_left, insort
from heapq import merge
from typing import Dict, Iterable, Iterator, List, Sequence, Tuple

# Memory in KiB and the number of a host.
Entry = Tuple[int, int]


class ByFree:
    """One sorted list for each kind of hosts."""

    def __init__(self, kinds: Sequence[int], free: Iterable[int]) -> None:
        self._kinds = kinds
        self._lists: Dict[int, List[Entry]] = {}
        for host, amount in enumerate(free):
            self._lists.setdefault(kinds[host], []).append((amount, host))
        for entries in self._lists.values():
            entries.sort()

    def change(self, host: int, before: int, after: int) -> None:
        """Note that a host has more or less left."""
        entries = self._lists[self._kinds[host]]
        del entries[bisect_left(entries, (before, host))]
        insort(entries, (after, host))

    def with_least(self, kinds: Iterable[int], amount: int) -> Iterator[int]:
        """Yield hosts that have an amount, those with the least first; a caller that changes a host starts anew."""
        lists = [self._lists.get(kind, []) for kind in kinds]
        for _left, host in merge(*(_upwards(entries, amount) for entries in lists)):
            yield host

    def with_most(self, kinds: Iterable[int], amount: int) -> Iterator[int]:
        """Yield hosts that have an amount, those with the most first and of equals the first."""
        lists = [self._lists.get(kind, []) for kind in kinds]
        for _left, host in merge(*(_downwards(entries, amount) for entries in lists)):
            yield host


def _upwards(entries: Sequence[Entry], amount: int) -> Iterator[Entry]:
    for index in range(bisect_left(entries, (amount, -1)), len(entries)):
        yield entries[index]


def _downwards(entries: Sequence[Entry], amount: int) -> Iterator[Entry]:
    """Yield entries with the amount negated, so that they ascend."""
    end, least = len(entries), bisect_left(entries, (amount, -1))
    while end > least:
        start = bisect_left(entries, (entries[end - 1][0], -1))
        for index in range(start, end):
            yield -entries[index][0], entries[index][1]
        end = start
