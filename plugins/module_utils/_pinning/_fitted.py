# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Pins made for all that a VM has, as one of its two states can have them."""

from __future__ import annotations

from dataclasses import replace

from .._domain import PLACING, Domain, Pinning
from ._ledger import policy_of


def releases(domain: Domain, pins: Pinning) -> bool:
    """Whether a policy chose the pins, but not one that this state of the VM follows: it has none and wants none."""
    return pins.policy in PLACING and policy_of(domain).policy == "none"


def fitted(domain: Domain, pins: Pinning) -> Pinning:
    """Return the pins of threads and NUMA cells that a state of a VM has, vCPUs that it can get included.

    libvirt refuses pins of I/O threads and cells that are not there, and drops those of such vCPUs. A state that the
    pins release keeps their ``cpuset``.
    """
    if releases(domain, pins):
        return Pinning(cpuset=pins.cpuset)
    cells = {cell.id for cell in domain.guest_cells}
    return replace(
        pins,
        vcpus=tuple(pin for pin in pins.vcpus if pin.vcpu < domain.vcpus.maximum),
        iothreads=tuple(pin for pin in pins.iothreads if pin.iothread in domain.iothreads),
        cells=tuple(cell for cell in pins.cells if cell.id in cells),
    )
