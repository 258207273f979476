# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""The wishes for the VMs of one host, decided one after the other."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, FrozenSet, Optional, Sequence, Tuple

from .._domain import AUTO, PLACING, Domain, Pinning
from .._errors import FleetError
from .._pin_rules import fitted
from .._topology import format_cpuset
from ._attempts import attempts
from ._cpu_notes import listed
from ._guest import guest_of
from ._keep import kept_pins
from ._ledger import Claim
from ._manual import check_memory, check_pins, every_cell, no_such_cell
from ._move import Misfit
from ._others import joined
from ._place import Placement, place
from ._promise import Amounts, beyond, by_vm, total, without
from ._resident import HostState, Resident, Wish
from ._room import Others, Room, room_of, without_vm
from ._side import Side
from ._vm import Vm, vm_of

# What a VM may lack because others of the same run keep what they have.
_LACKING = ("not_enough_cores", "memory_short", "huge_pages_short", "no_shared_cpu", "cpu_owned")

# Stands for a VM of which nothing is known here but the CPUs that it will have.
_ARRIVING = "(about to arrive)"  # never a name of libvirt's


class Desk:
    """Decides one VM after the other, each beside those that are decided and those that nobody asked about."""

    def __init__(
        self,
        state: HostState,
        residents: Sequence[Resident],
        wishes: Sequence[Wish],
        repin: bool,
        keep_free: FrozenSet[int],
    ) -> None:
        self.state, self.repin = state, repin
        wished = {wish.uuid: wish for wish in wishes}
        unknown = sorted(set(wished) - {resident.uuid for resident in residents})
        if unknown:
            raise FleetError(f"This host has no VM with the UUID {unknown[0]}. Name one of its VMs.", "vm_unknown")
        _require_cpus(state, keep_free)
        empty = room_of(state.cells, state.cpus, Others())
        self.shares = bool(empty.shared)
        isolation = state.cpus.left(empty.cpus)
        self._vms = {each.uuid: vm_of(each, wished.get(each.uuid), isolation) for each in residents}
        self._parts = {uuid: self._part(vm) for uuid, vm in self._vms.items()}
        self._arriving = Others(claims=(Claim(_ARRIVING, "", False, keep_free),) if keep_free else ())

    @property
    def vms(self) -> Tuple[Vm, ...]:
        """All VMs as far as they are decided."""
        return tuple(self._vms.values())

    @property
    def wished(self) -> Tuple[Vm, ...]:
        """Those that somebody asked about."""
        return tuple(vm for vm in self.vms if vm.wish)

    def claims(self) -> Tuple[Claim, ...]:
        """Return what is owned according to all that is decided, by name."""
        return tuple(sorted(joined(self._parts.values()).claims, key=lambda claim: (claim.vm, claim.uuid)))

    def others(self) -> Others:
        """Return what all VMs have according to all that is decided."""
        return joined([*self._parts.values(), self._arriving])

    def final_room(self) -> Room:
        """Return what is left on the host.

        Where all that VMs may use is isolated, threads without a CPU of their own have those that nobody owns.
        """
        room = room_of(self.state.cells, self.state.cpus, self.others())
        if self.shares:
            return room
        left = self.state.cpus.shared(room.cpus, frozenset(room.owners))
        return replace(room, cells=tuple(replace(cell, shared=left & cell.cpus) for cell in room.cells))

    def decide(self, order: Sequence[Vm]) -> None:
        """Decide some VMs: at first, those that keep what they have, then the others in the same order."""
        for vm in order:
            self._keep(vm)
        for vm in order:
            if self._vms[vm.resident.uuid].decided is None or vm.policy.policy == "manual":
                self._choose(vm)

    def _keep(self, vm: Vm) -> None:
        if vm.policy.policy == "manual":
            # Whether the host can have them is judged beside the others that stay.
            sides = _by_hand(vm)
            if _same(sides, vm.touched):
                self._set(vm, sides, kept=True)
        elif vm.policy.policy in PLACING and not self.repin:
            others = self._around(vm)
            room = room_of(self.state.cells, self.state.cpus, replace(others, bound=frozenset()))
            states = [side.domain for side in vm.touched]
            holding = frozenset(cell for cell, kib in vm.resident.held_kib.items() if kib)
            pins = kept_pins(vm.guest, vm.policy, states, room, others.bound, holding)
            if pins is not None and (vm.runs or not beyond(vm.guest, pins, self.state.cells)):
                self._set(vm, _placed(vm, pins), kept=True)

    def _choose(self, vm: Vm) -> None:
        room = self._room(vm)
        if vm.policy.policy in PLACING:
            sides = _placed(vm, self._place(vm, room))
        else:
            sides = _by_hand(vm) if vm.policy.policy == "manual" else _released(vm)
            self._check(vm, sides, room)
            sides = tuple(replace(side, pins=fitted(side.domain, side.pins)) for side in sides)
        self._set(vm, sides, kept=vm.policy.policy not in PLACING and _same(sides, vm.touched))

    def _place(self, vm: Vm, room: Room) -> Pinning:
        misfit = no_such_cell(vm.guest, vm.policy.host_cells or frozenset(), room)
        for policy in (*attempts(vm, room), vm.policy) if misfit is None else ():
            found = place(vm.guest, policy, room)
            if isinstance(found, Placement):
                return found.pinning
            misfit = found
        if misfit is None:
            raise ValueError("nothing was tried")
        raise self._refusal(vm, misfit)

    def _check(self, vm: Vm, sides: Sequence[Side], room: Room) -> None:
        for side in sides:
            pins = replace(side.pins, cpuset=None)
            misfit = check_pins(every_cell(vm.guest, [each.domain for each in sides]), pins, room)
            misfit = misfit or check_memory(vm.guest, pins, self.state.cells)
            if misfit is None and vm.wish and vm.wish.pins and side.limit not in (None, AUTO):
                # A set for all threads follows the host, but a number that is no CPU's is a mistake.
                misfit = check_pins(vm.guest, Pinning(cpuset=side.limit), room)
                misfit = misfit if misfit and misfit.code == "no_such_cpu" else None
            if misfit is not None:
                raise self._refusal(vm, misfit)

    def _refusal(self, vm: Vm, misfit: Misfit) -> FleetError:
        others = [each for each in self.wished if each.kept and each.policy.policy in PLACING and each.decided]
        text = misfit.text
        promised = self._promised(vm) if misfit.code in ("memory_short", "huge_pages_short") else {}
        if promised and vm.policy.policy in PLACING:
            text += (
                f" Not free is what VMs that are bound to these cells have not taken yet ({listed(list(promised))})."
            )
        if others and misfit.code in _LACKING and not self.repin:
            names = ", ".join(sorted(each.resident.name for each in others)[:5])
            text += f" Or give repin: true, so that this run may also move VMs that keep what they have ({names})."
        return FleetError(text, misfit.code, **{**misfit.facts, "vm": vm.resident.name})

    def _set(self, vm: Vm, sides: Tuple[Side, ...], kept: bool) -> None:
        uuid = vm.resident.uuid
        self._vms[uuid] = replace(vm, decided=sides, kept=kept)
        self._parts[uuid] = self._part(self._vms[uuid])

    def _part(self, vm: Vm) -> Others:
        """Return what a VM takes from others; until it is decided, no CPUs, but it may need some of its cells."""
        found = joined([side.others(self.state.cells) for side in vm.sides])
        claims: Tuple[Claim, ...] = ()
        if found.claims:
            cpus = frozenset(cpu for claim in found.claims for cpu in claim.cpus)
            blocked = frozenset(cpu for claim in found.claims for cpu in claim.blocked) - cpus
            claims = (Claim(vm.resident.name, vm.resident.uuid, vm.resident.live is not None, cpus, blocked),)
        if vm.decided is None:
            alone = (vm.policy.policy, vm.policy.emulator) == ("dedicated", "isolate")
            present = joined([side.others(self.state.cells) for side in vm.touched])
            stays = vm.policy.policy == "numa" and not self.repin
            bound = found.bound | (present.bound if stays else frozenset())
            found = replace(found, floating=found.floating or not alone, bound=bound)
        return replace(found, claims=claims)

    def _around(self, vm: Vm) -> Others:
        """Return what is taken when a VM is to be decided.

        A dedicated VM may own in one state what it owns in the other; one that shares CPUs finds those taken.
        """
        own = self._parts[vm.resident.uuid].claims if vm.policy.policy == "numa" else ()
        parts = [part for uuid, part in self._parts.items() if uuid != vm.resident.uuid]
        return joined([*parts, self._arriving, Others(claims=own)])

    def _room(self, vm: Vm) -> Room:
        live = vm.resident.live
        cells = without_vm(self.state.cells, vm.resident.held_kib, live.huge_pages_kib if live else None)
        return without(room_of(cells, self.state.cpus, self._around(vm)), total(self._promised(vm).values()))

    def _promised(self, vm: Vm) -> Dict[str, Amounts]:
        """Return the memory that other VMs have been promised, or count on if they stay, by name."""
        found = []
        for other in self.vms:
            held = other.held_kib
            sides = other.decided or (() if self.repin else other.touched)
            if other.resident.uuid != vm.resident.uuid and sides and (held or not other.runs):
                found.append((other.guest, sides[0].pins, held))
        amounts = by_vm(found, self.state.cells)
        return {guest.name: each for (guest, pins, held), each in zip(found, amounts) if each}


def _require_cpus(state: HostState, keep_free: FrozenSet[int]) -> None:
    known = frozenset(cpu for cell in state.cells for cpu in cell.cpus) | state.cpus.offline
    if not keep_free <= known:
        raise FleetError(
            f"CPU {format_cpuset(keep_free - known)} cannot be kept free: the host has {format_cpuset(known)} only. "
            "Name CPUs of this host.",
            "no_such_cpu",
            cpus=format_cpuset(keep_free - known),
        )


def _placed(vm: Vm, pins: Pinning) -> Tuple[Side, ...]:
    if vm.policy.emulator == "share":
        # Where it runs is known when all are decided; what one of the states has now says nothing.
        pins = replace(pins, emulator=None)
    return tuple(Side(side.domain, vm.policy, _fitted(side.domain, pins), side.limit) for side in vm.touched)


def _fitted(domain: Domain, pins: Pinning) -> Pinning:
    """Return the pins of threads and NUMA cells that a VM has in one of its states."""
    guest = guest_of(domain)
    cells = {cell.id for cell in guest.cells} if guest.numa else set()
    return replace(
        pins,
        vcpus=tuple(pin for pin in pins.vcpus if pin.vcpu in guest.vcpus),
        cells=tuple(cell for cell in pins.cells if cell.id in cells),
    )


def _by_hand(vm: Vm) -> Tuple[Side, ...]:
    """Return the states with the user's own pins; those that a policy had chosen become his own."""
    given = vm.wish.pins if vm.wish else None
    sides = []
    for side in vm.touched:
        alone = side.policy.emulator == "isolate"
        own = side.pins
        if side.placed:
            own = Pinning("manual", own.vcpus, own.emulator if alone else None, (), None, own.memory, own.cells)
        pins = replace(own if given is None else given, policy="manual", cpuset=None)
        sides.append(Side(side.domain, vm.policy, pins, side.limit if given is None else given.cpuset))
    return tuple(sides)


def _released(vm: Vm) -> Tuple[Side, ...]:
    """Return the states without pins; of a VM that had none, those of its other threads stay."""
    given = vm.wish.pins if vm.wish else None
    sides = []
    for side in vm.touched:
        free = side.policy.policy == "none"
        pins = replace(side.pins, vcpus=(), memory=None, cells=(), cpuset=None) if free else Pinning()
        memory = side.pins.memory if free and side.pins.memory and side.pins.memory.nodes == AUTO else None
        limit = side.limit if given is None else given.cpuset
        sides.append(Side(side.domain, vm.policy, replace(pins, policy="none", memory=memory), limit))
    return tuple(sides)


def _same(sides: Sequence[Side], present: Sequence[Side]) -> bool:
    """Whether nothing of the user's own changes."""

    def own(side: Side) -> Tuple[Pinning, Optional[str]]:
        pins = replace(side.pins, policy="", cpuset=None)
        # Memory that has been bound stays so until the next start.
        released = side.live and side.policy.policy == "none"
        return replace(pins, memory=None, cells=()) if released else pins, side.limit

    return [own(side) for side in sides] == [own(side) for side in present]
