# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""The pins of a VM on a host, from what the VM asks for, its policy, and what the host can give."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, FrozenSet, List, Optional, Sequence, Tuple, Union

from .._domain import IothreadPin, MemNode, NumaMemory, Pinning, PinningPolicy, VcpuPin
from .._topology import format_cpuset
from ._cores import Taken, free_cores, take
from ._guest import Guest, GuestCell
from ._manual import no_such_cell
from ._misfits import no_shared_cpu, why_not
from ._move import Misfit
from ._packing import Bin, Demand, Item, stock_of
from ._room import Room, RoomCell
from ._search import search

# For each cell of the guest the cells of the host it lies in.
Mapped = Tuple[Tuple[int, ...], ...]


@dataclass(frozen=True)
class Placement:
    """The pins of a VM, the NUMA ``cells`` of the host that they bind it to, and the CPUs it has for itself.

    ``blocked`` are CPUs that stay empty for it, as in ``Claim``.
    """

    pinning: Pinning
    cells: Tuple[int, ...] = ()
    cpus: FrozenSet[int] = frozenset()
    blocked: FrozenSet[int] = frozenset()


def place(guest: Guest, policy: PinningPolicy, room: Room) -> Union[Placement, Misfit]:
    """Return the pins that ``numa`` or ``dedicated`` means for a VM on a host, or why it cannot have any.

    They use the fewest NUMA cells that hold vCPUs and memory, see ``search``; a guest with one cell may lie in several
    of the host's, of several each lies in one. What is free changes by the minute, so the amount of free memory decides
    only where the VM fits, not which of two cells that fit it gets.

    Codes: ``no_such_cell``, ``not_enough_cores``, ``memory_short``, ``huge_pages_short``, ``no_shared_cpu``.
    """
    return no_such_cell(guest, policy.host_cells or frozenset(), room) or _bound(guest, policy, room)


def _bound(guest: Guest, policy: PinningPolicy, room: Room) -> Union[Placement, Misfit]:
    cells = [cell for cell in room.cells if policy.host_cells is None or cell.id in policy.host_cells]
    if policy.emulator == "share" and not room.shared:
        return no_shared_cpu(guest, room)
    bins = [_bin(cell, guest, policy) for cell in cells]
    demand = _demand(guest, policy, room)
    distances = {cell.id: cell.distances for cell in room.cells}
    mapped = search(bins, demand, distances)
    if policy.memory_mode == "preferred":
        # The kernel takes memory from elsewhere, so that memory alone asks for no further cell.
        anywhere = search(bins, demand.without_memory(), distances)
        mapped = anywhere if mapped is None or _count(anywhere) < _count(mapped) else mapped
    if mapped is None:
        return why_not(guest, policy, room, bins, demand)
    return _shared(guest, policy, room, mapped) if policy.policy == "numa" else _dedicated(guest, policy, room, mapped)


def _count(mapped: Optional[Mapped]) -> int:
    return len({number for ids in mapped or () for number in ids})


def _bin(cell: RoomCell, guest: Guest, policy: PinningPolicy) -> Bin:
    memory = cell.memory(guest.huge_pages_kib)
    if policy.policy == "numa":
        # VMs that share CPUs spread, or all would share those of the first cell.
        crowded = 1000 * cell.crowd // max(1, len(cell.shared))
        return Bin(cell.id, stock_of([(1, 1)] * len(cell.shared), policy.thread_policy), memory, crowded)
    return Bin(cell.id, stock_of([core.shape for core in free_cores([cell])], policy.thread_policy), memory)


def _demand(guest: Guest, policy: PinningPolicy, room: Room) -> Demand:
    alone = policy.emulator == "isolate"
    items = [Item(len(cell.vcpus), _memory(cell, guest), int(alone and cell is guest.cells[0])) for cell in guest.cells]
    # Whatever floats needs one CPU that nobody has for itself; isolated CPUs are none of those anyway.
    taken_from_shared = policy.policy == "dedicated" and room.dedicated & room.shared
    limit = len(room.shared) - 1 if taken_from_shared and (room.floating or not alone) else None
    return Demand(tuple(items), guest.threads, limit)


def _memory(cell: GuestCell, guest: Guest) -> int:
    return -(-cell.memory_kib // (guest.huge_pages_kib or 1))


def _shared(guest: Guest, policy: PinningPolicy, room: Room, mapped: Mapped) -> Placement:
    by_id = {cell.id: cell for cell in room.cells}
    near = [frozenset(cpu for number in ids for cpu in by_id[number].shared) for ids in mapped]
    pins = [VcpuPin(vcpu, format_cpuset(cpus)) for cell, cpus in zip(guest.cells, near) for vcpu in sorted(cell.vcpus)]
    return _placement(guest, policy, room, mapped, Pinning("numa", tuple(pins)), Taken())


def _dedicated(guest: Guest, policy: PinningPolicy, room: Room, mapped: Mapped) -> Placement:
    vcpus: Dict[int, int] = {}
    emulator: Optional[int] = None
    blocked: FrozenSet[int] = frozenset()
    for ids in sorted(set(mapped)):
        cells = [cell for cell in room.cells if cell.id in ids]
        here = [vcpu for cell, numbers in zip(guest.cells, mapped) if numbers == ids for vcpu in cell.vcpus]
        first = policy.emulator == "isolate" and ids == mapped[0]
        near = frozenset(cpu for cell in cells if first for cpu in cell.dedicated)
        taken = take(free_cores(cells), guest.siblings(here), policy.thread_policy, near)
        vcpus.update(taken.vcpus)
        emulator, blocked = taken.emulator if first else emulator, blocked | taken.blocked
    pins = tuple(VcpuPin(vcpu, str(cpu)) for vcpu, cpu in sorted(vcpus.items()))
    return _placement(guest, policy, room, mapped, Pinning("dedicated", pins), Taken(vcpus, emulator, blocked))


def _placement(
    guest: Guest, policy: PinningPolicy, room: Room, mapped: Mapped, pins: Pinning, taken: Taken
) -> Placement:
    used = [cell for cell in room.cells if any(cell.id in ids for ids in mapped)]
    own = frozenset(taken.vcpus.values()) | ({taken.emulator} if taken.emulator is not None else set())
    rest = room.near_or_any([cell.id for cell in used], own | taken.blocked)
    emulator = str(taken.emulator) if taken.emulator is not None else rest
    pinning = replace(
        pins,
        vcpus=tuple(sorted(pins.vcpus, key=lambda pin: pin.vcpu)),
        emulator=emulator,
        iothreads=tuple(IothreadPin(number, emulator) for number in guest.iothreads),
        # For vCPUs that are plugged later, until the pins are chosen again.
        cpuset=rest or None,
        memory=memory_of(policy, used),
        cells=memnodes_of(guest, policy, used, mapped) if guest.numa else (),
    )
    return Placement(pinning, tuple(cell.id for cell in used), own, taken.blocked)


def memory_of(policy: PinningPolicy, used: Sequence[RoomCell]) -> Optional[NumaMemory]:
    nodes = [cell.id for cell in used if cell.has_memory]
    if policy.memory_mode == "preferred":
        # libvirt takes one node only with this mode.
        nodes = nodes[:1]
    return NumaMemory(policy.memory_mode, format_cpuset(nodes)) if nodes else None


def memnodes_of(guest: Guest, policy: PinningPolicy, used: Sequence[RoomCell], mapped: Mapped) -> Tuple[MemNode, ...]:
    found: List[MemNode] = []
    for cell, ids in zip(guest.cells, mapped):
        memory = memory_of(policy, [each for each in used if each.id in ids])
        if memory is not None:
            found.append(MemNode(cell.id, memory.mode, memory.nodes))
    return tuple(found)
