# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""One hypervisor as the fleet snapshot describes it."""

from __future__ import annotations

import time
from typing import Any, Dict, List, Mapping, Optional

from .. import _xml
from .._cpu import CpuDescription, DomainCapabilities, from_domain_capabilities, host_cpu_xml, parse_cpu
from .._errors import FleetError
from .._host import maintenance
from .._host.cpus import read_cpus
from .._host.machine import Machine, read_machine
from .._host.paths import HostPaths
from .._topology import Cell, format_cpuset, from_capabilities
from .api import libvirt, translated
from .cpu import domain_capabilities
from .snapshot import CpuTable, without_unknown

# What the inventory may say about a host; everything else is observed.
SETTINGS = (
    "pool",
    "reserved",
    "cpu_overcommit",
    "count_threads_as_cores",
    "link_mib_s",
    "storage",
    "migration",
)


def read_host(conn: Any, name: str, settings: Mapping[str, Any], cpus: CpuTable) -> Dict[str, Any]:
    """Return the host's entry of the snapshot and enter its CPU into ``cpus``; nothing is changed.

    ``settings`` come from the inventory, with the names of the snapshot's fields (``SETTINGS``).
    """
    _require_known(settings)
    with translated("Reading the capabilities of the host"):
        capabilities = str(conn.getCapabilities())
        memory_kib = conn.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS, 0)["total"]
    domain_caps = from_domain_capabilities(domain_capabilities(conn))
    machine, kernel_cpus = read_machine(), read_cpus()
    topology = from_capabilities(capabilities, kernel_cpus.online)
    physical = parse_cpu(host_cpu_xml(capabilities))
    record: Dict[str, Any] = {
        "name": name,
        "collected_s": int(time.time()),
        "uuid": uuid_in(capabilities),
        "maintenance": maintenance.read(HostPaths()) is not None,
        "virt_type": domain_caps.virt_type,
        "cpu": _enter_cpu(domain_caps, physical, cpus),
        "topology": topology.as_dict(),
        "cells": [describe_cell(conn, cell) for cell in topology.cells],
        "offline_cpus": format_cpuset(kernel_cpus.offline),
        "isolated_cpus": machine.isolated_cpus,
        "machine_cpus": machine.machine_cpus,
        "memory_kib": memory_kib,
        "machine_types": machine_types(capabilities, domain_caps.arch),
        "networks": _networks(conn, machine),
        "versions": _versions(conn, physical, machine),
    }
    return without_unknown({**record, **settings})


def _require_known(settings: Mapping[str, Any]) -> None:
    unknown = sorted(set(settings) - set(SETTINGS))
    if unknown:
        raise FleetError(
            f"The host settings have no {', '.join(unknown)}; known are {', '.join(SETTINGS)}.",
            "bad_input",
            names=unknown,
        )


def host_uuid(conn: Any) -> str:
    """Return the UUID by which libvirt identifies the host of a connection."""
    with translated("Reading the capabilities of the host"):
        return uuid_in(str(conn.getCapabilities()))


def uuid_in(capabilities: str) -> str:
    """Return the host UUID in a capabilities document."""
    return _xml.find_text(_xml.parse(capabilities), "host/uuid") or ""


def own_cpu(conn: Any, cpus: CpuTable) -> Optional[str]:
    """Enter the CPU that this hypervisor can give to guests into ``cpus``; return its identifier, if it has one."""
    with translated("Reading the capabilities of the host"):
        physical = parse_cpu(host_cpu_xml(conn.getCapabilities()))
    return _enter_cpu(from_domain_capabilities(domain_capabilities(conn)), physical, cpus)


def _enter_cpu(domain_caps: DomainCapabilities, physical: CpuDescription, cpus: CpuTable) -> Optional[str]:
    if domain_caps.host_model_xml is None:
        return None
    return cpus.add(domain_caps.host_model_xml, physical.address.bits if physical.address else None)


def describe_cell(conn: Any, cell: Cell) -> Dict[str, Any]:
    """Return a cell as in a fleet snapshot, with its free memory and pages as far as libvirt tells them."""
    sizes = [page.size_kib for page in cell.pages]
    with translated(f"Reading the free memory of NUMA cell {cell.id}"):
        # A libvirt that finds no NUMA on the host returns nothing for either.
        free = conn.getCellsFreeMemory(cell.id, 1)
        free_pages = conn.getFreePages(sizes, cell.id, 1) if sizes else {}
    return cell.as_dict(free_kib=free[0] // 1024 if free else None, free_pages=free_pages.get(cell.id))


def machine_types(capabilities: str, arch: str) -> List[str]:
    """Return the canonical machine types that guests of ``arch`` may have, without aliases."""
    elements = _xml.parse(capabilities).findall(f"guest/arch[@name='{arch}']/machine")
    return sorted({element.get("canonical") or element.text or "" for element in elements})


def _networks(conn: Any, machine: Machine) -> List[str]:
    with translated("Listing the networks"):
        active = conn.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE)
        return sorted({network.name() for network in active} | set(machine.bridges))


def _versions(conn: Any, physical: CpuDescription, machine: Machine) -> Dict[str, str]:
    with translated("Reading the versions of the hypervisor"):
        versions = {
            "libvirt": dotted(conn.getLibVersion()),
            "qemu": dotted(conn.getVersion()),
            "kernel": machine.kernel,
        }
    return versions if physical.microcode is None else {**versions, "microcode": hex(physical.microcode)}


def dotted(number: int) -> str:
    """Return libvirt's number for a version, major, minor and release in three decimal digits each, in dots."""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
