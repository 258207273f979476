# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Memory of single NUMA cells: what VMs bind there, and what is left for others.

How the kernel spreads a VM over several cells is not known before it does. So a VM that is bound to several is taken
from those with the most left, and of one that leaves only what was certainly in one cell is free again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterable, List, Optional, Sequence, Tuple

from .._domain import AUTO, Pinning
from .._pinning import Guest, huge_pages, usable_kib
from .._topology import Cell, parse_cpuset
from .resources import UNLIMITED

# By cell and size of its pages (None: base pages); huge pages are counted, other memory is in KiB.
Amounts = Dict[Tuple[int, Optional[int]], int]


@dataclass(frozen=True)
class Part:
    """Memory that a VM must have in some cells together: huge pages of ``page_kib``, or else KiB."""

    cells: FrozenSet[int]
    page_kib: Optional[int]
    amount: int


def parts_of(guest: Optional[Guest], pins: Pinning, cells: Sequence[Cell]) -> Tuple[Part, ...]:
    """Return what a VM with these pins must have where.

    What is not bound, or bound with mode ``preferred``, the kernel takes from anywhere; only huge pages are limited
    even then.
    """
    if guest is None:
        return ()
    page, anywhere = guest.huge_pages_kib, frozenset(cell.id for cell in cells)
    found: Dict[FrozenSet[int], int] = {}
    for each in guest.cells:
        bound = _bound(pins, each.id)
        if bound is not None or page is not None:
            where = anywhere if bound is None else bound
            found[where] = found.get(where, 0) + -(-each.memory_kib // (page or 1))
    return tuple(Part(where, page, amount) for where, amount in found.items() if amount)


def _bound(pins: Pinning, number: int) -> Optional[FrozenSet[int]]:
    for cell in pins.cells:
        if cell.id == number:
            return None if cell.mode == "preferred" else parse_cpuset(cell.node)
    memory = pins.memory
    if memory is None or memory.mode == "preferred" or memory.nodes == AUTO:
        return None
    return parse_cpuset(memory.nodes)


def measured(cells: Iterable[Cell]) -> Amounts:
    """Return what was free in each cell when the snapshot was taken; where it was not measured, what there is."""
    return _amounts(cells, now=True)


def total(cells: Iterable[Cell]) -> Amounts:
    """Return what each cell can give to VMs in all."""
    return _amounts(cells, now=False)


def _amounts(cells: Iterable[Cell], now: bool) -> Amounts:
    known = list(cells)
    result: Amounts = {}
    described = any(cell.memory_kib for cell in known)
    for cell in known:
        base = cell.free_kib if now and cell.free_kib is not None else usable_kib(cell)
        result[cell.id, None] = base if described else UNLIMITED
        for page in huge_pages(cell):
            result[cell.id, page.size_kib] = page.free if now and page.free is not None else page.total
    return result


def missing_pages(cells: Iterable[Cell]) -> int:
    """Return what a page size counts that a cell does not list: nothing, or any number where no cell lists pages."""
    return 0 if any(cell.pages for cell in cells) else UNLIMITED


def take(amounts: Amounts, parts: Iterable[Part], other: int) -> Tuple[Amounts, bool]:
    """Return what is left beside the parts, and whether all of them fit; ``other`` is for pages that are not listed."""
    left, fit = dict(amounts), True
    for part in sorted(parts, key=lambda part: (len(part.cells), -part.amount, sorted(part.cells))):
        rest = part.amount
        keys: List[Tuple[int, Optional[int]]] = [(cell, part.page_kib) for cell in sorted(part.cells)]
        for key in sorted(keys, key=lambda key: -left.get(key, other)):
            taken = min(rest, max(0, left.get(key, other)))
            left[key] = left.get(key, other) - taken
            rest -= taken
        fit = fit and rest == 0
        if rest and keys:
            # More than there is: a debt, so that what others give back does not count twice.
            left[keys[0]] = left.get(keys[0], other) - rest
    return left, fit


def give_back(amounts: Amounts, parts: Iterable[Part], other: int) -> Amounts:
    """Return the amounts with what certainly was in one cell."""
    left = dict(amounts)
    for part in parts:
        for cell in part.cells if len(part.cells) == 1 else ():
            left[cell, part.page_kib] = left.get((cell, part.page_kib), other) + part.amount
    return left
