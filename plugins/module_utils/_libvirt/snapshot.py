# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The part of a fleet snapshot that one hypervisor contributes; its shape is documented in docs/fleet-snapshot.md."""

from __future__ import annotations

import hashlib
from typing import Any, Dict, FrozenSet, List, Mapping, Optional

from .._cpu import parse_cpu
from .api import translated
from .cpu import Expander, emulated_bits, expand

VERSION = 1


class CpuTable:
    """The CPUs of one part, each once; identifiers are hashes of the content, so parts of many hosts merge by union."""

    def __init__(self, conn: Any) -> None:
        self._conn = conn
        self._expander = Expander(conn)
        self.entries: Dict[str, Dict[str, Any]] = {}

    def add(self, cpu_xml: str, address_bits: Optional[int] = None, more: FrozenSet[str] = frozenset()) -> str:
        """Enter a CPU as guests get it that this host starts now, with features to add, and return its identifier."""
        return self._enter(expand(self._conn, cpu_xml) | more, address_bits, cpu_xml)

    def add_vm(self, cpu_xml: str, running: bool) -> str:
        """Enter the CPU of a VM and return its identifier; one that runs may have what its host has lost since."""
        bits = emulated_bits(parse_cpu(cpu_xml))
        return self._enter(self._expander.features(cpu_xml), bits, cpu_xml) if running else self.add(cpu_xml, bits)

    def _enter(self, features: FrozenSet[str], bits: Optional[int], cpu_xml: str) -> str:
        described, names = parse_cpu(cpu_xml), sorted(features)
        vendor, model = described.vendor, described.model
        content = "\n".join([vendor or "", model or "", str(bits or ""), *names, cpu_xml])
        identifier = "c" + hashlib.sha256(content.encode()).hexdigest()[:12]
        entry: Dict[str, Any] = {"vendor": vendor, "model": model, "features": names, "xml": cpu_xml}
        if bits is not None:
            entry["address_bits"] = bits
        self.entries[identifier] = entry
        return identifier


def part(table: CpuTable, hosts: List[Dict[str, Any]], vms: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Return a part of a fleet snapshot."""
    return {"version": VERSION, "cpus": table.entries, "hosts": hosts, "vms": vms}


def host_name(conn: Any, host: Optional[str]) -> str:
    """Return the host's name in the inventory, or what libvirt calls it."""
    if host:
        return host
    with translated("Reading the host's name"):
        return str(conn.getHostname())


def without_unknown(record: Mapping[str, Any]) -> Dict[str, Any]:
    """Drop what is not known: in a snapshot a missing field means that there is no such constraint."""
    return {key: value for key, value in record.items() if value is not None}
