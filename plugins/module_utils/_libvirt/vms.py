# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""All VMs of one hypervisor as the fleet snapshot describes them, read in bulk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Tuple

from .._cpu import parse_cpu
from .._domain import (
    PLACING,
    Domain,
    Policy,
    migration_blockers,
    migration_mode,
    offline_blockers,
    overhead_kib,
    parse_domain,
)
from .._host.machine import on_shared_storage
from .._pin_rules import policy_of
from .api import libvirt, translated
from .domains import DomainState, present, saved_xml, state_of
from .host import described_archs
from .snapshot import CpuTable, without_unknown


@dataclass(frozen=True)
class _Listing:
    """What libvirt tells about all domains in a few calls; ``moves_with`` tells of a file that it keeps no VM here."""

    states: Dict[str, DomainState]
    autostart: FrozenSet[str]
    persistent: FrozenSet[str]
    snapshots: FrozenSet[str]
    saved: FrozenSet[str]
    arch: str
    moves_with: Callable[[str], bool]


def read_vms(
    conn: Any, host: str, host_cpu: Optional[str], cpus: CpuTable, copy_storage: bool = False
) -> List[Dict[str, Any]]:
    """Return the snapshot's entries for all domains of this host by name, and enter their CPUs into ``cpus``.

    With ``copy_storage`` files on storage that is not shared keep no VM from migrating.
    """
    with translated("Listing the VMs"):
        domains = conn.listAllDomains()
        listing = _list(conn, copy_storage)
    records = present(domains, lambda domain: _read_vm(domain, host, host_cpu, cpus, listing))
    return sorted(records, key=lambda record: str(record["name"]))


def _list(conn: Any, copy_storage: bool) -> _Listing:
    def uuids(flags: int) -> FrozenSet[str]:
        return frozenset(domain.UUIDString() for domain in conn.listAllDomains(flags))

    states = conn.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE, 0)
    return _Listing(
        states={
            domain.UUIDString(): state_of(figures.get("state.state", 0), figures.get("state.reason", 0))
            for domain, figures in states
        },
        autostart=uuids(libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART),
        persistent=uuids(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT),
        snapshots=uuids(libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT),
        saved=uuids(libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE),
        # virNodeInfo.model is the name of the architecture.
        arch=str(conn.getInfo()[0]),
        moves_with=_any_file if copy_storage else on_shared_storage,
    )


def _any_file(_path: str) -> bool:
    return True


def _read_vm(domain: Any, host: str, host_cpu: Optional[str], cpus: CpuTable, listing: _Listing) -> Dict[str, Any]:
    xml = domain.XMLDesc(0)
    parsed = parse_domain(xml)
    state = listing.states.get(parsed.uuid, DomainState("nostate", "unknown"))
    saved = parsed.uuid in listing.saved and not state.active
    resuming = _resuming(domain, parsed) if saved else parsed
    foreign = parsed.arch not in described_archs(listing.arch)
    snapshots = domain.snapshotNum(0) if parsed.uuid in listing.snapshots else 0
    blockers = migration_blockers(xml, snapshots=snapshots, shared_path=listing.moves_with)
    if not state.active:
        # What could not move live needs a person's eye off as well: devices of this host are in its definition.
        blockers = tuple(dict.fromkeys((*blockers, *offline_blockers(xml, on_shared_storage, saved))))
    defined = None
    if state.active and parsed.uuid in listing.persistent:
        defined = parse_domain(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    record: Dict[str, Any] = {
        "name": parsed.name,
        "uuid": parsed.uuid,
        "host": host,
        "state": state.state,
        "reason": state.reason,
        "persistent": parsed.uuid in listing.persistent,
        "autostart": parsed.uuid in listing.autostart,
        "virt_type": parsed.virt_type,
        "memory_kib": parsed.memory_kib,
        "overhead_kib": overhead_kib(parsed.memory_kib, parsed.vcpus.maximum),
        "vcpus": parsed.vcpus.as_dict(),
        "iothreads": list(parsed.iothreads) or None,
        "saved": saved or None,
        "cpu": None if foreign else _cpu_of(resuming, state.active, saved, host_cpu, cpus),
        "pinning": parsed.pinning_as_dict(),
        "huge_pages_kib": parsed.huge_pages_kib,
        # Those of a host are for guests of its own architecture.
        "machine_type": None if foreign else parsed.machine,
        "networks": list(parsed.networks),
        "storage": list(parsed.storage),
        "policy": policy_record(parsed),
        "blockers": list(blockers),
        "defined": defined_record(parsed, defined),
    }
    return without_unknown(record)


def defined_record(live: Domain, defined: Optional[Domain]) -> Optional[Dict[str, Any]]:
    """Return what a running VM is to start with the next time, ``None`` if that asks for the same of a host."""
    if defined is None or _asked(defined) == _asked(live):
        return None
    policy = (defined.policy or Policy()).as_dict()
    return without_unknown(
        {
            "memory_kib": defined.memory_kib,
            "vcpus": defined.vcpus.as_dict(),
            "iothreads": list(defined.iothreads) or None,
            "pinning": defined.pinning_as_dict(),
            "huge_pages_kib": defined.huge_pages_kib,
            "policy": {key: policy[key] for key in ("pinning", "following") if key in policy},
        }
    )


def _asked(domain: Domain) -> Tuple[object, ...]:
    policy, pins = policy_of(domain), domain.own_pinning
    if policy.policy in PLACING:
        # What its other threads share is the host's choice, and libvirt cannot change it while the VM runs.
        pins = replace(pins, cpuset=None)
    pages, cells = domain.huge_pages_kib, domain.guest_cells
    return domain.vcpus, domain.iothreads, replace(pins, policy=""), pages, cells, policy


def _resuming(domain: Any, defined: Domain) -> Domain:
    """Return a VM with a managed-save image as it resumes, or as it is defined where the image cannot be read."""
    xml = saved_xml(domain)
    return defined if xml is None else parse_domain(xml)


def _cpu_of(domain: Domain, running: bool, saved: bool, host_cpu: Optional[str], cpus: CpuTable) -> Optional[str]:
    if domain.cpu_xml is None:
        return None
    described = parse_cpu(domain.cpu_xml)
    if described.mode in ("host-passthrough", "maximum") or (saved and described.mode == "host-model"):
        # It has whatever this host has, and libvirt does not list it.
        return host_cpu
    if described.model is None or described.mode == "host-model":
        return None
    return cpus.add_vm(domain.cpu_xml, running)


def policy_record(domain: Domain) -> Dict[str, Any]:
    """Return the policy of a VM with its migration mode resolved to what is in force."""
    policy = domain.policy or Policy()
    return {**policy.as_dict(), "migration": migration_mode(domain, policy), "migration_stored": policy.migration}
