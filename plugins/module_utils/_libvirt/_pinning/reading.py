# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""A host and all its VMs as the choice of pins sees them, read from one connection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, FrozenSet, Optional, Tuple

from ..._domain import Domain, parse_domain
from ..._errors import FleetError
from ..._host.cpus import read_cpus
from ..._host.machine import read_machine
from ..._host.memory import memory_by_node
from ..._host.threads import Process, find_pid, read_process
from ..._pin_rules import HostCpus
from ..._pinning import HostState, Resident
from ..._topology import from_capabilities, parse_cpuset
from .._migration.sides import migration_job
from ..api import fleet_error, is_error, libvirt, translated
from ..host import measured


@dataclass(frozen=True)
class Vm:
    """A VM and its handle. ``live`` is ``None`` unless it runs, ``defined`` for a transient one.

    ``saved`` tells that it is off and resumes from an image, with the pins in that.
    """

    handle: Any
    live: Optional[Domain]
    defined: Optional[Domain]
    saved: bool = False

    @property
    def domain(self) -> Domain:
        """The VM as it runs, else as it is defined."""
        return self.resident().domain

    @property
    def name(self) -> str:
        """Name of the VM."""
        return self.domain.name

    def with_vcpus(self, numbers: Tuple[int, ...]) -> Vm:
        """Return the VM as if both its states had these vCPUs."""
        return replace(self, live=_with_vcpus(self.live, numbers), defined=_with_vcpus(self.defined, numbers))

    def process(self) -> Optional[Process]:
        """Return its process, ``None`` if there is none or it is not found."""
        return None if self.live is None else read_process(self.name, self.domain.uuid)

    def resident(self, weigh: bool = False, walk: bool = False) -> Resident:
        """Return the VM for the choice of pins, with the memory it holds if that is to be known.

        ``walk`` allows for what takes long: a second for 100 GiB.
        """
        pid = find_pid(self.name, self.domain.uuid) if weigh and self.live is not None else None
        if pid is None:
            return Resident(self.live, self.defined)
        return Resident(self.live, self.defined, memory_by_node(pid, self.domain.huge_pages_kib is not None, walk))


def _with_vcpus(state: Optional[Domain], numbers: Tuple[int, ...]) -> Optional[Domain]:
    if state is None:
        return None
    return replace(state, vcpus=replace(state.vcpus, current=len(numbers), numbers=numbers))


def read_state(conn: Any, reserved: FrozenSet[int]) -> HostState:
    """Return the NUMA cells with what is free in them now, and how the host divides its CPUs."""
    kernel, machine = read_cpus(), read_machine()
    with translated("Reading the capabilities of the host"):
        topology = from_capabilities(str(conn.getCapabilities()), kernel.online)
    allowed = None if machine.machine_cpus is None else parse_cpuset(machine.machine_cpus)
    cpus = HostCpus(kernel.isolated, kernel.offline, allowed, reserved)
    return HostState(tuple(measured(conn, cell) for cell in topology.cells), cpus)


def online_of(state: HostState) -> FrozenSet[int]:
    """Return the CPUs of a host that run."""
    return frozenset(cpu for cell in state.cells for cpu in cell.cpus) - state.cpus.offline


def read_vms(conn: Any) -> Dict[str, Vm]:
    """Return all VMs of the host by UUID; one that ends or leaves meanwhile is not there any more."""
    with translated("Listing the VMs"):
        handles = conn.listAllDomains()
    found = [reread(handle) for handle in handles]
    return {vm.domain.uuid: vm for vm in found if vm is not None}


def reread(handle: Any) -> Optional[Vm]:
    """Return a VM as it is now, ``None`` if it is gone. Secrets are left out.

    Raises ``FleetError`` that names the VM: ``libvirt``, or the code of what is wrong with its XML.
    """
    name = str(handle.name())
    try:
        return _read(handle)
    except libvirt.libvirtError as error:
        if is_error(error, "VIR_ERR_NO_DOMAIN"):
            return None
        raise fleet_error(error, f"Reading VM {name}", vm=name) from error
    except FleetError as error:
        if error.facts.get("vm"):
            raise
        raise FleetError(f"VM {name}: {error.msg}", error.code, **{**error.facts, "vm": name}) from error


def _read(handle: Any) -> Optional[Vm]:
    present = parse_domain(str(handle.XMLDesc(0)))
    live = present if present.runtime_id is not None else None
    defined = None
    if handle.isPersistent():
        defined = present if live is None else parse_domain(str(handle.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)))
    if live is None and defined is None:
        return None
    return Vm(handle, live, defined, live is None and bool(handle.hasManagedSaveImage(0)))


def in_transit(vm: Vm) -> bool:
    """Tell whether a VM migrates, to here or away: libvirt then makes whoever changes it wait for the end of that."""
    if vm.live is None:
        return False
    with translated(f"Asking what VM {vm.name} does"):
        return migration_job(vm.handle) is not None
