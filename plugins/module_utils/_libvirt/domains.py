# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Domains on one hypervisor: find, read, define, and what state they are really in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple, TypeVar

from .._domain import METADATA_KEY, METADATA_URI, Policy, policy_from_xml, policy_to_xml
from .._errors import FleetError
from .api import is_error, libvirt, translated
from .metadata import read_element, write_element

T = TypeVar("T")

# Names as in libvirt's enum virDomainState, in its order.
STATES = ("nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended")
INACTIVE_STATES = ("nostate", "shutoff", "crashed")
# The reason, of running and of paused, for a VM whose post-copy migration broke.
POST_COPY_FAILED = "postcopy_failed"

# enum virDomainRunningReason, virDomainPausedReason and virDomainShutoffReason.
_REASONS: Dict[str, Tuple[str, ...]] = {
    "running": (
        "unknown", "booted", "migrated", "restored", "from_snapshot", "unpaused", "migration_canceled",
        "save_canceled", "wakeup", "crashed", "postcopy", "postcopy_failed",
    ),
    "paused": (
        "unknown", "user", "migration", "save", "dump", "ioerror", "watchdog", "from_snapshot", "shutting_down",
        "snapshot", "crashed", "starting_up", "postcopy", "postcopy_failed", "api_error",
    ),
    "shutoff": (
        "unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from_snapshot", "daemon",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class DomainState:
    """State and reason of a domain with libvirt's names in lower case."""

    state: str
    reason: str

    @property
    def active(self) -> bool:
        """Whether a hypervisor process exists."""
        return self.state not in INACTIVE_STATES


def state_of(state: int, reason: int) -> DomainState:
    """Return the names for the numbers of ``virDomainGetState``."""
    name = STATES[state] if 0 <= state < len(STATES) else "nostate"
    reasons = _REASONS.get(name, ())
    return DomainState(name, reasons[reason] if 0 <= reason < len(reasons) else "unknown")


def present(domains: Iterable[Any], read: Callable[[Any], T]) -> List[T]:
    """Return what ``read`` says of each VM. One that ends or leaves while it is read is not there any more."""
    found = []
    for domain in domains:
        try:
            found.append(read(domain))
        except (FleetError, libvirt.libvirtError) as error:
            if not is_gone(error):
                raise
    return found


def is_gone(error: Exception) -> bool:
    """Tell whether an error of libvirt, or one that was made from it, says that there is no such VM."""
    if isinstance(error, FleetError):
        return bool(error.facts.get("libvirt_code") == libvirt.VIR_ERR_NO_DOMAIN)
    return is_error(error, "VIR_ERR_NO_DOMAIN")


def find(conn: Any, name_or_uuid: str) -> Optional[Any]:
    """Return the domain with this name or UUID, or ``None``."""
    for lookup in (conn.lookupByUUIDString, conn.lookupByName):
        try:
            return lookup(name_or_uuid)
        except libvirt.libvirtError as error:
            if not is_error(error, "VIR_ERR_NO_DOMAIN", "VIR_ERR_INVALID_ARG"):
                raise
    return None


def get(conn: Any, name_or_uuid: str) -> Any:
    """Return the domain with this name or UUID, or raise ``vm_unknown``."""
    with translated(f"Looking up VM {name_or_uuid}"):
        domain = find(conn, name_or_uuid)
        host = conn.getHostname()
    if domain is None:
        raise FleetError(
            f"VM {name_or_uuid} does not exist on {host}; check the name, or look for it on the other hosts.",
            "vm_unknown",
            vm=name_or_uuid,
        )
    return domain


def get_each(conn: Any, names: Sequence[str]) -> List[Any]:
    """Return the domains with these names or UUIDs; ``bad_input`` if two of them mean one VM."""
    found: Dict[str, str] = {}
    domains = [get(conn, name) for name in names]
    for name, domain in zip(names, domains):
        other = found.setdefault(domain.UUIDString(), name)
        if other != name or names.count(name) > 1:
            raise FleetError(f"VM {name} is given twice. Give each VM once.", "bad_input", vm=name)
    return domains


def is_defined(domain: Any, required: bool = False) -> bool:
    """Return whether a VM has a persistent definition; raises ``vm_transient`` for one without if it is required."""
    name = str(domain.name())
    with translated(f"Reading VM {name}"):
        persistent = bool(domain.isPersistent())
    if required and not persistent:
        raise FleetError(
            f"VM {name} is transient: it has no definition to be changed. Define it first, or leave it out.",
            "vm_transient",
            vm=name,
        )
    return persistent


def definition(domain: Any) -> str:
    """Return the persistent definition with its secrets, fit to be defined again; never return it to a user."""
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
    with translated(f"Reading the definition of VM {domain.name()}"):
        return str(domain.XMLDesc(flags))


def migratable_xml(domain: Any) -> str:
    """Return the live XML as a destination may be given it, with secrets; never return it to a user."""
    flags = libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE
    with translated(f"Reading the migratable XML of VM {domain.name()}"):
        return str(domain.XMLDesc(flags))


def live_xml(domain: Any) -> str:
    """Return the XML of a domain as it is now (live if it runs), without secrets."""
    with translated(f"Reading VM {domain.name()}"):
        return str(domain.XMLDesc(0))


def saved_xml(domain: Any) -> Optional[str]:
    """Return the XML in the managed-save image of a VM, with the CPU it resumes with and without secrets.

    That CPU is as it was in the definition at the start: what QEMU added is in no XML. ``None`` without an image, for
    one that cannot be read, and with bindings that cannot read it (before 3.7).
    """
    read = getattr(domain, "managedSaveGetXMLDesc", None)
    try:
        return str(read(0)) if read is not None and domain.hasManagedSaveImage(0) else None
    except libvirt.libvirtError as error:
        if is_error(error, "VIR_ERR_NO_DOMAIN"):
            raise
        return None


def running_xml(domain: Any) -> Optional[str]:
    """Return the XML of a VM that runs, or of its managed-save image, with which it resumes; ``None`` if it is off."""
    with translated(f"Reading VM {domain.name()}"):
        return live_xml(domain) if domain.isActive() else saved_xml(domain)


def define(conn: Any, xml: str, name: str) -> Any:
    """Define a VM anew and return it; ``xml`` must hold its secrets, or they are lost."""
    flags = libvirt.VIR_DOMAIN_DEFINE_VALIDATE
    with translated(f"Defining VM {name}", "define_refused", vm=name):
        return conn.defineXMLFlags(xml, flags)


def read_policy(domain: Any, flags: int = 0) -> Policy:
    """Return the policy stored with a VM, the empty one if there is none.

    ``flags`` may ask for the definition's (``VIR_DOMAIN_AFFECT_CONFIG``); else it is that of a running VM.
    """
    text = read_element(domain, METADATA_URI, flags)
    return Policy() if text is None else policy_from_xml(text)


def states_of(domain: Any) -> List[int]:
    """Return the flags for what a VM has of live state and definition, the live one first."""
    live = [libvirt.VIR_DOMAIN_AFFECT_LIVE] if domain.isActive() else []
    return live + ([libvirt.VIR_DOMAIN_AFFECT_CONFIG] if domain.isPersistent() else [])


def write_policy(domain: Any, policy: Policy, flags: Optional[int] = None) -> None:
    """Store a policy with a VM, in the state that ``flags`` name, else in both."""
    text = None if policy == Policy() else policy_to_xml(policy)
    flags = sum(states_of(domain)) if flags is None else flags
    with translated(f"Storing the policy of VM {domain.name()}"):
        write_element(domain, METADATA_KEY, METADATA_URI, text, flags)
