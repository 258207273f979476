# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Machine types in the definitions of VMs, and the addresses of their devices: read all, decide all, then write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, FrozenSet, List, Optional, Sequence, Tuple

from .._domain import (
    Domain,
    MachineTypes,
    differing_addresses,
    machine_types_of,
    missing_addresses,
    moved_devices,
    parse_domain,
    with_machine,
)
from .._errors import FleetError
from .api import translated
from .domains import definition, get_each, is_defined, live_xml, running_xml
from .host import described_archs
from .undo import Undo, all_or_nothing, redefine

NEWEST = "newest"


@dataclass(frozen=True)
class MachineWish:
    """The machine type that one VM, by name or UUID, is to have; ``None`` only asks what it has."""

    vm: str
    machine: Optional[str] = None


@dataclass(frozen=True)
class HostTypes:
    """The machine types of another host, as ``host_info`` lists them."""

    host: str
    names: FrozenSet[str]


@dataclass(frozen=True)
class MachineChange:
    """The machine type in a definition before and after, with what there is to say of it on these hosts.

    ``missing_on`` is ``None`` for VMs of an architecture that the lists of hosts say nothing about.
    """

    name: str
    uuid: str
    before: str
    after: str
    canonical: Optional[str]
    deprecated: Optional[bool]
    running: Optional[str]
    missing_on: Optional[Tuple[str, ...]]
    newer: Optional[str]
    addresses: Dict[str, Any]
    warnings: Tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the definition changes."""
        return self.before != self.after

    def as_dict(self) -> Dict[str, Any]:
        """Return the change as the module's result has it."""
        return {
            "name": self.name,
            "uuid": self.uuid,
            "changed": self.changed,
            "machine_type": self.after,
            "canonical": self.canonical,
            "is_alias": self.canonical is not None and self.canonical != self.after,
            "deprecated": self.deprecated,
            "running": self.running,
            "restart_required": self.running not in (None, self.canonical or self.after),
            "missing_on": None if self.missing_on is None else list(self.missing_on),
            "newer": self.newer,
            "addresses": self.addresses,
        }


def set_machine_types(
    conn: Any, wishes: Sequence[MachineWish], available_on: Sequence[HostTypes], check_mode: bool
) -> List[MachineChange]:
    """Bring the definitions of VMs to the machine types wished, all or none; running VMs stay as they are.

    Raises ``vm_unknown``, ``vm_transient``, ``bad_input`` for a VM given twice, ``machine_type_missing``,
    ``machine_board``, ``no_newest``, ``vcpus``, ``define_refused``, ``not_applied`` and ``addresses_changed``; from the
    first write on with ``rolled_back`` and ``not_rolled_back``.
    """
    domains = get_each(conn, [wish.vm for wish in wishes])
    planner = _Planner(conn, available_on)
    changes = [planner.plan(domain, wish.machine) for domain, wish in zip(domains, wishes)]
    if check_mode:
        return changes
    with all_or_nothing() as undo:
        for index, domain in enumerate(domains):
            if changes[index].changed:
                kept = _write(conn, undo, domain, changes[index].after)
                changes[index] = replace(changes[index], addresses=_addresses(kept, running_xml(domain)))
    return changes


def _write(conn: Any, undo: Undo, domain: Any, machine: str) -> str:
    """Give the definition as it is now a machine type, and return what libvirt keeps."""
    seen: List[str] = []

    def change(xml: str) -> str:
        seen.append(xml)
        return with_machine(xml, machine)

    kept = redefine(conn, undo, domain, change)
    moved = moved_devices(seen[0], kept)
    if moved:
        name = str(domain.name())
        raise FleetError(
            f"With the machine type {machine} libvirt gives other addresses to devices of VM {name}, or drops them: "
            f"{', '.join(moved)}. The guest would see other devices.",
            "addresses_changed",
            vm=name,
            devices=moved,
        )
    return kept


class _Planner:
    """Decides about the VMs of one host; other hosts are known by their lists."""

    def __init__(self, conn: Any, available_on: Sequence[HostTypes]) -> None:
        with translated("Reading the machine types of the host"):
            self._capabilities, self._host = str(conn.getCapabilities()), str(conn.getHostname())
            # virNodeInfo.model is the name of the architecture.
            arch = str(conn.getInfo()[0])
        self._types: Dict[str, MachineTypes] = {}
        self._available_on = available_on
        # What hosts list is for guests of their own architecture.
        self._listed = described_archs(arch)

    def _types_of(self, arch: str) -> MachineTypes:
        if arch not in self._types:
            self._types[arch] = machine_types_of(self._capabilities, arch)
        return self._types[arch]

    def plan(self, domain: Any, wanted: Optional[str]) -> MachineChange:
        found, running = _read(domain, wanted is not None)
        vm = parse_domain(found)
        types = self._types_of(vm.arch)
        after = vm.machine if wanted is None else self._chosen(vm, types, wanted)
        canonical = types.resolve(after)
        missing_on = self._missing_on(vm, canonical or after)
        if wanted is not None:
            with_machine(found, after)
            _require_vcpus(vm, types, after)
            if missing_on:
                raise _missing(vm.name, after, list(missing_on))
        known = types.types.get(canonical or "")
        return MachineChange(
            name=vm.name,
            uuid=vm.uuid,
            before=vm.machine,
            after=after,
            canonical=canonical,
            deprecated=known.deprecated if known else None,
            running=_machine(types, running),
            missing_on=missing_on,
            newer=types.newer(canonical or after, self._common(vm)),
            addresses=_addresses(found, running),
            warnings=_warnings(vm, after) if after != vm.machine and known and known.deprecated else (),
        )

    def _chosen(self, vm: Domain, types: MachineTypes, wanted: str) -> str:
        if wanted == NEWEST:
            own = types.resolve(vm.machine) or vm.machine
            newest = types.newest(own, self._common(vm))
            if newest is None:
                where = "these hosts have" if self._available_on else f"host {self._host} has"
                text = (
                    f"VM {vm.name} cannot have the newest machine type of the family of {own}: {where} none that is "
                    "not deprecated, or no order of them is known. Give a machine type by name."
                )
                raise FleetError(text, "no_newest", vm=vm.name, machine=own)
            return newest
        canonical = types.resolve(wanted)
        if canonical is None:
            raise _missing(vm.name, wanted, [self._host])
        return canonical

    def _common(self, vm: Domain) -> Optional[FrozenSet[str]]:
        if not self._available_on or vm.arch not in self._listed:
            return None
        return frozenset.intersection(*(each.names for each in self._available_on))

    def _missing_on(self, vm: Domain, machine: str) -> Optional[Tuple[str, ...]]:
        if vm.arch not in self._listed:
            return None
        return tuple(each.host for each in self._available_on if machine not in each.names)


def _require_vcpus(vm: Domain, types: MachineTypes, machine: str) -> None:
    most = types.types[machine].max_vcpus
    if most is not None and vm.vcpus.maximum > most and vm.machine != machine:
        raise FleetError(
            f"VM {vm.name} may have {vm.vcpus.maximum} vCPUs, and the machine type {machine} has at most {most}. "
            "Take another type, or give it fewer vCPUs.",
            "vcpus",
            vm=vm.name,
            maximum=most,
        )


def _missing(vm: str, machine: str, hosts: List[str]) -> FleetError:
    return FleetError(
        f"VM {vm} cannot have the machine type {machine}, which is missing on {', '.join(hosts)}. Take one that all "
        "these hosts have, or bring QEMU there to the same version.",
        "machine_type_missing",
        vm=vm,
        machine=machine,
        missing_on=hosts,
    )


def _read(domain: Any, changing: bool) -> Tuple[str, Optional[str]]:
    """Return the definition of a VM, or what stands for it in a transient one, and what it runs with."""
    if is_defined(domain, required=changing):
        return definition(domain), running_xml(domain)
    xml = live_xml(domain)
    return xml, xml


def _machine(types: MachineTypes, xml: Optional[str]) -> Optional[str]:
    if xml is None:
        return None
    machine = parse_domain(xml).machine
    return types.resolve(machine) or machine


def _addresses(defined: str, running: Optional[str]) -> Dict[str, Any]:
    differing = [] if running is None else differing_addresses(running, defined)
    return {"missing": missing_addresses(defined), "differing": differing}


def _warnings(vm: Domain, machine: str) -> Tuple[str, ...]:
    return (
        f"VM {vm.name} gets the machine type {machine}, which is deprecated: a later QEMU will not have it. "
        "Take a newer one.",
    )


def diff_texts(changes: Sequence[MachineChange]) -> Tuple[str, str]:
    """Return before and after of the definitions that change, as text that ``--diff`` compares."""
    changed = [change for change in changes if change.changed]
    return (
        "".join(f"VM {change.name}\n{change.before}\n" for change in changed),
        "".join(f"VM {change.name}\n{change.after}\n" for change in changed),
    )
