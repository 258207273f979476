# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""What may go wrong on a host though every VM has the pins it is to have."""

from __future__ import annotations

from typing import FrozenSet, List, Optional, Sequence, Tuple

from .._domain import AUTO, Pinning
from .._topology import format_cpuset, parse_cpuset
from ._cpu_notes import cpu_notes, left_there, listed
from ._desk import Desk
from ._guest import Guest, guest_of
from ._ledger import conflicts
from ._move import bound_nodes
from ._promise import by_vm, free_amounts, starting, total
from ._room import Room
from ._side import by_numad, cells_with, floating, needs_shared, target
from ._vm import Vm

# With these modes memory comes from the nodes they name, or not at all.
_STRICT = ("strict", "restrictive")


def notes(desk: Desk, room: Room, float_others: bool) -> Tuple[str, ...]:
    """Return the warnings, each a cause and a next step."""
    strict = [(vm, pins) for vm in desk.vms for pins in [_memory(vm)] if pins is not None]
    return (
        *_not_spread(desk),
        *_by_numad(desk, room),
        *_hand_pinned(desk),
        *cpu_notes(desk.vms, room),
        *([] if float_others else left_there(desk.vms, room)),
        *_mixed(desk.vms, strict, room),
        *_short(desk, strict),
    )


def _memory(vm: Vm) -> Optional[Pinning]:
    """Return the pins by which a VM's memory is bound: as it runs, or as it will start."""
    pins = vm.resident.live.pinning if vm.resident.live else vm.sides[0].pins
    return pins if pins.memory and pins.memory.mode in _STRICT and bound_nodes(pins) else None


def _not_spread(desk: Desk) -> List[str]:
    names = [vm.resident.name for vm in desk.vms if any(needs_shared(side) for side in vm.sides)]
    if desk.shares or not names:
        return []
    return [
        "The host isolates all CPUs that VMs may use, so the scheduler does not spread threads that have none of their "
        f"own: {listed(names)}. Isolate fewer CPUs, or let machine.slice use others too."
    ]


def _by_numad(desk: Desk, room: Room) -> List[str]:
    names = [vm.resident.name for vm in desk.vms if any(by_numad(side) and floating(side) for side in vm.sides)]
    if not names or not room.owners:
        return []
    return [
        f"numad chooses the CPUs of {listed(names)}, perhaps such as other VMs have for themselves. Give these VMs a "
        "policy, or a cpuset."
    ]


def _hand_pinned(desk: Desk) -> List[str]:
    found = conflicts(desk.claims(), desk.others().pins)
    return [
        f"VMs {each} share CPUs of which one of them is to be the only user. Pin the other one elsewhere."
        for each in found
    ]


def _mixed(vms: Sequence[Vm], strict: Sequence[Tuple[Vm, Pinning]], room: Room) -> List[str]:
    if sum(cell.has_memory for cell in room.cells) < 2:
        # Nobody can be told to go to another cell.
        return []
    bound = {vm.resident.name: bound_nodes(pins) for vm, pins in strict}
    cells = frozenset(cell for nodes in bound.values() for cell in nodes)
    floating = {vm.resident.name: _floats_in(vm, room) & cells for vm in vms}
    shared = frozenset(cell for found in floating.values() for cell in found)
    if not shared:
        return []
    owners = [name for name, nodes in bound.items() if nodes & shared]
    return [
        f"In NUMA cell {format_cpuset(shared)}, memory is bound for {listed(owners)}, and VMs that float may take it: "
        f"{listed([name for name, found in floating.items() if found])}. Give every VM of the host the policy numa or "
        "dedicated."
    ]


def _floats_in(vm: Vm, room: Room) -> FrozenSet[int]:
    """Return the cells in which threads of a VM run whose memory may be anywhere."""
    side = vm.sides[0]
    if side.placed or not needs_shared(side) or bound_nodes(side.pins):
        return frozenset()
    texts = [pin.cpus for pin in side.pins.vcpus]
    own = frozenset(cpu for text in texts if text != AUTO for cpu in parse_cpuset(text))
    return cells_with(own | target(side.limit, room), room)


def _short(desk: Desk, strict: Sequence[Tuple[Vm, Pinning]]) -> List[str]:
    free = free_amounts(desk.state.cells)
    # Where it is not known what a running VM holds, it is not known either what it will still take.
    counted = [(vm, pins) for vm, pins in strict if vm.resident.held_kib or not vm.resident.live]
    wanted = by_vm([(_guest(vm), pins, vm.resident.held_kib) for vm, pins in counted], desk.state.cells)
    found = []
    for (cell, size), amount in sorted(total(wanted).items(), key=lambda item: (item[0][0], item[0][1] or 0)):
        left = free.get((cell, size))
        if left is None or amount <= left:
            continue
        names = [vm.resident.name for (vm, pins), each in zip(counted, wanted) if (cell, size) in each]
        unit = "KiB" if size is None else f"pages of {size} KiB"
        found.append(
            f"NUMA cell {cell} has {left} {unit} free, but VMs that are bound to it may take {amount} more: "
            f"{listed(names)}. Move one of them to another cell or host."
        )
    return found


def _guest(vm: Vm) -> Guest:
    return guest_of(vm.resident.live) if vm.resident.live else starting(vm.resident.domain)
