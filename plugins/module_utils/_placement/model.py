# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The fleet as values: what the planner knows of CPUs, hosts and VMs.

``None`` always means "not known", and what is not known constrains nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import FrozenSet, Optional, Tuple

from .._domain import Following, Pinning, PinningPolicy, is_placing, own_pins
from .._pin_rules import policy_or_own
from .._pinning import Guest
from .._topology import Cell

# States in which a domain has no process and no memory.
INACTIVE_STATES = ("shutoff",)

# States in which the guest executes; two such domains with one UUID write to the same disks.
EXECUTING_STATES = ("running", "blocked")

# QEMU migrates these; a domain that crashed or shuts down has to end first.
MOVABLE_STATES = ("running", "blocked", "paused", "pmsuspended", "idle", "nostate")


_own = lru_cache(maxsize=4096)(own_pins)


def has_pins(pinning: Pinning) -> bool:
    """Whether any thread or memory has a pin; a ``cpuset`` for all threads is none."""
    return pinning.is_pinned or pinning.emulator is not None or bool(pinning.iothreads)


@dataclass(frozen=True)
class Cpu:
    """An effective CPU: of a host what QEMU can offer, of a VM what the guest sees."""

    id: str
    vendor: Optional[str] = None
    model: Optional[str] = None
    features: Optional[FrozenSet[str]] = None
    address_bits: Optional[int] = None


@dataclass(frozen=True)
class Shape:
    """Sockets, dies, cores and threads of a host or a guest."""

    sockets: int = 1
    dies: int = 1
    cores: int = 1
    threads: int = 1

    @property
    def cpus(self) -> int:
        return self.sockets * self.dies * self.cores * self.threads


@dataclass(frozen=True)
class Host:
    """A hypervisor. Memory in KiB, link speed in MiB/s, ``collected_s`` in seconds of Unix time."""

    name: str
    uuid: Optional[str] = None
    pool: Optional[str] = None
    maintenance: bool = False
    cpu: Optional[Cpu] = None
    shape: Optional[Shape] = None
    cells: Optional[Tuple[Cell, ...]] = None
    memory_kib: Optional[int] = None
    reserved_memory_kib: int = 0
    reserved_cpus: FrozenSet[int] = frozenset()
    isolated_cpus: FrozenSet[int] = frozenset()
    offline_cpus: FrozenSet[int] = frozenset()
    machine_cpus: Optional[FrozenSet[int]] = None
    cpu_overcommit: Optional[float] = None
    count_threads_as_cores: bool = True
    machine_types: Optional[FrozenSet[str]] = None
    networks: Optional[FrozenSet[str]] = None
    storage: Optional[FrozenSet[str]] = None
    link_mib_s: Optional[float] = None
    migration_uri: Optional[str] = None
    migration_address: Optional[str] = None
    collected_s: Optional[int] = None

    @cached_property
    def cpus(self) -> Optional[FrozenSet[int]]:
        """The CPU numbers that exist, or ``None`` where the cells do not say."""
        # A host has at least one CPU, so cells without any only do not name them.
        return frozenset(cpu for cell in self.cells or () for cpu in cell.cpus) or None

    @cached_property
    def nodes(self) -> Optional[FrozenSet[int]]:
        """The NUMA nodes that exist, or ``None`` where they are not known."""
        return frozenset(cell.id for cell in self.cells) if self.cells else None

    def is_called(self, reference: Optional[str]) -> bool:
        """Whether a person means this host by a name or UUID."""
        return reference is not None and reference in (self.name, self.uuid)


@dataclass(frozen=True)
class Home:
    """Where a VM belongs, and the pins it had there; ``uuid`` identifies the host, ``name`` is for people."""

    uuid: Optional[str] = None
    name: Optional[str] = None
    pins: Optional[Pinning] = None

    def is_host(self, host: Host) -> bool:
        """Whether this is the home; a UUID on both sides decides, since an inventory may rename hosts."""
        if self.uuid is not None and host.uuid is not None:
            return self.uuid == host.uuid
        return self.name == host.name


@dataclass(frozen=True)
class Vm:
    """A domain seen on a host. ``host`` is the host's name, memory is the maximum.

    ``stored`` is the pinning policy stored with it and ``following`` what its XML says of pins that follow the host.
    ``guest`` is what it asks of a host's CPUs and cells, of VMs that are ``tied`` and described so far.
    ``states`` are the VM as it runs and as it is defined, where these ask for different things; then the rest is what
    both ask for together.
    ``keep_apart`` and ``keep_together`` are names of groups; of VMs, the one with the higher ``priority`` matters more.
    ``twins`` are hosts on which an active domain with the same UUID was seen too: a migration under way or its
    leftover.
    """

    name: str
    host: str
    uuid: Optional[str] = None
    state: str = "running"
    reason: Optional[str] = None
    job: Optional[str] = None
    memory_kib: Optional[int] = None
    overhead_kib: int = 0
    vcpus: Optional[int] = None
    shape: Optional[Shape] = None
    cpu: Optional[Cpu] = None
    pinning: Pinning = field(default_factory=Pinning)
    stored: Optional[PinningPolicy] = None
    following: Optional[Following] = None
    guest: Optional[Guest] = None
    huge_pages_kib: Optional[int] = None
    machine_type: Optional[str] = None
    networks: FrozenSet[str] = frozenset()
    storage: FrozenSet[str] = frozenset()
    migration: str = "automatic"
    allowed_hosts: Tuple[str, ...] = ()
    home: Optional[Home] = None
    keep_apart: FrozenSet[str] = frozenset()
    keep_together: FrozenSet[str] = frozenset()
    priority: int = 0
    dirty_mib_s: Optional[float] = None
    blockers: Tuple[str, ...] = ()
    twins: Tuple[str, ...] = ()
    states: Tuple[Vm, ...] = ()

    @property
    def active(self) -> bool:
        return self.state not in INACTIVE_STATES

    @cached_property
    def own_pinning(self) -> Pinning:
        """The pins that its user or its policy chose."""
        if self.following is None or is_placing(self.stored):
            return self.pinning
        return _own(self.pinning, self.following, self.active)

    @cached_property
    def policy(self) -> PinningPolicy:
        """How its pins are chosen: as stored, else pins are its user's own."""
        return policy_or_own(self.stored, self.own_pinning)

    @cached_property
    def is_placed(self) -> bool:
        """Whether each host makes pins for it by its policy."""
        return self.guest is not None and is_placing(self.stored)

    @cached_property
    def tied(self) -> bool:
        """Whether it takes certain CPUs, cells or huge pages of a host; all others take what is left."""
        if any(state.tied for state in self.states):
            return True
        at_home = self.home.pins if self.home is not None else None
        pinned = has_pins(self.own_pinning) or (at_home is not None and has_pins(at_home))
        return pinned or is_placing(self.stored) or self.huge_pages_kib is not None

    @property
    def running(self) -> Vm:
        """The VM as it runs, or else as it is defined."""
        return self.states[0] if self.states else self

    @property
    def key(self) -> str:
        """The identity within a snapshot."""
        return self.uuid or f"{self.host}/{self.name}"

    @property
    def sent_kib(self) -> int:
        """What a move sends: of a VM that is off, only its definition."""
        return (self.memory_kib or 0) if self.active else 0

    @property
    def total_kib(self) -> int:
        """What the VM can take from its host."""
        return (self.memory_kib or 0) + self.overhead_kib


@dataclass(frozen=True)
class Snapshot:
    """The fleet at one moment; hosts and VMs are ordered by name.

    ``leftovers`` are further domains with the UUID of a VM: they take memory where they are, but are not the VM.
    """

    hosts: Tuple[Host, ...]
    vms: Tuple[Vm, ...]
    leftovers: Tuple[Vm, ...] = ()
