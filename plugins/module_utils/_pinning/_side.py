# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""One of the two states of a VM: as it runs, or as it is defined. The pins it is to have there, once it is known which
CPUs of the host are shared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import FrozenSet, List, Mapping, Optional, Sequence, Tuple

from .._domain import (
    AUTO,
    PLACING,
    Domain,
    Following,
    IothreadPin,
    MemNode,
    NumaMemory,
    Pinning,
    PinningPolicy,
    VcpuPin,
    threads_on,
)
from .._pin_rules import is_given, policy_of
from .._topology import Cell, format_cpuset, parse_cpuset
from ._guest import Guest, guest_of
from ._ledger import exclusive_cpus, seats
from ._move import bound_nodes
from ._others import Tenant, others_of_tenant
from ._room import Others, Room
from ._threads import EMULATOR, IOTHREAD, VCPU, Thread, pinned, thread_sets


@dataclass(frozen=True)
class Side:
    """A state of a VM, with the policy that it follows there.

    ``pins`` are those that the policy chose, or else the user's own; ``limit`` is the ``cpuset`` that the user gave it.
    Of a VM that runs, ``home`` are the pins of a definition of the same making, and ``held`` the cells that have most
    of its memory.
    """

    domain: Domain
    policy: PinningPolicy
    pins: Pinning
    limit: Optional[str] = None
    home: Optional[Pinning] = None
    held: FrozenSet[int] = frozenset()

    @property
    def live(self) -> bool:
        """Whether the VM runs like this."""
        return self.domain.runtime_id is not None

    @property
    def placed(self) -> bool:
        """Whether the pins were chosen here."""
        return self.policy.policy in PLACING

    @property
    def following(self) -> Optional[Following]:
        """What was written for its threads before."""
        return self.domain.policy.following if self.domain.policy else None

    def others(self, cells: Sequence[Cell]) -> Others:
        """Return what it takes from other VMs."""
        domain = self.domain
        threads = domain.vcpus.online, domain.iothreads
        return others_of_tenant(Tenant(domain.name, domain.uuid, self.live, self.policy, self.pins, *threads), cells)


def side_of(domain: Domain, isolation: FrozenSet[int]) -> Side:
    """Return a state as it is; ``isolation`` are the CPUs that the host's isolation alone leaves to be shared."""
    policy, own = policy_of(domain), domain.own_pinning
    if policy.policy == "dedicated":
        own = replace(own, vcpus=seats(policy, own))
    return Side(domain, policy, own, _limit(domain, policy, isolation))


def _limit(domain: Domain, policy: PinningPolicy, isolation: FrozenSet[int]) -> Optional[str]:
    following = domain.policy.following if domain.policy else None
    if policy.policy in PLACING:
        return following.limit if following else None
    own = domain.own_pinning.cpuset
    # A migration gives a VM this set without a record.
    arrived = following is None and is_given(own, isolation)
    return None if arrived else own


def settle(side: Side, room: Room) -> Tuple[Pinning, Optional[Following]]:
    """Return the pins of a state where the CPUs of ``room`` are shared, and the record that goes with them.

    Something must be shared. Pins of a running VM name all its threads, and its ``cpuset`` stays as it is.
    """
    if side.placed:
        return _beside(side, room)
    if by_numad(side):
        return replace(side.pins, cpuset=AUTO), None
    return _floating_live(side, room) if side.live else _floating_defined(side, room)


def needs_shared(side: Side) -> bool:
    """Whether some thread has no CPU of its own."""
    if side.policy.policy == "dedicated":
        alone = side.policy.emulator == "isolate" and side.pins.emulator is not None
        return not alone or not {pin.vcpu for pin in side.pins.vcpus} >= set(side.domain.vcpus.online)
    return side.placed or (_floats(side) and not by_numad(side))


def by_numad(side: Side) -> bool:
    """Whether numad chooses the CPUs of threads without pins; which these are, nobody knows."""
    chosen = side.limit == AUTO and (not side.live or side.domain.pinning.cpuset == AUTO)
    return chosen and not side.placed and side.following is None


def target(limit: Optional[str], room: Room) -> FrozenSet[int]:
    """Return the CPUs of floating threads: those of their user's set that are shared, or all if none of them is."""
    shared = room.shared
    return shared if limit in (None, AUTO) else parse_cpuset(limit or "") & shared or shared


def is_widened(side: Side, room: Room) -> bool:
    """Whether threads float on other CPUs than in their user's set, because none of those is shared."""
    limit = None if side.placed or side.limit in (None, AUTO) or not _floats(side) else side.limit
    return limit is not None and not parse_cpuset(limit) & room.shared


def is_everything(room: Room) -> bool:
    """Whether floating threads may run anywhere, so that nothing need be said about them."""
    return room.shared == room.cpus


def _floating_defined(side: Side, room: Room) -> Tuple[Pinning, Optional[Following]]:
    pins = side.pins
    cpus = format_cpuset(target(side.limit, room))
    as_limited = side.limit == cpus and not _looks_given(cpus, room)
    if is_everything(room) or side.limit == AUTO or as_limited or not _floats(side):
        return replace(pins, cpuset=side.limit), None
    return replace(pins, cpuset=cpus), Following(cpus, side.limit, threads_on(pins, cpus))


def _looks_given(cpus: str, room: Room) -> bool:
    """Whether a set without a record would be taken for one that a migration gave, see ``_limit``."""
    return bool(room.isolated) and parse_cpuset(cpus) == room.usable - room.isolated


def _floats(side: Side) -> bool:
    return bool(_without_pin(side))


def floating(side: Side) -> FrozenSet[Thread]:
    """Return the threads to which nobody gave CPUs."""
    return frozenset() if side.placed else _without_pin(side)


def _without_pin(side: Side) -> FrozenSet[Thread]:
    return frozenset(thread_sets(side.domain, frozenset())) - frozenset(pinned(side.pins))


def _floating_live(side: Side, room: Room) -> Tuple[Pinning, Optional[Following]]:
    wanted, cpus, domain = target(side.limit, room), format_cpuset(target(side.limit, room)), side.domain
    pinning, own = _all_threads(side, side.pins, cpus), pinned(side.pins)
    now = thread_sets(domain, room.cpus)
    as_wanted = all(now[thread] == wanted for thread in now if thread not in own)
    # A cpuset that a migration gave must be told from the user's when the host isolates other CPUs.
    told = domain.pinning.cpuset == side.limit and not _looks_given(cpus, room) and pinned(domain.pinning) == own
    if side.following is None and as_wanted and told:
        return pinning, None
    if not _floats(side):
        return pinning, side.following
    return pinning, Following(cpus, side.limit, threads_on(side.pins, cpus))


def _all_threads(side: Side, pins: Pinning, cpus: str) -> Pinning:
    """Return pins for every thread that the VM has now, those without one of their own on ``cpus``."""
    own, domain = pinned(pins), side.domain
    return replace(
        pins,
        vcpus=tuple(VcpuPin(number, own.get((VCPU, number), cpus)) for number in domain.vcpus.online),
        emulator=own.get((EMULATOR, None), cpus),
        iothreads=tuple(IothreadPin(number, own.get((IOTHREAD, number), cpus)) for number in domain.iothreads),
        cpuset=domain.pinning.cpuset,
    )


def _beside(side: Side, room: Room) -> Tuple[Pinning, Optional[Following]]:
    """Return the pins that a policy chose, with the threads that share CPUs on those near them."""
    guest, pins, home = guest_of(side.domain), side.pins, at_home(side, room)
    rest = room.near_or_any(used_cells(guest, side.policy, home, room))
    if side.policy.policy == "numa":
        homes = host_cells(guest, home, room)
        near = [room.near_or_any(homes[cell.id]) for cell in guest.cells]
        found = [VcpuPin(vcpu, cpus) for cell, cpus in zip(guest.cells, near) for vcpu in cell.vcpus]
        pins = replace(pins, vcpus=tuple(sorted(found, key=lambda pin: pin.vcpu)))
    alone = side.policy.emulator == "isolate" and pins.emulator is not None
    emulator = pins.emulator if alone and pins.emulator else rest
    iothreads = tuple(IothreadPin(number, emulator) for number in guest.iothreads)
    pins = replace(pins, policy=side.policy.policy, emulator=emulator, iothreads=iothreads, cpuset=rest or None)
    if side.live:
        pins = _all_threads(side, pins, rest)
    return pins, Following(rest, side.limit) if side.limit and rest else None


def at_home(side: Side, room: Room) -> Pinning:
    """Return the pins that a policy chose, with the memory near which the threads that share CPUs belong.

    The memory of a running VM need not be bound as its policy says before the next start. Then its definition tells, if
    that is of the same making; else what is bound, or where it is, as far as there are CPUs enough.
    """
    if not side.live:
        return side.pins
    if side.home is not None:
        return replace(side.pins, memory=side.home.memory, cells=side.home.cells)
    guest, near = guest_of(side.domain), replace(side.pins, memory=None, cells=())
    there = replace(near, memory=_memory_there(side, guest, near, room), cells=_cells_there(side))
    fits = side.policy.policy != "numa" or enough_shared(guest, host_cells(guest, there, room), room)
    return there if fits else near


def _memory_there(side: Side, guest: Guest, near: Pinning, room: Room) -> Optional[NumaMemory]:
    bound = side.domain.pinning
    if len(guest.cells) > 1 or bound.cells:
        # Nobody knows which of the guest's cells has what, unless each is bound.
        return None
    ids = frozenset() if bound.memory is None or bound.memory.mode == "preferred" else nodes_of(bound)
    if not ids and side.policy.policy == "numa" and not side.held & host_cells(guest, near, room)[guest.cells[0].id]:
        ids = side.held
    ids = _allowed(side, ids)
    return NumaMemory(side.policy.memory_mode, format_cpuset(ids)) if ids else None


def _cells_there(side: Side) -> Tuple[MemNode, ...]:
    cells = [(cell, _allowed(side, parse_cpuset(cell.node))) for cell in side.domain.pinning.cells]
    return tuple(replace(cell, node=format_cpuset(ids)) for cell, ids in cells if ids)


def _allowed(side: Side, ids: FrozenSet[int]) -> FrozenSet[int]:
    return ids if side.policy.host_cells is None else ids & side.policy.host_cells


def host_cells(guest: Guest, pins: Pinning, room: Room) -> Mapping[int, FrozenSet[int]]:
    """Return the cells of the host in which each cell of a guest has its CPUs, by the guest's number.

    Those of its vCPUs, and those of its memory that have CPUs at all: where all of a cell's have gone to others for a
    time, the guest still belongs there.
    """
    cpus = {pin.vcpu: parse_cpuset(pin.cpus) for pin in pins.vcpus}
    with_cpus = frozenset(cell.id for cell in room.cells if cell.cores)
    with_memory = frozenset(cell.id for cell in room.cells if cell.has_memory)
    bound = {cell.id: parse_cpuset(cell.node) for cell in pins.cells}
    # Where some of its cells are bound, one that is not has no memory.
    nodes = frozenset() if bound else nodes_of(pins)
    found = {}
    for cell in guest.cells:
        near = cells_with(frozenset(cpu for vcpu in cell.vcpus for cpu in cpus.get(vcpu, ())), room)
        home = bound.get(cell.id, nodes) & with_cpus
        # The memory of CPUs in a cell without any is elsewhere anyway.
        found[cell.id] = near | home if near & home or not near & with_memory else home or near
    return found


def enough_shared(guest: Guest, homes: Mapping[int, FrozenSet[int]], room: Room) -> bool:
    """Whether the cells in which those of a guest have their CPUs have a shared one for each vCPU."""
    loads = [homes[cell.id] for cell in guest.cells for vcpu in cell.vcpus]
    return all(loads.count(ids) <= len(room.shared_in(ids)) for ids in loads)


def used_cells(guest: Guest, policy: PinningPolicy, pins: Pinning, room: Room) -> FrozenSet[int]:
    """Return all cells of the host that hold something of a VM whose pins were chosen."""
    found: List[FrozenSet[int]] = [bound_nodes(pins)]
    if policy.policy == "numa":
        found += host_cells(guest, pins, room).values()
    else:
        found.append(cells_with(exclusive_cpus(policy, pins, ())[0], room))
    return frozenset(number for each in found for number in each)


def cells_with(cpus: FrozenSet[int], room: Room) -> FrozenSet[int]:
    """Return the cells of a host that have some of these CPUs."""
    return frozenset(cell.id for cell in room.cells if any(core & cpus for core in cell.cores))


def nodes_of(pins: Pinning) -> FrozenSet[int]:
    """Return the nodes to which all memory is bound, none if numad chooses them."""
    return frozenset() if pins.memory is None or pins.memory.nodes == AUTO else parse_cpuset(pins.memory.nodes)
