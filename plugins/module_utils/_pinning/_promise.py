# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""Memory that VMs have been promised in NUMA cells and do not hold yet: free by the kernel's account, but not to be
given away.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Tuple

from .._domain import Domain, Pinning, overhead_kib
from .._topology import Cell, parse_cpuset
from ._guest import Guest, GuestCell, guest_of
from ._room import Room, usable_kib
from ._side import nodes_of

# Amounts in KiB, or in pages of a size, by the number of the cell and that size in KiB.
Amounts = Dict[Tuple[int, Optional[int]], int]


def starting(domain: Domain) -> Guest:
    """Return what a VM that is off asks for, with the memory of its process in its first cell.

    Huge pages hold the guest's memory only, so that it does not count with them.
    """
    guest = guest_of(domain)
    if guest.huge_pages_kib is not None:
        return guest
    first = guest.cells[0]
    more = first.memory_kib + overhead_kib(domain.memory_kib, domain.vcpus.maximum)
    return replace(guest, cells=(GuestCell(first.id, first.vcpus, more), *guest.cells[1:]))


def outstanding(guest: Guest, pins: Pinning, held_kib: Mapping[int, int], free: Amounts) -> Amounts:
    """Return what a VM whose memory is bound will still take from each cell.

    Where it may choose among cells, it takes from those with most ``free``.
    """
    if pins.memory is None or pins.memory.mode == "preferred":
        return {}
    found: Amounts = {}
    size = guest.huge_pages_kib
    for nodes, needed in sorted(_needs(guest, pins).items(), key=lambda need: (len(need[0]), sorted(need[0]))):
        missing = max(0, needed - sum(held_kib.get(node, 0) for node in nodes))
        left = -(-missing // (size or 1))
        order = sorted(nodes, key=lambda node: (-free.get((node, size), 0), node))
        for node in order:
            taken = left if node == order[-1] else min(left, max(0, free.get((node, size), 0)))
            if taken:
                found[node, size] = found.get((node, size), 0) + taken
            left -= taken
    return found


def _needs(guest: Guest, pins: Pinning) -> Dict[FrozenSet[int], int]:
    bound = {cell.id: parse_cpuset(cell.node) for cell in pins.cells}
    needs: Dict[FrozenSet[int], int] = {}
    for cell in guest.cells:
        nodes = bound.get(cell.id, nodes_of(pins))
        if nodes:
            needs[nodes] = needs.get(nodes, 0) + cell.memory_kib
    return needs


def beyond(guest: Guest, pins: Pinning, cells: Sequence[Cell]) -> Dict[int, Tuple[int, int]]:
    """Return for the cells that could not give a VM what it asks for, though they had nothing else to give: how much
    that is, and how much there is.
    """
    whole = [
        replace(cell, free_kib=usable_kib(cell), pages=tuple(replace(page, free=page.total) for page in cell.pages))
        for cell in cells
    ]
    there = free_amounts(whole)
    wanted = outstanding(guest, pins, {}, there)
    return {key[0]: (amount, there.get(key, 0)) for key, amount in wanted.items() if amount > there.get(key, 0)}


def free_amounts(cells: Iterable[Cell]) -> Amounts:
    """Return the memory and the pages that are free, as far as that is known."""
    free: Amounts = {}
    for cell in cells:
        if cell.free_kib is not None:
            free[cell.id, None] = cell.free_kib
        free.update({(cell.id, page.size_kib): page.free for page in cell.pages if page.free is not None})
    return free


def total(amounts: Iterable[Amounts]) -> Amounts:
    """Return the sums of several."""
    found: Amounts = {}
    for each in amounts:
        for key, amount in each.items():
            found[key] = found.get(key, 0) + amount
    return found


def without(room: Room, promised: Amounts) -> Room:
    """Return a room that lacks what others have been promised."""
    if not promised:
        return room
    found = []
    for cell in room.cells:
        pages = {size: max(0, number - promised.get((cell.id, size), 0)) for size, number in cell.pages.items()}
        kib = max(0, cell.memory_kib - promised.get((cell.id, None), 0))
        found.append(replace(cell, memory_kib=kib, pages=pages))
    return replace(room, cells=tuple(found))


def by_vm(vms: Sequence[Tuple[Guest, Pinning, Mapping[int, int]]], cells: Iterable[Cell]) -> List[Amounts]:
    """Return for each VM what is outstanding; those that can choose take what the others leave."""
    free = free_amounts(cells)
    order = sorted(range(len(vms)), key=lambda index: (len(nodes_of(vms[index][1])), vms[index][0].name))
    found: Dict[int, Amounts] = {}
    for index in order:
        found[index] = outstanding(*vms[index], free)
        for key, amount in found[index].items():
            free[key] = free.get(key, 0) - amount
    return [found[index] for index in range(len(vms))]
