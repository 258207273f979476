# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""One `<cpu>` element as a value, wherever libvirt writes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from .. import _xml
from .._errors import FleetError


@dataclass(frozen=True)
class Feature:
    """A CPU feature; ``policy`` is ``None`` in host descriptions, where a listed feature is simply there."""

    name: str
    policy: Optional[str] = None


@dataclass(frozen=True)
class CpuTopology:
    """The topology a guest sees, or the one libvirt states for a host (whose ``sockets`` counts one NUMA cell)."""

    sockets: int
    dies: int
    clusters: int
    cores: int
    threads: int


@dataclass(frozen=True)
class AddressBits:
    """``<maxphysaddr>``: width of physical addresses. A host has ``bits``, a guest ``mode`` and perhaps ``limit``."""

    mode: Optional[str] = None
    bits: Optional[int] = None
    limit: Optional[int] = None


@dataclass(frozen=True)
class Signature:
    """Family, model and stepping of a host CPU."""

    family: int
    model: int
    stepping: int


@dataclass(frozen=True)
class TscCounter:
    """The host's time stamp counter; ``scaling`` says whether a guest can run with another frequency."""

    frequency_hz: int
    scaling: Optional[bool] = None


@dataclass(frozen=True)
class CpuDescription:
    """A host or guest CPU. ``numa`` and ``cache`` stay XML text: they belong to a VM and are only carried along.

    ``microcode``, ``signature`` and ``tsc`` occur in host descriptions only.
    """

    arch: Optional[str] = None
    mode: Optional[str] = None
    match: Optional[str] = None
    check: Optional[str] = None
    migratable: Optional[str] = None
    model: Optional[str] = None
    fallback: Optional[str] = None
    vendor_id: Optional[str] = None
    vendor: Optional[str] = None
    features: Tuple[Feature, ...] = ()
    topology: Optional[CpuTopology] = None
    address: Optional[AddressBits] = None
    numa: Optional[str] = None
    cache: Tuple[str, ...] = ()
    microcode: Optional[int] = None
    signature: Optional[Signature] = None
    tsc: Optional[TscCounter] = None


def parse_cpu(xml: str) -> CpuDescription:
    """Return the description in a ``<cpu>``, or in a ``<domain>`` or ``<capabilities>`` that contains one.

    Raises ``FleetError`` with code ``bad_xml`` for other documents and ``no_cpu`` for a domain without ``<cpu>``.
    """
    root = _xml.parse(xml)
    return cpu_from_element(_find(root))


def _find(root: _xml.Element) -> _xml.Element:
    paths = {"domain": "cpu", "capabilities": "host/cpu"}
    if root.tag == "cpu":
        return root
    if root.tag not in paths:
        raise FleetError(
            f"The XML is a <{root.tag}>, but a <cpu> is needed here. "
            "Give the XML of a CPU, a domain or a host's capabilities.",
            code="bad_xml",
        )
    cpu = root.find(paths[root.tag])
    if cpu is None:
        raise FleetError(
            f"The <{root.tag}> has no <cpu>. Choose one that has, or treat it as the hypervisor's default CPU.",
            code="no_cpu",
        )
    return cpu


def cpu_from_element(cpu: _xml.Element) -> CpuDescription:
    """Return the description in a parsed ``<cpu>`` element."""
    numa = cpu.find("numa")
    return CpuDescription(
        arch=_xml.find_text(cpu, "arch"),
        mode=cpu.get("mode"),
        match=cpu.get("match"),
        check=cpu.get("check"),
        migratable=cpu.get("migratable"),
        model=_xml.find_text(cpu, "model"),
        fallback=_xml.find_attribute(cpu, "model", "fallback"),
        vendor_id=_xml.find_attribute(cpu, "model", "vendor_id"),
        vendor=_xml.find_text(cpu, "vendor"),
        features=tuple(Feature(feature.get("name", ""), feature.get("policy")) for feature in cpu.findall("feature")),
        topology=_topology(cpu),
        address=_address(cpu),
        numa=None if numa is None else _xml.serialise(numa),
        cache=tuple(_xml.serialise(cache) for cache in cpu.findall("cache")),
        microcode=_xml.to_int(_xml.find_attribute(cpu, "microcode", "version")),
        signature=_signature(cpu),
        tsc=_tsc(cpu),
    )


def _topology(cpu: _xml.Element) -> Optional[CpuTopology]:
    topology = cpu.find("topology")
    if topology is None:
        return None
    sockets, dies, clusters, cores, threads = (
        _xml.int_attribute(topology, name, 1) for name in ("sockets", "dies", "clusters", "cores", "threads")
    )
    return CpuTopology(sockets, dies, clusters, cores, threads)


def _address(cpu: _xml.Element) -> Optional[AddressBits]:
    address = cpu.find("maxphysaddr")
    if address is None:
        return None
    return AddressBits(address.get("mode"), _xml.to_int(address.get("bits")), _xml.to_int(address.get("limit")))


def _signature(cpu: _xml.Element) -> Optional[Signature]:
    signature = cpu.find("signature")
    if signature is None:
        return None
    family, model, stepping = (_xml.int_attribute(signature, name, 0) for name in ("family", "model", "stepping"))
    return Signature(family, model, stepping)


def _tsc(cpu: _xml.Element) -> Optional[TscCounter]:
    for counter in cpu.findall("counter"):
        frequency = _xml.to_int(counter.get("frequency"))
        if counter.get("name") == "tsc" and frequency is not None:
            return TscCounter(frequency, {"yes": True, "no": False}.get(counter.get("scaling", "")))
    return None
