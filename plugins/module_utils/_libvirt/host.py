# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""One hypervisor as the fleet snapshot describes it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .. import _xml
from .._domain import machine_types_of
from .._errors import FleetError
from .._host import maintenance, pool_record
from .._host.cpuid import as_lists
from .._host.cpus import read_cpus
from .._host.machine import Machine, read_machine
from .._host.memory import reclaimable_kib
from .._host.paths import HostPaths
from .._topology import Cell, format_cpuset, from_capabilities
from .api import libvirt, translated
from .host_cpu import HostCpu, possible_presets, read_host_cpu, versions
from .snapshot import CpuTable, without_unknown

_SUBSETS = {"x86_64": ("i686",)}

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


def read_host(conn: Any, name: str, settings: Mapping[str, Any], cpus: CpuTable, found: HostCpu) -> Dict[str, Any]:
    """Return the host's entry of the snapshot and enter its CPU into ``cpus``; nothing is changed.

    ``found`` is what ``read_host_cpu`` says. ``settings`` come from the inventory, with the names of the snapshot's
    fields (``SETTINGS``).
    """
    _require_known(settings)
    with translated("Reading the memory of the host"):
        memory_kib = conn.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS, 0)["total"]
    machine, kernel_cpus = read_machine(), read_cpus()
    topology = from_capabilities(found.capabilities, kernel_cpus.online)
    record: Dict[str, Any] = {
        "name": name,
        "collected_s": int(time.time()),
        "uuid": uuid_in(found.capabilities),
        "maintenance": maintenance.read(HostPaths()) is not None,
        "virt_type": found.offer.virt_type,
        "cpu": _enter_cpu(found, cpus),
        "cpu_presets": possible_presets(conn, found.vendor),
        "xsave": as_lists(found.xsave()),
        "tsc": found.tsc.to_data() if found.tsc else None,
        "topology": topology.as_dict(),
        "cells": [describe_cell(conn, cell) for cell in topology.cells],
        "offline_cpus": format_cpuset(kernel_cpus.offline),
        "isolated_cpus": machine.isolated_cpus,
        "machine_cpus": machine.machine_cpus,
        "memory_kib": memory_kib,
        "machine_types": machine_types_of(found.capabilities, found.offer.arch).names,
        "networks": _networks(conn, machine),
        "versions": versions(conn, found.physical, machine.kernel),
    }
    return without_unknown({**record, **settings, **_pool()})


def _pool() -> Dict[str, Any]:
    """Return the pool on record, which counts more than the inventory's: that one says what the host is to become.

    A record that cannot be used is reported: it must neither hide the host nor pass for no record.
    """
    try:
        record = pool_record.read()
    except FleetError as error:
        return {"cpu_pool_error": {"code": error.code, "msg": error.msg}}
    return {} if record is None else {"pool": record.pool, "cpu_pool": record.to_data()}


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


def described_archs(arch: str) -> Tuple[str, ...]:
    """Return the architectures of guests that have the CPU models and machine types of a host of this one."""
    return (arch, *_SUBSETS.get(arch, ()))


def own_cpu(conn: Any, cpus: CpuTable) -> Optional[str]:
    """Enter the CPU that this hypervisor can give to guests into ``cpus``; return its identifier, if it has one."""
    return _enter_cpu(read_host_cpu(conn), cpus)


def _enter_cpu(found: HostCpu, cpus: CpuTable) -> Optional[str]:
    if found.offer.host_model_xml is None:
        return None
    return cpus.add(found.offer.host_model_xml, found.address_bits, found.offer.on_request)


def describe_cell(conn: Any, cell: Cell) -> Dict[str, Any]:
    """Return a cell as in a fleet snapshot, with its free memory and pages as far as libvirt tells them."""
    return measured(conn, cell).as_dict()


def measured(conn: Any, cell: Cell) -> Cell:
    """Return a cell with its free memory and pages as far as libvirt tells them.

    Cached files count as free: a host that has been up for long has little else that is.
    """
    sizes = [page.size_kib for page in cell.pages]
    with translated(f"Reading the free memory of NUMA cell {cell.id}"):
        # A libvirt that finds no NUMA on the host returns nothing for either.
        free = conn.getCellsFreeMemory(cell.id, 1)
        free_pages = (conn.getFreePages(sizes, cell.id, 1) if sizes else {}).get(cell.id, {})
    pages = tuple(replace(page, free=free_pages.get(page.size_kib, page.free)) for page in cell.pages)
    return replace(cell, free_kib=free[0] // 1024 + reclaimable_kib(cell.id) if free else None, pages=pages)


def _networks(conn: Any, machine: Machine) -> List[str]:
    with translated("Listing the networks"):
        active = conn.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE)
        return sorted({network.name() for network in active} | set(machine.bridges))
