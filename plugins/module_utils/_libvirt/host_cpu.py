# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What decides which CPUs a host can give to guests: libvirt's answers, and the layout of the XSAVE area."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, List, Optional, Tuple

from .._cpu import (
    PRESETS,
    CpuDescription,
    DomainCapabilities,
    PoolCpu,
    from_domain_capabilities,
    host_cpu_xml,
    parse_cpu,
)
from .._errors import FleetError
from .._host.cpuid import Component, read_xsave
from .._host.pool_record import Proven, Tsc
from .api import translated
from .compare import judge
from .cpu import domain_capabilities, expand

# libvirt's word for models that any vendor can have, such as qemu64.
_NO_VENDOR = "unknown"


@dataclass(frozen=True)
class HostCpu:
    """One reading of a hypervisor: its capabilities (XML), what it offers by default, and the CPU of the machine."""

    capabilities: str
    offer: DomainCapabilities
    physical: CpuDescription

    @property
    def address_bits(self) -> Optional[int]:
        """Width of physical addresses, if libvirt tells it."""
        return self.physical.address.bits if self.physical.address else None

    @property
    def tsc(self) -> Optional[Tsc]:
        """The time stamp counter, if libvirt tells it."""
        counter = self.physical.tsc
        return None if counter is None else Tsc(counter.frequency_hz, counter.scaling)

    @property
    def vendor(self) -> Optional[str]:
        """The vendor that guests see, which need not be the machine's where they are emulated."""
        return parse_cpu(self.offer.host_model_xml).vendor if self.offer.host_model_xml else None

    def xsave(self) -> Optional[Tuple[Component, ...]]:
        """Return the layout of the XSAVE area; ``None`` where guests do not use the machine's own, or nobody tells."""
        return read_xsave() if self.offer.virt_type == "kvm" else None


def read_host_cpu(conn: Any) -> HostCpu:
    """Ask libvirt; nothing is changed."""
    with translated("Reading the capabilities of the host"):
        capabilities = str(conn.getCapabilities())
    offer = from_domain_capabilities(domain_capabilities(conn))
    return HostCpu(capabilities, offer, parse_cpu(host_cpu_xml(capabilities)))


def versions(conn: Any, physical: CpuDescription, kernel: str) -> Dict[str, str]:
    """Return the versions of what CPUs of guests depend on; the microcode's only if libvirt tells it."""
    with translated("Reading the versions of the hypervisor"):
        found = {"libvirt": dotted(conn.getLibVersion()), "qemu": dotted(conn.getVersion()), "kernel": kernel}
    return found if physical.microcode is None else {**found, "microcode": hex(physical.microcode)}


def dotted(number: int) -> str:
    """Return libvirt's number for a version, major, minor and release in three decimal digits each, in dots."""
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def possible_presets(conn: Any, vendor: Optional[str]) -> List[str]:
    """Return the names of the presets of ``vendor`` that this hypervisor can give to guests, sorted.

    The width of addresses is not judged. Features to disable may be unknown to this libvirt; model and features to
    require may not.
    """
    return sorted(name for name, preset in PRESETS.items() if preset.vendor == vendor and _can_give(conn, preset.cpu))


def _can_give(conn: Any, cpu: PoolCpu) -> bool:
    try:
        return judge(conn, replace(cpu, address_bits=None).xml()).comparison.result != "incompatible"
    except FleetError as error:
        # A connection that broke says nothing about the CPU.
        if error.code != "bad_cpu" or not conn.isAlive():
            raise
        return False


def models_data(offer: DomainCapabilities) -> List[Dict[str, Any]]:
    """Return the named models of the hypervisor as JSON, in its order; ``blockers`` are features the host lacks."""
    return [
        {
            **asdict(model),
            "vendor": None if model.vendor == _NO_VENDOR else model.vendor,
            "blockers": list(model.blockers),
        }
        for model in offer.models
    ]


def prove_host(conn: Any) -> Proven:
    """Return what this host is now, as the record of a pool keeps it; raises ``no_cpu`` if it offers no host-model."""
    found = read_host_cpu(conn)
    if found.offer.host_model_xml is None:
        raise FleetError(
            "This hypervisor offers no CPU that could be given on other hosts (no host-model), so the host cannot be "
            "in a pool. Check its domain capabilities: virsh domcapabilities.",
            "no_cpu",
        )
    return Proven(
        versions=versions(conn, found.physical, os.uname().release),
        virt_type=found.offer.virt_type,
        features=tuple(sorted(expand(conn, found.offer.host_model_xml))),
        address_bits=found.address_bits,
        xsave=found.xsave(),
        tsc=found.tsc,
    )
