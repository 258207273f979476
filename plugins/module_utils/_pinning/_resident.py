# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""What is known of the VMs of one host, what is wished for them, and what they are to have."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import FrozenSet, Mapping, Optional, Tuple

from .._domain import Domain, Following, Pinning, PinningPolicy
from .._pin_rules import HostCpus
from .._topology import Cell
from ._ledger import Claim
from ._threads import Thread

BOTH, LIVE, DEFINITION = "both", "live", "definition"


@dataclass(frozen=True)
class Resident:
    """A VM of the host: its live XML if it runs, its definition unless it is transient; one of them is there.

    ``held_kib`` is the memory that its process has in each NUMA cell, empty if that is not known.
    """

    live: Optional[Domain]
    defined: Optional[Domain]
    held_kib: Mapping[int, int] = field(default_factory=dict)

    @property
    def domain(self) -> Domain:
        """The VM as it runs, or else as it is defined."""
        found = self.live or self.defined
        if found is None:
            raise ValueError("a VM neither runs nor is defined")
        return found

    @property
    def name(self) -> str:
        """The VM's name."""
        return self.domain.name

    @property
    def uuid(self) -> str:
        """The VM's UUID."""
        return self.domain.uuid


@dataclass(frozen=True)
class HostState:
    """The NUMA cells of a host, with free memory and pages as they are now, and how it divides its CPUs."""

    cells: Tuple[Cell, ...]
    cpus: HostCpus


@dataclass(frozen=True)
class Wish:
    """How the pins of a VM are to be chosen.

    ``pins`` are the user's own: with ``manual`` all of them, with ``none`` only the ``cpuset``; ``None`` means those
    that the VM has. ``apply_to`` is ``both``, ``live`` or ``definition``; what it leaves out counts as it is.
    """

    uuid: str
    policy: PinningPolicy
    pins: Optional[Pinning] = None
    apply_to: str = BOTH


@dataclass(frozen=True)
class Aim:
    """What one VM is to have.

    ``policy`` is to be stored, ``None`` if nobody asked for one. ``defined`` is for the definition, ``live`` has a pin
    for every thread that runs now, also for those that are ``floating``; each is ``None`` where the VM has no such
    state. What of the memory in ``live`` cannot be had at once, ``pending`` tells. ``kept`` says that no CPU or cell
    was chosen anew. ``cells`` are the host's that hold the VM; ``cpus`` and ``blocked`` are as in ``Claim``.
    """

    uuid: str
    name: str
    wished: bool
    kept: bool
    policy: Optional[PinningPolicy]
    defined: Optional[Pinning]
    live: Optional[Pinning]
    following_defined: Optional[Following] = None
    following_live: Optional[Following] = None
    floating: FrozenSet[Thread] = frozenset()
    cells: Tuple[int, ...] = ()
    cpus: FrozenSet[int] = frozenset()
    blocked: FrozenSet[int] = frozenset()


@dataclass(frozen=True)
class HostAim:
    """What the VMs of a host are to have: those wished for, and those that must follow; the rest stays as it is.

    ``claims`` is the ledger afterwards, by name; ``shared`` are the CPUs that threads without one of their own get.
    """

    aims: Tuple[Aim, ...]
    claims: Tuple[Claim, ...]
    warnings: Tuple[str, ...] = ()
    shared: FrozenSet[int] = frozenset()
