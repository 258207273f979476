# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""Whether a host can have pins that a user chose; they are judged, never changed."""

from __future__ import annotations

from typing import Callable, FrozenSet, List, Optional, Tuple

from .._domain import Pinning
from .._topology import format_cpuset, parse_cpuset
from ._guest import Guest
from ._move import AUTO, Misfit
from ._room import Room

# A thread in words, and the CPUs it may run on.
Pin = Tuple[str, FrozenSet[int]]


def check_pins(guest: Guest, pins: Pinning, room: Room) -> Optional[Misfit]:
    """Return the first reason against a VM's pins on a host, or ``None``.

    Codes: ``no_such_vcpu``, ``no_such_iothread``, ``no_such_cell``, ``no_such_cpu``, ``cpu_offline``, ``cpu_owned``,
    ``policy_isolation`` and ``cpu_not_allowed``.
    """
    wanted = _pins(pins)
    checks: List[Callable[[], Optional[Misfit]]] = [
        lambda: _threads(guest, pins),
        lambda: _cells(guest, pins, room),
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


def _threads(guest: Guest, pins: Pinning) -> Optional[Misfit]:
    beyond = [pin.vcpu for pin in pins.vcpus if pin.vcpu >= guest.maximum]
    if beyond:
        text = (
            f"VM {guest.name} has pins for vCPU {format_cpuset(beyond)}, but can have {guest.maximum} vCPUs only, "
            "numbered from 0. Remove these pins."
        )
        return Misfit("no_such_vcpu", text, {"vcpus": sorted(beyond), "maximum": guest.maximum})
    unknown = sorted({pin.iothread for pin in pins.iothreads} - set(guest.iothreads))
    if unknown:
        text = (
            f"VM {guest.name} has pins for I/O thread {format_cpuset(unknown)}, but has "
            f"{format_cpuset(guest.iothreads) or 'none'}. Remove these pins, or add the threads."
        )
        return Misfit("no_such_iothread", text, {"iothreads": unknown, "known": list(guest.iothreads)})
    return None


def _cells(guest: Guest, pins: Pinning, room: Room) -> Optional[Misfit]:
    texts = [node.node for node in pins.cells] + ([pins.memory.nodes] if pins.memory else [])
    wanted = {cell for text in texts if text != AUTO for cell in parse_cpuset(text)}
    return no_such_cell(guest, frozenset(wanted), room)


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
