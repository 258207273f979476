# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""Whether the pins that a VM has are what a policy would choose, so that nothing need be moved."""

from __future__ import annotations

from dataclasses import replace
from typing import FrozenSet, Iterator, List, Mapping, Optional, Sequence

from .._domain import AUTO, Domain, Pinning, PinningPolicy
from .._pin_rules import policy_of
from .._topology import parse_cpuset
from ._guest import Guest
from ._place import memnodes_of, memory_of
from ._room import Room, RoomCell
from ._side import cells_with, enough_shared, host_cells, nodes_of


def kept_pins(
    guest: Guest,
    policy: PinningPolicy,
    states: Sequence[Domain],
    room: Room,
    bound: FrozenSet[int],
    holding: FrozenSet[int],
) -> Optional[Pinning]:
    """Return the pins by which a VM has already what ``numa`` or ``dedicated`` means on a host, or ``None``.

    ``states`` are the VM as it runs and as it is defined, in this order, as far as there are such. ``room`` keeps no
    CPU back for the cells in ``bound``, in which other VMs need one. ``holding`` are the cells that have the VM's
    memory now; how much is free elsewhere does not matter.
    """
    for pins in _candidates(states):
        homes = _homes(guest, policy, pins, room, bound, _is_stored(policy, states))
        found = None if homes is None else _with_memory(guest, policy, states, pins, homes, room, holding)
        if found is not None:
            return found
    return None


def _candidates(states: Sequence[Domain]) -> Iterator[Pinning]:
    """Return the pins as they are, with those of the definition for threads that have none, and as they are defined.

    Memory may be bound otherwise before the next start, so that the definition's is tried first.
    """
    first, last = states[0].own_pinning, states[-1].own_pinning
    vcpus = {pin.vcpu: pin for pin in (*last.vcpus, *first.vcpus)}
    running = replace(
        first,
        vcpus=tuple(pin for vcpu, pin in sorted(vcpus.items())),
        emulator=first.emulator or last.emulator,
    )
    if last.memory is not None:
        yield replace(running, memory=last.memory, cells=last.cells)
    yield running
    yield last
    if states[-1].runtime_id is not None:
        # What is bound may be what it had before it was placed.
        yield replace(running, memory=None, cells=())


def _is_stored(policy: PinningPolicy, states: Sequence[Domain]) -> bool:
    return any(policy_of(domain).policy == policy.policy for domain in states)


def _homes(
    guest: Guest, policy: PinningPolicy, pins: Pinning, room: Room, bound: FrozenSet[int], stored: bool
) -> Optional[Mapping[int, FrozenSet[int]]]:
    """Return the host cells of each cell of the guest if the CPUs are as the policy says."""
    own = {pin.vcpu: parse_cpuset(pin.cpus) for pin in pins.vcpus if pin.cpus != AUTO}
    pins = replace(pins, vcpus=tuple(pin for pin in pins.vcpus if pin.vcpu in guest.vcpus))
    if not all(own.get(vcpu) for vcpu in guest.vcpus):
        return None
    homes = host_cells(guest, pins if policy.policy == "numa" else replace(pins, memory=None, cells=()), room)
    used = frozenset(number for cell in guest.cells for number in homes[cell.id])
    if policy.host_cells is not None and not used <= policy.host_cells:
        return None
    if len(guest.cells) > 1 and any(len(ids) > 1 for ids in homes.values()):
        return None
    by_vcpu = {vcpu: own[vcpu] for vcpu in guest.vcpus}
    fits = (
        _is_near(guest, by_vcpu, homes, room, stored)
        if policy.policy == "numa"
        else _is_alone(policy, by_vcpu, pins.emulator, room, bound)
    )
    return homes if fits else None


def _is_near(
    guest: Guest,
    own: Mapping[int, FrozenSet[int]],
    homes: Mapping[int, FrozenSet[int]],
    room: Room,
    stored: bool,
) -> bool:
    """Whether there are shared CPUs enough; the sets of somebody who did not ask for the policy must be just those."""
    exact = all(own[vcpu] == room.shared_in(homes[cell.id]) for cell in guest.cells for vcpu in cell.vcpus)
    return enough_shared(guest, homes, room) and bool(room.shared) and (stored or exact)


def _those(room: Room, ids: FrozenSet[int]) -> List[RoomCell]:
    return [cell for cell in room.cells if cell.id in ids]


def _is_alone(
    policy: PinningPolicy,
    own: Mapping[int, FrozenSet[int]],
    emulator: Optional[str],
    room: Room,
    bound: FrozenSet[int],
) -> bool:
    """Whether each vCPU has a CPU for itself, in the company that the thread policy wants."""
    cpus = frozenset(cpu for each in own.values() for cpu in each)
    cores = [core for cell in room.cells for core in cell.cores if core & cpus]
    blocked = frozenset(cpu for core in cores for cpu in core - cpus if policy.thread_policy == "isolate")
    apart = emulator if policy.emulator == "isolate" and emulator != AUTO else None
    alone = parse_cpuset(apart or "")
    if len(cpus) != len(own) or any(len(each) != 1 for each in own.values()):
        return False
    if policy.emulator == "isolate" and (len(alone) != 1 or alone & (cpus | blocked)):
        return False
    return (
        _may_own(policy, cpus | alone, room)
        and _keeps_threads(policy.thread_policy, cores, cpus, room)
        and _leaves_some(policy, cpus | alone | blocked, room, bound)
    )


def _may_own(policy: PinningPolicy, cpus: FrozenSet[int], room: Room) -> bool:
    allowed = policy.host_cells
    return cpus <= room.dedicated and (allowed is None or cells_with(cpus, room) <= allowed)


def _keeps_threads(threads: str, cores: Sequence[FrozenSet[int]], cpus: FrozenSet[int], room: Room) -> bool:
    if threads == "isolate":
        return all(len(core & cpus) == 1 and core <= room.dedicated for core in cores)
    if threads == "require":
        return all(len(core) > 1 for core in cores) and sum(len(core & cpus) == 1 for core in cores) <= 1
    return True


def _leaves_some(policy: PinningPolicy, taken: FrozenSet[int], room: Room, bound: FrozenSet[int]) -> bool:
    """Whether a shared CPU remains for whatever needs one, and one in each cell where VMs are bound."""
    needed = policy.emulator == "share" or (room.floating and room.shared)
    beside = all(cell.shared - taken for cell in room.cells if cell.id in bound and cell.shared)
    return beside and bool(room.shared - taken or not needed)


def _with_memory(
    guest: Guest,
    policy: PinningPolicy,
    states: Sequence[Domain],
    pins: Pinning,
    homes: Mapping[int, FrozenSet[int]],
    room: Room,
    holding: FrozenSet[int],
) -> Optional[Pinning]:
    """Return the pins with the memory of the first state in which it is as the policy says.

    The memory of a running VM cannot be moved, and what a VM without definition should have is stored nowhere: it is
    where its CPUs are, or if there is none, where it is now.
    """
    bound = [domain.own_pinning for domain in reversed(states)]
    found = next((each for each in bound if _holds(guest, policy, each, homes, room)), None)
    if found is not None:
        return replace(pins, memory=found.memory, cells=found.cells)
    if states[-1].runtime_id is None or policy_of(states[-1]) != policy:
        return None
    with_memory = frozenset(cell.id for cell in room.cells if cell.has_memory)
    mapped = tuple(
        tuple(sorted(homes[cell.id] if homes[cell.id] & with_memory else homes[cell.id] | holding))
        for cell in guest.cells
    )
    used = _those(room, frozenset(number for ids in mapped for number in ids))
    cells = memnodes_of(guest, policy, used, mapped) if guest.numa else ()
    return replace(pins, memory=memory_of(policy, used), cells=cells)


def _holds(guest: Guest, policy: PinningPolicy, pins: Pinning, homes: Mapping[int, FrozenSet[int]], room: Room) -> bool:
    used = frozenset(number for cell in guest.cells for number in homes[cell.id])
    with_memory = frozenset(cell.id for cell in room.cells if cell.has_memory)
    nodes = nodes_of(pins)
    if pins.memory is None or not nodes:
        nowhere = not with_memory or (policy.memory_mode == "preferred" and not used & with_memory)
        return nowhere and pins.memory is None and not pins.cells
    if pins.memory.mode != policy.memory_mode or not _covers(policy, nodes, used & with_memory, with_memory):
        return False
    of_cell = {cell.id: cell for cell in pins.cells}
    needed = {cell.id for cell in guest.cells if guest.numa and homes[cell.id] & with_memory}
    if not needed <= set(of_cell) <= ({cell.id for cell in guest.cells} if guest.numa else set()):
        return False
    return all(
        cell.mode == policy.memory_mode
        and _covers(policy, parse_cpuset(cell.node), homes[number] & with_memory, with_memory)
        for number, cell in of_cell.items()
    )


def _covers(policy: PinningPolicy, nodes: FrozenSet[int], near: FrozenSet[int], with_memory: FrozenSet[int]) -> bool:
    """Whether memory comes from all cells of the CPUs that have some; with ``preferred`` it is one of them."""
    allowed = with_memory if policy.host_cells is None else with_memory & policy.host_cells
    if policy.memory_mode == "preferred":
        return len(nodes) == 1 and nodes <= (near & allowed or allowed)
    return near <= nodes <= allowed
