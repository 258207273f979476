# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""What VMs take from a host, where only their pins are known and not their definitions: in a fleet snapshot, or in a
plan that has not been carried out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, Optional, Sequence, Tuple

from .._domain import AUTO, Pinning, PinningPolicy, is_placing
from .._topology import Cell, parse_cpuset
from ._isolation_guard import ThreadPin
from ._ledger import Claim, exclusive_cpus
from ._room import Others
from ._threads import EMULATOR, IOTHREAD, VCPU, pinned


@dataclass(frozen=True)
class Tenant:
    """A VM with the pins it has, or is to have, on a host.

    Those of a VM whose policy is ``none`` or ``manual`` are its user's own. ``vcpus`` and ``iothreads`` are the numbers
    of its threads, ``None`` where they are not known.
    """

    name: str
    uuid: str
    running: bool
    policy: PinningPolicy
    pins: Pinning
    vcpus: Optional[Tuple[int, ...]] = None
    iothreads: Tuple[int, ...] = ()


def others_of_tenant(tenant: Tenant, cells: Sequence[Cell]) -> Others:
    """Return what one VM takes from a host with these cells."""
    chosen = is_placing(tenant.policy)
    cpus, blocked = exclusive_cpus(tenant.policy, tenant.pins, cells)
    crowd = _crowd(tenant, cells) if tenant.policy.policy == "numa" else {}
    alone = bool(cpus) and tenant.policy.emulator == "isolate"
    return Others(
        claims=(Claim(tenant.name, tenant.uuid, tenant.running, cpus, blocked),) if cpus else (),
        pins=() if chosen else _pins(tenant),
        floating=not (alone if chosen else pins_all(tenant.pins, tenant.vcpus, tenant.iothreads)),
        bound=frozenset(crowd),
        crowd=crowd,
    )


def joined(parts: Iterable[Others]) -> Others:
    """Return what several VMs take together."""
    known = list(parts)
    crowd: Dict[int, int] = {}
    for part in known:
        for cell, vcpus in part.crowd.items():
            crowd[cell] = crowd.get(cell, 0) + vcpus
    return Others(
        claims=tuple(claim for part in known for claim in part.claims),
        pins=tuple(pin for part in known for pin in part.pins),
        floating=any(part.floating for part in known),
        bound=frozenset(cell for part in known for cell in part.bound),
        crowd=crowd,
    )


def _crowd(tenant: Tenant, cells: Sequence[Cell]) -> Dict[int, int]:
    """Return how many of a VM's vCPUs run in each cell; one that may run in several counts in each."""
    pins = [parse_cpuset(pin.cpus) for pin in tenant.pins.vcpus]
    found = {cell.id: sum(bool(cell.cpus & pin) for pin in pins) for cell in cells}
    return {cell: vcpus for cell, vcpus in found.items() if vcpus}


def _pins(tenant: Tenant) -> Tuple[ThreadPin, ...]:
    """Return the pins of single threads; a ``cpuset`` for all of them follows the host."""
    return tuple(
        ThreadPin(tenant.name, tenant.uuid, tenant.running, kind, number, parse_cpuset(cpus))
        for (kind, number), cpus in pinned(tenant.pins).items()
        if cpus != AUTO
    )


def pins_all(pins: Pinning, vcpus: Optional[Iterable[int]], iothreads: Iterable[int]) -> bool:
    """Whether every thread has a pin; where its vCPUs are not known (``None``), a VM may have more of them."""
    if vcpus is None:
        return False
    threads = {(VCPU, number) for number in vcpus} | {(IOTHREAD, number) for number in iothreads} | {(EMULATOR, None)}
    return threads <= set(pinned(pins))
