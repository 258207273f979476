# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The proof that a host gives its guests exactly a certain CPU: libvirt's comparison, and a guest that QEMU made.

The guest is a paused domain without disks that exists for some tenths of a second. Only it shows what QEMU's model
brings and libvirt does not know of: libvirt compares with the host-model it has cached.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple

from .._cpu import PoolCpu, parse_cpu
from .._domain import parse_domain
from .._host.hook import PROBE_PREFIX
from .api import fleet_error, is_error, libvirt
from .compare import Judgement, judge
from .connection import bounded
from .cpu import expand_foreign
from .domains import live_xml

PROBE_TIMEOUT_S = 180.0

# libvirt keeps the log of a domain that is gone, and every probe has a new name.
_LOGS = Path("/var/log/libvirt/qemu")


@dataclass(frozen=True)
class Probe:
    """The CPU that QEMU gave the probe domain, or libvirt's words if it did not start.

    ``features`` is the whole set; ``vendor`` is the definition's, for libvirt does not ask QEMU for it: with KVM a
    guest has its host's vendor, emulated ``kvm64`` is Intel's whatever the definition says.
    """

    model: Optional[str] = None
    vendor: Optional[str] = None
    address_bits: Optional[int] = None
    features: Tuple[str, ...] = ()
    cpu_xml: Optional[str] = None
    error: Optional[str] = None


@dataclass(frozen=True)
class Proof:
    """What libvirt and QEMU of one host say to a CPU, which ``digest`` names.

    ``unknown`` are features this libvirt does not know. Where they are only to be disabled, the rest of the proof is of
    the CPU without them.
    """

    host: str
    digest: str
    result: str
    missing: Tuple[str, ...] = ()
    reason: Optional[str] = None
    unknown: Tuple[str, ...] = ()
    unknown_model: Optional[str] = None
    probe: Optional[Probe] = None

    def as_dict(self) -> Dict[str, Any]:
        """Return the proof as JSON data with the names of the fields."""
        data = asdict(self)
        data.update(missing=list(self.missing), unknown=list(self.unknown))
        if self.probe is not None:
            data["probe"]["features"] = list(self.probe.features)
        return data


def prove(conn: Any, cpu: PoolCpu, host: str) -> Proof:
    """Return what this host says to a CPU; one that it cannot give is an answer, not an error.

    Raises ``probe_failed`` when the probe domain cannot be cleared away, ``timeout`` when libvirt does not answer.
    """
    found = judge(conn, cpu.xml())
    probe = None if found.comparison.result == "incompatible" else probe_cpu(conn, found.cpu_xml)
    return proof_of(host, cpu.digest(), found, probe)


def proof_of(host: str, digest: str, found: Judgement, probe: Optional[Probe]) -> Proof:
    """Return what was found out about a CPU as the proof that goes on record."""
    comparison, unknown = found.comparison, found.unknown
    return Proof(
        host=host,
        digest=digest,
        result=comparison.result,
        missing=comparison.missing,
        reason=comparison.reason,
        unknown=unknown.features,
        unknown_model=unknown.model,
        probe=probe,
    )


def probe_cpu(conn: Any, cpu_xml: str) -> Probe:
    """Start a probe domain with this CPU and return what it got; it is gone when this returns or raises."""
    domain_type = default_type(conn)
    name = PROBE_PREFIX + uuid.uuid4().hex[:12]
    xml = probe_xml(name, domain_type, machine=_machine(conn, domain_type), cpu_xml=cpu_xml)
    try:
        with started(conn, xml, name) as domain:
            live = parse_domain(live_xml(domain)).cpu_xml or ""
    except libvirt.libvirtError as error:
        return Probe(error=error.get_error_message() or str(error))
    finally:
        with suppress(OSError):
            (_LOGS / f"{name}.log").unlink()
    described = parse_cpu(live)
    # QEMU's answer is in the definition by now (check='full'): `require` for what it added, `disable` for what it left
    # out. Always among the former is `hypervisor`.
    return Probe(
        model=described.model,
        vendor=described.vendor,
        address_bits=described.address.bits if described.address else None,
        features=tuple(sorted(expand_foreign(conn, live))),
        cpu_xml=live,
    )


def probe_xml(name: str, domain_type: str, *, machine: Optional[str] = None, cpu_xml: str = "") -> str:
    """Return a domain of 16 MiB without any device that can be left out; without ``machine`` the host's default."""
    machine_type = f" machine='{machine}'" if machine else ""
    return (
        f"<domain type='{domain_type}'><name>{name}</name><memory unit='MiB'>16</memory><vcpu>1</vcpu>"
        f"<os><type{machine_type}>hvm</type></os>{cpu_xml}"
        "<devices><controller type='usb' model='none'/><memballoon model='none'/></devices></domain>"
    )


@contextmanager
def started(conn: Any, xml: str, name: str) -> Iterator[Any]:
    """Start a paused, transient domain and destroy it at the end; libvirt does if this process dies.

    A libvirt error is one of the start. Raises ``probe_failed`` if the domain cannot be destroyed.
    """
    flags = libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY
    domain = bounded(lambda: conn.createXML(xml, flags), PROBE_TIMEOUT_S, f"Starting the probe domain {name}")
    try:
        yield domain
    finally:
        _destroy(domain, name)


def default_type(conn: Any) -> str:
    """Return the type of the host's domains, ``kvm`` where it has KVM and else ``qemu``."""
    try:
        conn.getDomainCapabilities(None, None, None, "kvm")
    except libvirt.libvirtError:
        return "qemu"
    return "kvm"


def _machine(conn: Any, domain_type: str) -> Optional[str]:
    """Return q35, which VMs of today have, where there is one: what a CPU gets may depend on the machine type."""
    try:
        conn.getDomainCapabilities(None, None, "q35", domain_type)
    except libvirt.libvirtError:
        return None
    return "q35"


def _destroy(domain: Any, name: str) -> None:
    doing = f"Destroying the probe domain {name}"
    try:
        bounded(domain.destroy, PROBE_TIMEOUT_S, doing)
    except libvirt.libvirtError as error:
        if not is_error(error, "VIR_ERR_NO_DOMAIN", "VIR_ERR_OPERATION_INVALID"):
            raise fleet_error(error, doing, "probe_failed") from error
