# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""What one host can give one VM, once the host itself and all other VMs have theirs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Container, Dict, FrozenSet, Iterable, Mapping, Optional, Tuple

from .._pin_rules import HostCpus
from .._topology import Cell, PageSize, distances_between, format_cpuset
from ._isolation_guard import ThreadPin
from ._ledger import Claim, owners

# The largest page that is not huge on any architecture.
BASE_PAGE_KIB = 64


@dataclass(frozen=True)
class Others:
    """What the other VMs of a host have: CPUs of their own, pins by hand, and threads on CPUs that are shared.

    ``floating`` says whether any thread runs on shared CPUs at all, ``bound`` are cells in which VMs need one,
    ``crowd`` how many vCPUs of such VMs run in each cell.
    """

    claims: Tuple[Claim, ...] = ()
    pins: Tuple[ThreadPin, ...] = ()
    floating: bool = False
    bound: FrozenSet[int] = frozenset()
    crowd: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RoomCell:
    """What a NUMA cell of the host can give: ``dedicated`` CPUs to own and ``shared`` CPUs to share.

    ``cores`` hold all threads that run, ``memory_kib`` is what can be bound here, ``pages`` the free huge pages by
    their size in KiB. ``distances`` lead to every cell. A cell that never has memory (``has_memory``) cannot be named
    to the kernel.
    """

    id: int
    cores: Tuple[FrozenSet[int], ...]
    dedicated: FrozenSet[int]
    shared: FrozenSet[int]
    memory_kib: int
    has_memory: bool = True
    pages: Mapping[int, int] = field(default_factory=dict)
    distances: Mapping[int, int] = field(default_factory=dict)
    crowd: int = 0

    @property
    def cpus(self) -> FrozenSet[int]:
        """The CPUs that run."""
        return frozenset(cpu for core in self.cores for cpu in core)

    def memory(self, page_kib: Optional[int]) -> int:
        """Return how much memory there is: in huge pages if they have a size, else in KiB."""
        return self.memory_kib if page_kib is None else self.pages.get(page_kib, 0)


@dataclass(frozen=True)
class Room:
    """What a host can give; ``cpus`` are those that run and ``usable`` those of them that VMs may use.

    ``owners`` and ``by_hand`` name the VM that has a CPU for itself, or that its user pinned there.
    """

    cells: Tuple[RoomCell, ...]
    cpus: FrozenSet[int]
    usable: FrozenSet[int]
    isolated: FrozenSet[int] = frozenset()
    offline: FrozenSet[int] = frozenset()
    reserved: FrozenSet[int] = frozenset()
    owners: Mapping[int, str] = field(default_factory=dict)
    by_hand: Mapping[int, str] = field(default_factory=dict)
    floating: bool = False

    @property
    def shared(self) -> FrozenSet[int]:
        """The CPUs that all VMs without CPUs of their own share."""
        return frozenset(cpu for cell in self.cells for cpu in cell.shared)

    def shared_in(self, ids: Container[int]) -> FrozenSet[int]:
        """Return the shared CPUs of some cells."""
        return frozenset(cpu for cell in self.cells if cell.id in ids for cpu in cell.shared)

    def near_or_any(self, ids: Container[int], taken: FrozenSet[int] = frozenset()) -> str:
        """Return the shared CPUs of some cells without those ``taken``, or all where none of these is left."""
        return format_cpuset(self.shared_in(ids) - taken or self.shared - taken)

    @property
    def dedicated(self) -> FrozenSet[int]:
        """The CPUs that a VM can have for itself."""
        return frozenset(cpu for cell in self.cells for cpu in cell.dedicated)


def room_of(cells: Iterable[Cell], cpus: HostCpus, others: Others) -> Room:
    """Return what a host with these NUMA cells can give.

    CPUs to own are the isolated ones if the host isolates any, else all; without those that are reserved, that VMs may
    not use, or that another VM owns or is pinned to by hand. Shared are the CPUs that are neither isolated nor owned.
    """
    known = sorted(cells, key=lambda cell: cell.id)
    online = frozenset(cpu for cell in known for cpu in cell.cpus) - cpus.offline
    usable = cpus.usable(online)
    owned = frozenset(cpu for claim in others.claims for cpu in claim.all)
    by_hand = {cpu: pin.vm for pin in others.pins for cpu in pin.cpus}
    to_own = (usable & cpus.isolated if online & cpus.isolated else usable) - cpus.reserved - owned - frozenset(by_hand)
    shared = usable - cpus.isolated - owned
    between = distances_between(known)
    found = [_room_cell(cell, online, to_own, shared, between[cell.id]) for cell in known]
    return Room(
        cells=tuple(
            replace(_keeping_one(cell) if cell.id in others.bound else cell, crowd=others.crowd.get(cell.id, 0))
            for cell in found
        ),
        cpus=online,
        usable=usable,
        isolated=cpus.isolated & online,
        offline=cpus.offline,
        reserved=cpus.reserved,
        owners=owners(others.claims),
        by_hand=by_hand,
        floating=others.floating,
    )


def _room_cell(
    cell: Cell, online: FrozenSet[int], to_own: FrozenSet[int], shared: FrozenSet[int], distances: Mapping[int, int]
) -> RoomCell:
    return RoomCell(
        id=cell.id,
        cores=tuple(core & online for core in cell.cores if core & online),
        dedicated=cell.cpus & to_own,
        shared=cell.cpus & shared,
        memory_kib=usable_kib(cell) if cell.free_kib is None else cell.free_kib,
        has_memory=cell.memory_kib > 0,
        pages={page.size_kib: page.total if page.free is None else page.free for page in huge_pages(cell)},
        distances=distances,
    )


def usable_kib(cell: Cell) -> int:
    """Return the memory of a cell that is not set aside for huge pages."""
    return max(0, cell.memory_kib - sum(page.size_kib * page.total for page in huge_pages(cell)))


def huge_pages(cell: Cell) -> Tuple[PageSize, ...]:
    """Return the sizes of pages that a cell sets aside."""
    return tuple(page for page in cell.pages if page.size_kib > BASE_PAGE_KIB)


def _keeping_one(cell: RoomCell) -> RoomCell:
    """Keep back a CPU for the VMs that share those of this cell."""
    if not cell.shared or cell.shared - cell.dedicated:
        return cell
    # No whole core is broken for it where one is broken already.
    choices = [(core <= cell.dedicated, len(core), cpu) for core in cell.cores for cpu in core & cell.dedicated]
    return replace(cell, dedicated=cell.dedicated - {min(choices)[2]})


def without_vm(cells: Iterable[Cell], held_kib: Mapping[int, int], page_kib: Optional[int] = None) -> Tuple[Cell, ...]:
    """Return the cells as they are without a VM's own memory, of which ``held_kib`` says how much is in each.

    For a VM that runs on the host already; with ``page_kib`` its memory is huge pages of that size.
    """
    result: Dict[int, Cell] = {}
    for cell in cells:
        held = held_kib.get(cell.id, 0)
        if page_kib is None:
            result[cell.id] = replace(cell, free_kib=None if cell.free_kib is None else cell.free_kib + held)
        else:
            pages = [
                replace(page, free=page.free + held // page_kib)
                if page.size_kib == page_kib and page.free is not None
                else page
                for page in cell.pages
            ]
            result[cell.id] = replace(cell, pages=tuple(pages))
    return tuple(result.values())
