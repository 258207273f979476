# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""One VM with its vCPUs as libvirt, QEMU and the guest have them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Optional, Tuple

from ... import _xml
from ..._domain import Domain, Policy, agent_is_connected, parse_domain
from ..._errors import FleetError
from ..._host.threads import VCPU, read_process
from ..._topology import parse_cpuset
from ..._vcpus import GuestOs, Slot, from_agent, from_metadata, slots_of
from .._migration.sides import migration_job
from ..api import libvirt, translated
from ..connection import bounded
from ..domains import live_xml

# https://libosinfo.org/, as virt-manager and virt-install store it.
_SYSTEM = "metadata/{http://libosinfo.org/xmlns/libvirt/domain/1.0}libosinfo/*[@id]"
# An agent that is there answers at once; libvirt itself gives up on one that is not after five seconds.
AGENT_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Look:
    """A VM at one moment. ``live`` and ``slots`` are of the running VM, ``defined`` and its slots of its definition.

    ``agent`` is whether its guest agent is connected, ``system_id`` the libosinfo id that is stored with it.
    """

    domain: Any
    name: str
    uuid: str
    arch: str
    live: Optional[Domain]
    slots: Tuple[Slot, ...]
    defined: Optional[Domain]
    defined_slots: Tuple[Slot, ...]
    migrating: bool
    agent: bool
    system_id: Optional[str]

    @property
    def policy(self) -> Policy:
        """What is stored with the VM as it runs, else with its definition."""
        found = self.live or self.defined
        return found.policy or Policy() if found is not None else Policy()

    def system(self) -> Optional[GuestOs]:
        """Return the guest's operating system as it is stored with the VM, else as its agent tells."""
        stored = from_metadata(self.system_id)
        if stored is not None or not self.agent:
            return stored
        with suppress(libvirt.libvirtError, FleetError, AttributeError):
            kinds = libvirt.VIR_DOMAIN_GUEST_INFO_OS
            found: Dict[str, Any] = _asked(self, lambda: self.domain.guestInfo(kinds, 0))
            return from_agent(found)
        return None


@dataclass(frozen=True)
class GuestVcpus:
    """The CPUs that the guest's system knows and uses, by its own numbers, and those that it can go without."""

    known: FrozenSet[int]
    online: FrozenSet[int]
    offlinable: FrozenSet[int]


def look_at(domain: Any) -> Look:
    """Read a VM; raises ``libvirt`` for one that is gone."""
    name = str(domain.name())
    with translated(f"Reading VM {name}", vm=name):
        active, persistent = bool(domain.isActive()), bool(domain.isPersistent())
        xml = live_xml(domain)
        inactive = str(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)) if persistent else None
        parsed = parse_domain(xml)
        return Look(
            domain=domain,
            name=name,
            uuid=parsed.uuid,
            arch=parsed.arch,
            live=parsed if active else None,
            slots=slots_of(xml) if active else (),
            defined=None if inactive is None else parse_domain(inactive),
            defined_slots=() if inactive is None else slots_of(inactive),
            migrating=active and migration_job(domain) is not None,
            agent=active and bool(agent_is_connected(xml)),
            system_id=_xml.find_attribute(_xml.parse_as(xml, "domain"), _SYSTEM, "id"),
        )


def threads_of(look: Look) -> Optional[FrozenSet[int]]:
    """Return the numbers of the vCPUs for which QEMU has a thread, ``None`` where its process is not found."""
    process = read_process(look.name, look.uuid)
    if process is None:
        return None
    return frozenset(thread.number for thread in process.threads if thread.kind == VCPU and thread.number is not None)


def guest_vcpus(look: Look) -> Optional[GuestVcpus]:
    """Return the CPUs of the guest as its agent tells, ``None`` if there is no agent or it does not tell."""
    if not look.agent:
        return None
    with suppress(libvirt.libvirtError, FleetError):
        found: Dict[str, str] = _asked(look, lambda: look.domain.guestVcpus(0))
        return GuestVcpus(*(_numbers(found.get(key)) for key in ("vcpus", "online", "offlinable")))
    return None


def set_guest_vcpus(look: Look, numbers: str, online: bool) -> None:
    """Let the guest's agent take CPUs online or offline; raises ``agent_refused``."""
    doing = f"The guest of VM {look.name} does not take its CPUs {numbers} {'online' if online else 'offline'}"
    with translated(doing, "agent_refused", vm=look.name):
        _asked(look, lambda: look.domain.setGuestVcpus(numbers, int(online), 0))


def _asked(look: Look, call: Any) -> Any:
    return bounded(call, AGENT_TIMEOUT_S, f"Asking the guest agent of VM {look.name}")


def _numbers(text: Optional[str]) -> FrozenSet[int]:
    return parse_cpuset(text) if text else frozenset()
