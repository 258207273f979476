# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""A libvirt domain as a value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Optional, Tuple

from .. import _xml
from .._errors import FleetError
from .._topology import canonical_cpuset, format_cpuset
from ._devices import Disk, disks_of, hostdevs_of, libvirt_networks_of, networks_of
from ._following import own_pins
from ._pinning_policy import is_placing
from ._pins import Pinning, pinning_of
from ._policy import Policy, stored_policy

# Page size of <hugepages/> without <page>: the host's default, 2 MiB unless default_hugepagesz says otherwise.
DEFAULT_HUGE_PAGE_KIB = 2048

# libvirt's virScaleInteger, in bytes; "k" to "T" are binary there.
_UNITS = {
    "b": 1,
    "bytes": 1,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "k": 1024,
    "KiB": 1024,
    "M": 1024**2,
    "MiB": 1024**2,
    "G": 1024**3,
    "GiB": 1024**3,
    "T": 1024**4,
    "TiB": 1024**4,
}


@dataclass(frozen=True)
class Vcpus:
    """vCPUs now and at most, and the topology the guest sees; without one libvirt gives each vCPU a socket.

    ``numbers`` are those of the vCPUs that the guest has now, where they are not simply the first.
    """

    current: int
    maximum: int
    sockets: int
    dies: int
    cores: int
    threads: int
    numbers: Tuple[int, ...] = ()

    @property
    def online(self) -> Tuple[int, ...]:
        """The numbers of the vCPUs that the guest has now, ascending."""
        return self.numbers or tuple(range(self.current))

    def as_dict(self) -> Dict[str, Any]:
        """Return the vCPUs as in a fleet snapshot."""
        topology = {"sockets": self.sockets, "dies": self.dies, "cores": self.cores, "threads": self.threads}
        online = {"online": format_cpuset(self.numbers)} if self.numbers else {}
        return {"current": self.current, "maximum": self.maximum, **online, "topology": topology}


@dataclass(frozen=True)
class GuestCell:
    """A NUMA cell the guest sees."""

    id: int
    vcpus: str
    memory_kib: int


@dataclass(frozen=True)
class Domain:
    """What the collection reads from a definition, live or persistent. ``runtime_id`` is set in live XML only.

    ``memory_kib`` is all memory the VM can use now, plugged DIMMs included; ``<maxMemory>`` only reserves addresses.
    """

    name: str
    uuid: str
    runtime_id: Optional[int]
    virt_type: str
    emulator: Optional[str]
    arch: str
    machine: str
    memory_kib: int
    current_memory_kib: int
    vcpus: Vcpus
    cpu_xml: Optional[str]
    cpu_mode: Optional[str]
    pinning: Pinning
    guest_cells: Tuple[GuestCell, ...]
    huge_pages_kib: Optional[int]
    networks: Tuple[str, ...]
    disks: Tuple[Disk, ...]
    hostdevs: Tuple[str, ...]
    policy: Optional[Policy]
    iothreads: Tuple[int, ...] = ()
    libvirt_networks: Tuple[str, ...] = ()

    @property
    def storage(self) -> Tuple[str, ...]:
        """Directories, block devices and storage pools a host needs for this VM, sorted."""
        return tuple(sorted({place for disk in self.disks for place in disk.storage}))

    @property
    def has_hostdev(self) -> bool:
        """Whether a device of the host is assigned to the VM."""
        return bool(self.hostdevs)

    @property
    def own_pinning(self) -> Pinning:
        """The pins without those that only keep threads off the CPUs of others.

        The pins that a policy chose are all the VM's own.
        """
        if self.policy is None or is_placing(self.policy.pinning):
            return self.pinning
        return own_pins(self.pinning, self.policy.following, live=self.runtime_id is not None)

    def pinning_as_dict(self) -> Dict[str, Any]:
        """Return the pinning as in a fleet snapshot, where ``cells`` are all guest cells, bound or not."""
        bound = {cell.id: {"mode": cell.mode, "node": cell.node} for cell in self.pinning.cells}
        cells = [
            {"id": cell.id, "vcpus": cell.vcpus, "memory_kib": cell.memory_kib, **bound.get(cell.id, {})}
            for cell in self.guest_cells
        ]
        return {**self.pinning.as_dict(), "cells": cells}


def parse_domain(xml: str) -> Domain:
    """Return the value of a domain's XML.

    Raises ``FleetError``: ``bad_xml``, ``bad_cpuset``, and ``policy_version`` or ``bad_policy`` for our metadata.
    """
    root = _xml.parse_as(xml, "domain")
    policy, vcpus, runtime_id = stored_policy(root), _vcpus(root), _xml.to_int(root.get("id"))
    pinning = pinning_of(root)
    if runtime_id is not None and _pins_are_ours(policy):
        # libvirt keeps the pins of vCPUs that were unplugged; nobody wants these any more.
        pinning = replace(pinning, vcpus=tuple(pin for pin in pinning.vcpus if pin.vcpu in vcpus.online))
    name, machine = _xml.find_text(root, "name"), root.find("os/type")
    if name is None:
        raise FleetError("The domain XML has no <name>. Give the XML as libvirt prints it.", code="bad_xml")
    cpu = root.find("cpu")
    memory = _memory_kib(root.find("memory")) or 0
    return Domain(
        name=name,
        uuid=_xml.find_text(root, "uuid") or "",
        runtime_id=runtime_id,
        virt_type=root.get("type", ""),
        emulator=_xml.find_text(root, "devices/emulator"),
        arch="" if machine is None else machine.get("arch", ""),
        machine="" if machine is None else machine.get("machine", ""),
        memory_kib=memory,
        current_memory_kib=_memory_kib(root.find("currentMemory")) or memory,
        vcpus=vcpus,
        cpu_xml=None if cpu is None else _xml.serialise(cpu),
        cpu_mode=None if cpu is None else cpu.get("mode"),
        pinning=pinning,
        guest_cells=tuple(_guest_cell(cell, index) for index, cell in enumerate(root.iterfind("cpu/numa/cell"))),
        huge_pages_kib=_huge_pages_kib(root),
        networks=networks_of(root),
        disks=disks_of(root),
        hostdevs=hostdevs_of(root),
        policy=policy,
        iothreads=_iothreads(root),
        libvirt_networks=libvirt_networks_of(root),
    )


def _pins_are_ours(policy: Optional[Policy]) -> bool:
    return policy is not None and (policy.following is not None or is_placing(policy.pinning))


def migration_mode(domain: Domain, policy: Optional[Policy] = None) -> str:
    """Return ``automatic``, ``manual`` or ``pinned``: as stored, else ``manual`` for what may lose by moving.

    That is a host-passthrough CPU, vCPU pinning and NUMA pinning. Without ``policy`` the domain's own counts.
    """
    stored = policy or domain.policy
    if stored is not None and stored.migration is not None:
        return stored.migration
    return "manual" if domain.cpu_mode == "host-passthrough" or domain.own_pinning.is_pinned else "automatic"


def _memory_kib(element: Optional[_xml.Element]) -> Optional[int]:
    if element is None:
        return None
    return scaled_kib(element.text, element.get("unit"))


def scaled_kib(text: Optional[str], unit: Optional[str]) -> Optional[int]:
    """Scale to KiB, rounded up as libvirt does (``virDomainParseMemory``)."""
    value = _xml.to_int(text)
    return None if value is None else -(-value * _UNITS.get(unit or "KiB", 1024) // 1024)


def _vcpus(root: _xml.Element) -> Vcpus:
    maximum = _xml.to_int(_xml.find_text(root, "vcpu")) or 1
    current = _xml.to_int(_xml.find_attribute(root, "vcpu", "current")) or maximum
    topology, numbers = root.find("cpu/topology"), _numbers(root, current)
    if topology is None:
        return Vcpus(current, maximum, sockets=maximum, dies=1, cores=1, threads=1, numbers=numbers)
    sockets, dies, clusters, cores, threads = (
        _xml.int_attribute(topology, name, 1) for name in ("sockets", "dies", "clusters", "cores", "threads")
    )
    return Vcpus(current, maximum, sockets, dies, clusters * cores, threads, numbers)


def _numbers(root: _xml.Element, current: int) -> Tuple[int, ...]:
    """Return the vCPUs that are enabled one by one, if they are others than the first ``current``."""
    enabled = sorted(
        _xml.int_attribute(vcpu, "id", 0) for vcpu in root.iterfind("vcpus/vcpu") if vcpu.get("enabled") == "yes"
    )
    return tuple(enabled) if enabled and enabled != list(range(current)) else ()


def _iothreads(root: _xml.Element) -> Tuple[int, ...]:
    """Return the numbers of the I/O threads; those that have none get the lowest free from 1 on, as in libvirt."""
    stated = {_xml.int_attribute(thread, "id", 0) for thread in root.iterfind("iothreadids/iothread")}
    missing = (_xml.to_int(_xml.find_text(root, "iothreads")) or 0) - len(stated)
    free = [number for number in range(1, len(stated) + max(0, missing) + 1) if number not in stated]
    return tuple(sorted([*stated, *free[: max(0, missing)]]))


def _guest_cell(cell: _xml.Element, index: int) -> GuestCell:
    return GuestCell(
        id=_xml.int_attribute(cell, "id", index),
        vcpus=canonical_cpuset(cell.get("cpus", "")),
        memory_kib=scaled_kib(cell.get("memory"), cell.get("unit")) or 0,
    )


def _huge_pages_kib(root: _xml.Element) -> Optional[int]:
    """Return the page size of the VM; with several sizes that of the whole VM, which has no ``nodeset``."""
    if root.find("memoryBacking/hugepages") is None:
        return None
    pages = root.findall("memoryBacking/hugepages/page")
    if not pages:
        return DEFAULT_HUGE_PAGE_KIB
    page = next((page for page in pages if page.get("nodeset") is None), pages[0])
    return scaled_kib(page.get("size"), page.get("unit")) or DEFAULT_HUGE_PAGE_KIB
