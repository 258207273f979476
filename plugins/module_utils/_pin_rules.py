# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What follows from one VM or one host alone about pins, for those who choose none: they need not load what does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import FrozenSet, Optional

from ._domain import AUTO, PLACING, Domain, Pinning, PinningPolicy
from ._topology import parse_cpuset


def policy_of(domain: Domain) -> PinningPolicy:
    """Return the policy stored with a VM; without one its pins are the user's own, if it has any."""
    return policy_or_own(domain.policy.pinning if domain.policy else None, domain.own_pinning)


def policy_or_own(stored: Optional[PinningPolicy], own: Pinning) -> PinningPolicy:
    """Return a stored policy; where there is none, pins are the user's ``own``."""
    return stored or PinningPolicy("manual" if own.is_pinned else "none")


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


@dataclass(frozen=True)
class HostCpus:
    """How a host divides its CPUs. ``machine`` are those that systemd lets VMs use, ``None`` where it does not say.

    ``isolated`` are balanced by nobody, ``offline`` do not run, ``reserved`` are never a VM's own.
    """

    isolated: FrozenSet[int] = frozenset()
    offline: FrozenSet[int] = frozenset()
    machine: Optional[FrozenSet[int]] = None
    reserved: FrozenSet[int] = frozenset()

    def usable(self, online: FrozenSet[int]) -> FrozenSet[int]:
        """Return those of the CPUs that run which VMs may use."""
        return online if self.machine is None else online & self.machine

    def left(self, online: FrozenSet[int]) -> FrozenSet[int]:
        """Return the CPUs that isolation leaves to threads without pins, none where nothing is isolated."""
        return self.usable(online) - self.isolated if online & self.isolated else frozenset()

    def shared(self, online: FrozenSet[int], owned: FrozenSet[int]) -> FrozenSet[int]:
        """Return the CPUs for threads that have none of their own; isolated ones where VMs may use no others."""
        usable = self.usable(online)
        return (usable - self.isolated or usable) - owned


def is_given(cpuset: Optional[str], left: FrozenSet[int]) -> bool:
    """Whether a ``cpuset`` without a record only says what isolation ``left`` to VMs, as a migration gives it."""
    return cpuset not in (None, AUTO) and parse_cpuset(cpuset or "") == left
