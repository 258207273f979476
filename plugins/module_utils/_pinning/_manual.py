# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""Whether a host can have pins that a user chose; they are judged, never changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, FrozenSet, Iterable, List, Optional, Sequence, Tuple

from .._domain import AUTO, Domain, Pinning
from .._domain._pinning_policy import CHOICES
from .._topology import Cell, format_cpuset, parse_cpuset
from ._guest import Guest, guest_of
from ._move import Misfit, bound_nodes
from ._promise import beyond
from ._room import Room

# A thread in words, and the CPUs it may run on.
Pin = Tuple[str, FrozenSet[int]]


def check_pins(guest: Guest, pins: Pinning, room: Room) -> Optional[Misfit]:
    """Return the first reason against a VM's pins on a host, or ``None``.

    Codes: ``bad_pins``, ``no_such_vcpu``, ``no_such_iothread``, ``no_such_guest_cell``, ``no_such_cell``,
    ``memory_short``, ``no_such_cpu``, ``cpu_offline``, ``cpu_owned``, ``policy_isolation`` and ``cpu_not_allowed``.
    """
    wanted = _pins(pins)
    checks: List[Callable[[], Optional[Misfit]]] = [
        lambda: _modes(guest, pins),
        lambda: _threads(guest, pins),
        lambda: _guest_cells(guest, pins),
        lambda: _cells(guest, pins, room),
        lambda: _without_memory(guest, pins, room),
        lambda: _exists(guest, wanted, room),
        lambda: _owned(guest, wanted, room),
        lambda: _isolated(guest, wanted, room),
        lambda: _allowed(guest, wanted, room),
    ]
    return next((found for found in (check() for check in checks) if found is not None), None)


def _pins(pins: Pinning) -> Tuple[Pin, ...]:
    named = [(f"vCPU {pin.vcpu}", pin.cpus) for pin in pins.vcpus]
    named += [(f"I/O thread {pin.iothread}", pin.cpus) for pin in pins.iothreads]
    named += [("the emulator", pins.emulator or AUTO), ("all other threads", pins.cpuset or AUTO)]
    return tuple((thread, parse_cpuset(cpus)) for thread, cpus in named if cpus != AUTO)


def check_memory(guest: Guest, pins: Pinning, cells: Sequence[Cell]) -> Optional[Misfit]:
    """Return that the nodes to which a VM's memory is bound can never hold it: ``memory_short``, ``huge_pages_short``.

    What is only not free now is no reason.
    """
    short = beyond(guest, pins, cells)
    if not short:
        return None
    size, nodes = guest.huge_pages_kib, bound_nodes(pins)
    missing = sum(needed - there for needed, there in short.values())
    unit = "KiB" if size is None else f"huge pages of {size} KiB"
    text = (
        f"VM {guest.name} is bound to NUMA cell {format_cpuset(nodes)}, where {missing} {unit} would be missing "
        "even if nobody else had any. Bind it to more cells, or make it smaller."
    )
    facts = {"vm": guest.name, "cells": sorted(nodes), "missing": missing}
    if size is None:
        return Misfit("memory_short", text, facts)
    return Misfit("huge_pages_short", text, {**facts, "size_kib": size})


def every_cell(guest: Guest, states: Sequence[Domain]) -> Guest:
    """Return a guest with the NUMA cells that it has in one of its states."""
    known = {cell.id: cell for cell in guest.cells} if guest.numa else {}
    for domain in states:
        other = guest_of(domain)
        known = {**{cell.id: cell for cell in other.cells if other.numa}, **known}
    return replace(guest, cells=tuple(known.values()), numa=True) if known else guest


def _modes(guest: Guest, pins: Pinning) -> Optional[Misfit]:
    bound = [("its memory", pins.memory.mode, pins.memory.nodes)] if pins.memory else []
    bound += [(f"its cell {cell.id}", cell.mode, cell.node) for cell in pins.cells]
    for what, mode, nodes in bound:
        if mode not in CHOICES["memory_mode"]:
            known = ", ".join(CHOICES["memory_mode"])
            text = f"VM {guest.name} is to bind {what} with the mode {mode!r}. Use one of: {known}."
            return Misfit("bad_pins", text, {"vm": guest.name, "mode": mode})
        if mode == "preferred" and nodes != AUTO and len(parse_cpuset(nodes)) != 1:
            text = (
                f"VM {guest.name} is to prefer NUMA cell {nodes or 'none'} for {what}, but it can prefer one only. "
                "Name one cell, or use the mode interleave."
            )
            return Misfit("bad_pins", text, {"vm": guest.name, "mode": mode, "nodes": nodes})
    return None


def _guest_cells(guest: Guest, pins: Pinning) -> Optional[Misfit]:
    known = [cell.id for cell in guest.cells] if guest.numa else []
    unknown = sorted({cell.id for cell in pins.cells} - set(known))
    if not unknown:
        return None
    text = (
        f"VM {guest.name} has pins for its own NUMA cell {_numbers(unknown)}, but has {_numbers(known) or 'none'}. "
        "Remove these pins, or give the VM such cells."
    )
    return Misfit("no_such_guest_cell", text, {"vm": guest.name, "cells": unknown, "known": known})


def _without_memory(guest: Guest, pins: Pinning, room: Room) -> Optional[Misfit]:
    bare = bound_nodes(pins) & {cell.id for cell in room.cells if not cell.has_memory}
    if not bare:
        return None
    text = (
        f"VM {guest.name} is to have memory of NUMA cell {format_cpuset(bare)}, which never has any. "
        "Name cells that have memory."
    )
    return Misfit("memory_short", text, {"vm": guest.name, "cells": sorted(bare)})


def _numbers(numbers: Iterable[int]) -> str:
    # A set has no numbers below zero.
    return ", ".join(str(number) for number in sorted(numbers))


def _threads(guest: Guest, pins: Pinning) -> Optional[Misfit]:
    unknown = sorted({pin.vcpu for pin in pins.vcpus if not 0 <= pin.vcpu < guest.maximum})
    if unknown:
        text = (
            f"VM {guest.name} has pins for vCPU {_numbers(unknown)}, but can have {guest.maximum} vCPUs only, "
            "numbered from 0. Remove these pins."
        )
        return Misfit("no_such_vcpu", text, {"vcpus": unknown, "maximum": guest.maximum})
    unknown = sorted({pin.iothread for pin in pins.iothreads} - set(guest.iothreads))
    if unknown:
        text = (
            f"VM {guest.name} has pins for I/O thread {_numbers(unknown)}, but has "
            f"{_numbers(guest.iothreads) or 'none'}. Remove these pins, or add the threads."
        )
        return Misfit("no_such_iothread", text, {"iothreads": unknown, "known": list(guest.iothreads)})
    return None


def _cells(guest: Guest, pins: Pinning, room: Room) -> Optional[Misfit]:
    return no_such_cell(guest, bound_nodes(pins), room)


def no_such_cell(guest: Guest, wanted: FrozenSet[int], room: Room) -> Optional[Misfit]:
    """Return that the host lacks NUMA cells, or ``None`` if it has all."""
    known = frozenset(cell.id for cell in room.cells)
    if wanted <= known:
        return None
    text = (
        f"VM {guest.name} is to use NUMA cell {format_cpuset(wanted - known)}, but the host has "
        f"{format_cpuset(known) or 'none'}. Name cells of the host."
    )
    return Misfit("no_such_cell", text, {"cells": sorted(wanted - known), "known": sorted(known)})


def _exists(guest: Guest, wanted: Tuple[Pin, ...], room: Room) -> Optional[Misfit]:
    missing = [(thread, cpus - room.cpus - room.offline) for thread, cpus in wanted]
    offline = [(thread, cpus & room.offline) for thread, cpus in wanted]
    if any(cpus for thread, cpus in missing):
        text = f"the host has no such CPU; it has {format_cpuset(room.cpus | room.offline)}. Pin to CPUs that exist."
        return _misfit("no_such_cpu", guest, missing, text)
    text = "that is offline. Bring it online, or pin to another CPU."
    return _misfit("cpu_offline", guest, offline, text)


def _owned(guest: Guest, wanted: Tuple[Pin, ...], room: Room) -> Optional[Misfit]:
    taken = [(thread, cpus & frozenset(room.owners)) for thread, cpus in wanted]
    names = sorted({room.owners[cpu] for thread, cpus in taken for cpu in cpus})
    text = f"VM {', '.join(names)} has it for itself. Pin to other CPUs, or move one of the VMs away."
    return _misfit("cpu_owned", guest, taken, text, owners=names)


def _isolated(guest: Guest, wanted: Tuple[Pin, ...], room: Room) -> Optional[Misfit]:
    mixed = [(thread, cpus & room.isolated) for thread, cpus in wanted if len(cpus) > 1]
    text = (
        "the host isolates it, so the scheduler would not spread a set of CPUs there. Pin the thread to one CPU, or to "
        f"CPUs that are not isolated ({format_cpuset(room.cpus - room.isolated) or 'there are none'})."
    )
    return _misfit("policy_isolation", guest, mixed, text)


def _allowed(guest: Guest, wanted: Tuple[Pin, ...], room: Room) -> Optional[Misfit]:
    outside = [(thread, cpus) for thread, cpus in wanted if not cpus & room.usable]
    text = f"the host lets VMs use {format_cpuset(room.usable) or 'none'} only. Pin to those, or change machine.slice."
    return _misfit("cpu_not_allowed", guest, outside, text)


def _misfit(code: str, guest: Guest, pins: List[Pin], cause: str, **facts: object) -> Optional[Misfit]:
    found = [(thread, cpus) for thread, cpus in pins if cpus]
    if not found:
        return None
    words = "; ".join(f"{thread} on {format_cpuset(cpus)}" for thread, cpus in found)
    cpus = frozenset(cpu for thread, each in found for cpu in each)
    text = f"VM {guest.name} is pinned to CPU {format_cpuset(cpus)} ({words}), but {cause}"
    return Misfit(code, text, {"vm": guest.name, "cpus": format_cpuset(cpus), **facts})
