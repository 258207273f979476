# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The pins of one VM on one host, given what others have there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, FrozenSet, List, Mapping, Optional, Tuple, Union

from .._domain import AUTO, Pinning, PinningPolicy, is_placing
from .._pin_rules import HostCpus, is_given
from .._pinning import (
    Guest,
    Misfit,
    Others,
    Placement,
    Room,
    exclusive_cpus,
    fit_pinning,
    move_pinning,
    pinned,
    pinned_cpus,
    place,
    room_of,
)
from .._topology import Cell, PageSize, format_cpuset, parse_cpuset
from .cell_memory import Amounts, missing_pages, parts_of, take
from .model import Host, Vm
from .resources import UNLIMITED

# So that a CPU nobody should be pinned to is the last choice for a pin that has to go somewhere.
_LAST = 1 << 20


def wanted_pinning(vm: Vm, host: Host) -> Pinning:
    """Return the pins to be had on a host: at home those the VM had there, elsewhere those it has now."""
    at_home = vm.home.pins if vm.home is not None and vm.home.is_host(host) else None
    if at_home is None:
        return vm.own_pinning
    if is_given(at_home.cpuset, isolation(host)):
        at_home = replace(at_home, cpuset=None)
    # Pins of a time before somebody asked for none are not wanted any more.
    given_up = vm.policy.policy == "none" and vm.stored is not None and at_home.is_pinned
    return Pinning(cpuset=at_home.cpuset) if given_up else at_home


def host_cpus(host: Host) -> HostCpus:
    """Return how a host divides its CPUs."""
    return HostCpus(host.isolated_cpus, host.offline_cpus, host.machine_cpus, host.reserved_cpus)


def isolation(host: Host) -> FrozenSet[int]:
    """Return the CPUs that a host's isolation leaves to threads without pins, none where it isolates none."""
    return host_cpus(host).left(host.cpus or frozenset())


def shared_cpus(host: Host, owned: FrozenSet[int]) -> FrozenSet[int]:
    """Return the CPUs for threads that have none of their own."""
    return host_cpus(host).shared(host.cpus or frozenset(), owned)


@dataclass(frozen=True)
class Taken:
    """What the VMs on a host leave: ``usage`` counts the vCPUs pinned to each CPU."""

    others: Others
    amounts: Amounts
    usage: Mapping[int, int]

    @property
    def owned(self) -> FrozenSet[int]:
        """The CPUs that VMs have for themselves."""
        return frozenset(cpu for claim in self.others.claims for cpu in claim.all)


def seat(vm: Vm, host: Host, taken: Taken) -> Union[Pinning, Misfit]:
    """Return the pins of a VM on a host whose CPUs are known, or why it cannot have any.

    A policy makes new pins; the user's own are kept, and what others own is replaced. A ``cpuset`` is left as its user
    wants it.
    """
    found = _placed(vm, vm.guest, host, taken) if vm.guest and vm.is_placed else _kept(vm, host, taken)
    if vm.states and not isinstance(found, Misfit):
        # It was chosen for the memory with which the VM is to start again; what it runs with comes first.
        return _short(vm.running, found, host, taken) or found
    return found


def _placed(vm: Vm, guest: Guest, host: Host, taken: Taken) -> Union[Pinning, Misfit]:
    room = _room(host, taken, vm.huge_pages_kib)
    pins = vm.home.pins if vm.home is not None and vm.home.is_host(host) else None
    if pins is not None:
        before = _as_before(vm.policy, pins, room, host)
        found = place(guest, before[0], before[1]) if before else None
        if isinstance(found, Placement):
            return found.pinning
    placed = place(guest, vm.policy, room)
    return placed.pinning if isinstance(placed, Placement) else placed


def _room(host: Host, taken: Taken, page_kib: Optional[int]) -> Room:
    cells = host.cells or ()
    other, described = missing_pages(cells), any(cell.memory_kib for cell in cells)

    def left(cell: Cell) -> Cell:
        huge = (PageSize(page_kib, 0, max(0, taken.amounts.get((cell.id, page_kib), other))),) if page_kib else ()
        free = max(0, taken.amounts[cell.id, None])
        return replace(cell, memory_kib=cell.memory_kib if described else UNLIMITED, free_kib=free, pages=huge)

    return room_of([left(cell) for cell in cells], host_cpus(host), taken.others)


def _as_before(policy: PinningPolicy, pins: Pinning, room: Room, host: Host) -> Optional[Tuple[PinningPolicy, Room]]:
    """Return policy and room narrowed to the CPUs or cells of earlier pins, ``None`` where these say nothing."""
    if policy.policy == "dedicated":
        cpus, blocked = exclusive_cpus(policy, pins, host.cells or ())
        cells = tuple(replace(cell, dedicated=cell.dedicated & (cpus | blocked)) for cell in room.cells)
        return (policy, replace(room, cells=cells)) if cpus else None
    near = frozenset(cpu for pin in pins.vcpus for cpu in parse_cpuset(pin.cpus))
    numbers = frozenset(cell.id for cell in host.cells or () if cell.cpus & near)
    numbers = numbers if policy.host_cells is None else numbers & policy.host_cells
    return (replace(policy, host_cells=numbers), room) if numbers else None


def _kept(vm: Vm, host: Host, taken: Taken) -> Union[Pinning, Misfit]:
    wanted, cpus = wanted_pinning(vm, host), host.cpus or frozenset()
    if is_placing(vm.stored):
        # What it asks for is not known, so that its pins can only be carried over.
        wanted = vm.pinning
    allowed, isolated = cpus - taken.owned, host.isolated_cpus if isolation(host) else frozenset()
    away = _off_isolated(wanted, isolated, cpus) if isolated & pinned_cpus(wanted) else wanted
    misfit = fit_pinning(away, allowed, host.nodes)
    if misfit is not None:
        return _because_owned(misfit, cpus, taken)
    pins = move_pinning(away, allowed, _reluctance(host, taken))
    mixed = _spread(pins) & isolated
    if mixed:
        return _because_isolated(pins, mixed, len(allowed - isolated))
    if not shared_cpus(host, taken.owned):
        return no_shared_cpu(host)
    short = _short(vm, pins, host, taken)
    return pins if short is None else short


def _sets(pins: Pinning) -> List[FrozenSet[int]]:
    """Return the CPUs of each thread that has several."""
    return [cpus for cpus in (parse_cpuset(text) for text in pinned(pins).values() if text != AUTO) if len(cpus) > 1]


def _spread(pins: Pinning) -> FrozenSet[int]:
    return frozenset(cpu for cpus in _sets(pins) for cpu in cpus)


def _off_isolated(pins: Pinning, isolated: FrozenSet[int], cpus: FrozenSet[int]) -> Pinning:
    """Return the pins with CPUs that do not exist for isolated ones in sets of several, so that others replace them."""
    free = max(cpus | pinned_cpus(pins)) + 1
    new = {cpu: free + index for index, cpu in enumerate(sorted(isolated & _spread(pins)))}

    def off(text: str) -> str:
        several = text != AUTO and len(parse_cpuset(text)) > 1
        return format_cpuset(new.get(cpu, cpu) for cpu in parse_cpuset(text)) if several else text

    return replace(
        pins,
        vcpus=tuple(replace(pin, cpus=off(pin.cpus)) for pin in pins.vcpus),
        iothreads=tuple(replace(pin, cpus=off(pin.cpus)) for pin in pins.iothreads),
        emulator=off(pins.emulator) if pins.emulator else None,
    )


def _because_isolated(pins: Pinning, mixed: FrozenSet[int], free: int) -> Misfit:
    text = (
        f"has {free} CPUs that are neither isolated nor another VM's, too few for pins to several CPUs: isolated ones "
        "are for pins to one CPU, for the scheduler does not spread threads over them"
    )
    return Misfit(
        "policy_isolation", text, {"cpus": free, "needed_cpus": len(_spread(pins)), "isolated": sorted(mixed)}
    )


def _because_owned(misfit: Misfit, cpus: FrozenSet[int], taken: Taken) -> Misfit:
    owners = sorted({claim.vm for claim in taken.others.claims})
    if misfit.code != "pinning" or not owners:
        return misfit
    needed, free = misfit.facts["needed_cpus"], len(cpus - taken.owned)
    text = (
        f"has {free} CPUs that no VM has for itself, the VM is pinned to {needed} different ones "
        f"({format_cpuset(taken.owned)} belong to {', '.join(owners)})"
    )
    return Misfit("pinning", text, {"cpus": free, "needed_cpus": needed, "owners": owners})


def _reluctance(host: Host, taken: Taken) -> Dict[int, int]:
    """Return how little each CPU is wanted for a pin: by the pins it has, and last if it is not for VMs or isolated."""
    usable = host.cpus if host.machine_cpus is None else host.machine_cpus
    return {
        cpu: taken.usage.get(cpu, 0) + _LAST * (cpu in host.isolated_cpus) + 2 * _LAST * (cpu not in (usable or ()))
        for cpu in host.cpus or ()
    }


def no_shared_cpu(host: Host) -> Misfit:
    """Return that a host has no CPU left for threads without pins."""
    text = "has no CPU for threads without pins, because VMs have all of them for themselves"
    return Misfit("no_shared_cpu", text, {"cpus": len(host.cpus or ())})


def _short(vm: Vm, pins: Pinning, host: Host, taken: Taken) -> Optional[Misfit]:
    """Return that the cells to which the memory is bound lack some, or the host huge pages."""
    cells = host.cells or ()
    parts, other = parts_of(vm.guest, pins, cells), missing_pages(cells)
    for part in parts:
        if not take(taken.amounts, [part], other)[1] or not take(taken.amounts, parts, other)[1]:
            free = sum(max(0, taken.amounts.get((cell, part.page_kib), other)) for cell in part.cells)
            unit = "KiB" if part.page_kib is None else f"huge pages of {part.page_kib} KiB"
            where = f"in NUMA cell {format_cpuset(part.cells)}"
            facts = {"cells": format_cpuset(part.cells), "needed": part.amount, "free": free}
            if part.page_kib is None:
                return Misfit("memory_short", f"has {free} {unit} left {where}, the VM needs {part.amount}", facts)
            text = f"has {free} {unit} free {where}, the VM needs {part.amount}"
            return Misfit("huge_pages_short", text, {**facts, "size_kib": part.page_kib})
    return None
