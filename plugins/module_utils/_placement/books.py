# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What VMs take from hosts beside amounts, at every moment of a plan: CPUs of their own, pins, memory of single cells.

Only VMs that are ``tied`` are in these books. A moment of a host is the set of entries that are open there, so that a
question that was answered once needs no second look. A VM that moves has an entry at both ends until it has arrived.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Container, Dict, FrozenSet, Iterable, List, Mapping, Optional, Tuple, Union

from .._domain import Pinning, is_placing
from .._pinning import Misfit, Others, Tenant, count_pins, joined, others_of_tenant
from .._topology import parse_cpuset
from .cell_memory import Part, give_back, measured, missing_pages, parts_of, take, total
from .model import Snapshot, Vm
from .seat import Taken, no_shared_cpu, seat, shared_cpus

# The numbers of the entries that are open on a host.
Moment = FrozenSet[int]

# Thread policies from the one that needs the most of a core to the one that takes anything.
_STRICTNESS = {"require": 1, "isolate": 2, "prefer": 3}


@dataclass(frozen=True)
class Entry:
    """A VM on a host, with its pins there and the memory they bind; ``here`` says that it was there from the start."""

    key: str
    host: str
    tenant: Tenant
    parts: Tuple[Part, ...]
    here: bool


class Books:
    """The books of all hosts of a snapshot.

    ``movers`` are the VMs of the question; where any of them floats, a CPU to share is left on every host.
    """

    def __init__(self, snapshot: Snapshot, movers: Iterable[Vm]) -> None:
        self._hosts = {host.name: host for host in snapshot.hosts}
        self._entries: List[Entry] = []
        self._numbers: Dict[Entry, int] = {}
        self._parts: Dict[int, Others] = {}
        self._taken: Dict[Tuple[str, Moment], Taken] = {}
        self._offers: Dict[Tuple[str, Moment, str], Union[int, Misfit]] = {}
        self._together: Dict[Tuple[str, Moment, Tuple[str, ...]], Optional[Moment]] = {}
        self._crowded: Dict[str, Optional[Misfit]] = {}
        self._looks: Dict[Tuple[object, ...], int] = {}
        self._floating = {vm.host for vm in (*snapshot.vms, *snapshot.leftovers) if not vm.tied}
        if not all(vm.tied for vm in movers):
            self._floating.update(self._hosts)
        self._residents: Dict[str, List[int]] = {}
        for vm in (*snapshot.vms, *snapshot.leftovers):
            # What a VM has while it runs and what it is to start with are both its own.
            for state in (vm.states or (vm,)) if vm.tied and self._hosts[vm.host].cpus is not None else ():
                pins = state.pinning if is_placing(state.stored) else state.own_pinning
                self._residents.setdefault(vm.host, []).append(self._number(state, vm.host, pins, here=True))

    def start(self, host: str) -> Moment:
        """Return how a host is before anything moves."""
        return frozenset(self._residents.get(host, ()))

    def without(self, moment: Moment, vms: Iterable[Vm]) -> Moment:
        """Return a moment after VMs have left."""
        return self._without(moment, {vm.key for vm in vms}) if moment else moment

    def _without(self, moment: Moment, keys: Container[str]) -> Moment:
        return frozenset(number for number in moment if self._entries[number].key not in keys)

    def find(self, moment: Moment, vm: Vm) -> int:
        """Return the entry of a VM that is there."""
        return next(number for number in moment if self._entries[number].key == vm.key)

    def offer(self, host: str, moment: Moment, vm: Vm) -> Union[int, Misfit]:
        """Return the entry that a VM could have on a host, or why it cannot come."""
        asked = (host, moment, vm.key)
        if asked not in self._offers:
            self._offers[asked] = self._offer(host, moment, vm)
        return self._offers[asked]

    def _offer(self, host: str, moment: Moment, vm: Vm) -> Union[int, Misfit]:
        there = self._hosts[host]
        if there.cpus is None:
            return self._number(vm, host, vm.pinning if is_placing(vm.stored) else vm.own_pinning)
        found = seat(vm, there, self.taken(host, self.without(moment, (vm,))))
        return found if isinstance(found, Misfit) else self._number(vm, host, found)

    def arrive(self, host: str, moment: Moment, vm: Vm) -> Optional[Moment]:
        """Return a moment of a host after a VM has come, ``None`` where it cannot."""
        offered = self.offer(host, moment, vm)
        return None if isinstance(offered, Misfit) else self.enter(moment, offered)

    def enter(self, moment: Moment, number: int) -> Moment:
        """Return a moment after the VM of an entry has come; it replaces a definition that was left there."""
        return self._without(moment, {self._entries[number].key}) | {number}

    def together(self, host: str, moment: Moment, vms: Iterable[Vm]) -> Optional[Moment]:
        """Return a moment after several VMs have come, the most demanding first; ``None`` where not all can."""
        return self._gather(host, moment, tuple(sorted(vms, key=urgency)))

    def _gather(self, host: str, moment: Moment, vms: Tuple[Vm, ...]) -> Optional[Moment]:
        if not vms:
            return moment
        asked = (host, moment, tuple(vm.key for vm in vms))
        if asked not in self._together:
            before = self._gather(host, moment, vms[:-1])
            self._together[asked] = None if before is None else self.arrive(host, before, vms[-1])
        return self._together[asked]

    def pins(self, number: int) -> Pinning:
        """Return the pins of an entry; a ``cpuset`` of the user's own is as the user wants it."""
        return self._entries[number].tenant.pins

    def parts(self, number: int) -> Tuple[Part, ...]:
        """Return the memory that an entry must have in certain cells."""
        return self._entries[number].parts

    def owned(self, host: str, moment: Moment) -> FrozenSet[int]:
        """Return the CPUs that VMs have for themselves at a moment, with those that stay empty beside them."""
        return frozenset(cpu for number in moment for claim in self._others(host, number).claims for cpu in claim.all)

    def crowded(self, host: str) -> Optional[Misfit]:
        """Return that threads without pins have no CPU on a host, with all VMs that are there now."""
        if host not in self._residents:
            return None
        if host not in self._crowded:
            there, owned = self._hosts[host], self.owned(host, self.start(host))
            self._crowded[host] = None if shared_cpus(there, owned) else no_shared_cpu(there)
        return self._crowded[host]

    def layout(self, host: str, number: int) -> Tuple[int, int]:
        """Return in how many cells the CPUs of an entry lie, and how many cores it shares with others."""
        entry, cells = self._entries[number], self._hosts[host].cells or ()
        if not is_placing(entry.tenant.policy):
            return (0, 0)
        cpus = frozenset(cpu for pin in entry.tenant.pins.vcpus for cpu in parse_cpuset(pin.cpus))
        own = self.owned(host, frozenset({number}))
        broken = sum(bool(core & own) and not core <= own for cell in cells for core in cell.cores)
        return sum(bool(cell.cpus & cpus) for cell in cells), broken

    def look(self, host: str) -> int:
        """Return a number that hosts share which give VMs the same before anything moves; names make no difference."""
        there = self._hosts[host]
        found = [self._entries[number] for number in self.start(host)]
        entries = sorted(repr((replace(entry.tenant, name="", uuid=""), entry.parts)) for entry in found)
        cpus = (there.isolated_cpus, there.offline_cpus, there.machine_cpus, there.reserved_cpus)
        return self._looks.setdefault((there.cells, cpus, host in self._floating, tuple(entries)), len(self._looks))

    def taken(self, host: str, moment: Moment) -> Taken:
        """Return what the VMs on a host leave at a moment."""
        asked = (host, moment)
        if asked not in self._taken:
            self._taken[asked] = self._count(host, moment)
        return self._taken[asked]

    def _count(self, host: str, moment: Moment) -> Taken:
        cells = self._hosts[host].cells or ()
        entries = [self._entries[number] for number in sorted(moment)]
        gone = [self._entries[number] for number in self.start(host) - moment]
        other = missing_pages(cells)

        def parts(wanted: Callable[[Entry], bool], some: Iterable[Entry]) -> List[Part]:
            return [part for entry in some if entry.tenant.running and wanted(entry) for part in entry.parts]

        free = give_back(measured(cells), parts(lambda entry: True, gone), other)
        free = take(free, parts(lambda entry: not entry.here, entries), other)[0]
        promised = take(total(cells), parts(lambda entry: True, entries), other)[0]
        amounts = {key: min(free.get(key, other), promised.get(key, other)) for key in {*free, *promised}}
        floating = Others(floating=host in self._floating)
        usage: Mapping[int, int] = count_pins(entry.tenant.pins for entry in entries if entry.tenant.running)
        return Taken(joined([floating, *(self._others(host, number) for number in sorted(moment))]), amounts, usage)

    def _others(self, host: str, number: int) -> Others:
        if number not in self._parts:
            self._parts[number] = others_of_tenant(self._entries[number].tenant, self._hosts[host].cells or ())
        return self._parts[number]

    def _number(self, vm: Vm, host: str, pins: Pinning, here: bool = False) -> int:
        guest = vm.guest
        threads = (None, ()) if guest is None else (guest.vcpus, guest.iothreads)
        tenant = Tenant(vm.name, vm.key, vm.active, vm.policy, pins, *threads)
        parts = parts_of(vm.running.guest, pins, self._hosts[host].cells or ())
        entry = Entry(vm.key, host, tenant, parts, here)
        if entry not in self._numbers:
            self._numbers[entry] = len(self._entries)
            self._entries.append(entry)
        return self._numbers[entry]


def urgency(vm: Vm) -> Tuple[object, ...]:
    """A key that puts first what has the least choice, and of equal ones the larger."""
    policy = vm.policy
    rank = {"manual": 0, "dedicated": _STRICTNESS[policy.thread_policy], "numa": 4}.get(policy.policy, 5)
    return rank, -(vm.vcpus or 0), -(vm.memory_kib or 0), vm.name, vm.key
