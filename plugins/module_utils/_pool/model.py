# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Hosts, records and VMs as the planner of pools sees them.

``None`` means "not known", and what is not known constrains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Dict, FrozenSet, Mapping, Optional, Tuple

from .._cpu import PoolCpu

TSC_TOLERANCE_PPM = 250

# Component number, size and offset in bytes (CPUID leaf 0xD).
Xsave = Tuple[Tuple[int, int, int], ...]


@dataclass(frozen=True)
class Member:
    """A host by its inventory name and libvirt's UUID, which is its identity."""

    name: str
    uuid: str


@dataclass(frozen=True)
class Tsc:
    """The time stamp counter; ``scaling`` says whether a guest can have another frequency."""

    frequency_hz: int
    scaling: Optional[bool] = None

    def is_close(self, other: Tsc) -> bool:
        """Whether a guest does not notice the difference: within libvirt's TSC_TOLERANCE of 250 ppm."""
        return abs(self.frequency_hz - other.frequency_hz) * 1_000_000 <= TSC_TOLERANCE_PPM * other.frequency_hz


@dataclass(frozen=True)
class Traits:
    """What a host is, now or when a pool's CPU was proven on it.

    ``versions`` are those of libvirt, QEMU, the kernel and the microcode. ``features`` are all it can give to a guest.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    virt_type: Optional[str] = None
    features: Optional[FrozenSet[str]] = None
    address_bits: Optional[int] = None
    xsave: Optional[Xsave] = None
    tsc: Optional[Tsc] = None


@dataclass(frozen=True)
class Content:
    """What all members of a pool hold in common in one generation; members are ordered by UUID."""

    vendor: str
    definition: str
    members: Tuple[Member, ...]
    cpu: PoolCpu
    features: FrozenSet[str]

    @cached_property
    def uuids(self) -> FrozenSet[str]:
        """The members by their identity."""
        return frozenset(member.uuid for member in self.members)


@dataclass(frozen=True)
class Record:
    """What a host holds about its pool."""

    pool: str
    generation: int
    content: Content
    host: Member
    proven: Traits


@dataclass(frozen=True)
class Host:
    """A hypervisor. ``presets`` are the preset CPUs its hypervisor can give; ``record_error`` is a code and a message.

    ``features`` are missing where libvirt has no CPU model for guests there, ``cpu_xml`` too.
    """

    name: str
    uuid: str
    vendor: Optional[str] = None
    cpu_xml: Optional[str] = None
    traits: Traits = field(default_factory=Traits)
    machine_types: Optional[FrozenSet[str]] = None
    presets: Optional[FrozenSet[str]] = None
    record: Optional[Record] = None
    record_error: Optional[Tuple[str, str]] = None

    @property
    def member(self) -> Member:
        """The host as records name it."""
        return Member(self.name, self.uuid)

    @property
    def pool(self) -> Optional[str]:
        """The pool its record names."""
        return self.record.pool if self.record else None


@dataclass(frozen=True)
class Vm:
    """A domain. ``features`` and ``address_bits`` are those the guest sees, running or ``saved`` while it ran."""

    name: str
    host: str
    uuid: Optional[str] = None
    active: bool = True
    persistent: bool = True
    features: Optional[FrozenSet[str]] = None
    machine_type: Optional[str] = None
    address_bits: Optional[int] = None
    saved: bool = False

    @property
    def has_cpu(self) -> bool:
        """Whether the guest has got its CPU and keeps it: a saved one resumes with what it was started with."""
        return self.active or self.saved


@dataclass(frozen=True)
class Fleet:
    """The snapshot: hosts by name, VMs by the name of their host; ``seen`` are the hosts by UUID."""

    hosts: Mapping[str, Host]
    vms: Mapping[str, Tuple[Vm, ...]]

    @cached_property
    def seen(self) -> Dict[str, Host]:
        return {host.uuid: host for host in self.hosts.values()}

    def on(self, host: str) -> Tuple[Vm, ...]:
        """Return the domains of a host."""
        return self.vms.get(host, ())


@dataclass(frozen=True)
class Refusal:
    """Something that is not done. ``code`` is a stable word, ``facts`` are JSON values with the unit in the key."""

    code: str
    msg: str
    host: Optional[str] = None
    pool: Optional[str] = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_data(self) -> Dict[str, Any]:
        return {"code": self.code, "host": self.host, "pool": self.pool, "msg": self.msg, **self.facts}
