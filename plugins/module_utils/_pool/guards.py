# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Why a host may not join a pool, looking at the host and the pool's CPU.

``GUARDS`` is the registry; a new guard is a function and a line there. What depends on the other members is in
``pairs``, and what libvirt and QEMU say is in ``agreement``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Tuple

from .._cpu import PoolCpu
from .aims import no_cpu
from .model import Fleet, Host, Refusal, Vm


@dataclass(frozen=True)
class Terms:
    """What a pool demands of its members, as far as it is known yet.

    ``cpu`` is missing while a baseline is to be computed, ``features`` (all that a guest sees) until they are proven.
    ``preset`` is the name of the preset that ``cpu`` is. On hosts that are ``reporting``, VMs may run with more.
    """

    pool: str
    vendor: Optional[str] = None
    virt_type: Optional[str] = None
    cpu: Optional[PoolCpu] = None
    features: Optional[FrozenSet[str]] = None
    preset: Optional[str] = None
    address_bits: Optional[int] = None
    reporting: FrozenSet[str] = frozenset()


Guard = Callable[[Host, Terms, Fleet], Optional[Refusal]]


def has_cpu(host: Host, terms: Terms, fleet: Fleet) -> Optional[Refusal]:
    return no_cpu(host, terms.pool) if host.traits.features is None and host.cpu_xml is None else None


def vendor(host: Host, terms: Terms, fleet: Fleet) -> Optional[Refusal]:
    if host.vendor is not None and terms.vendor in (None, host.vendor):
        return None
    if host.vendor is None:
        msg = (
            f"Libvirt on host {host.name} does not tell the vendor of the CPU, and pool {terms.pool} has one vendor."
            " Look at virsh domcapabilities there, or leave the host in no pool."
        )
    else:
        msg = (
            f"Host {host.name} has a CPU of vendor {host.vendor}, and pool {terms.pool} is of {terms.vendor}."
            " Put it into another pool."
        )
    facts = {"vendor": host.vendor, "needed_vendor": terms.vendor}
    return Refusal("vendor", msg, host.name, terms.pool, facts)


def virt_type(host: Host, terms: Terms, fleet: Fleet) -> Optional[Refusal]:
    own = host.traits.virt_type
    if terms.virt_type is None or own is None or own == terms.virt_type:
        return None
    what = {"kvm": "runs guests with KVM", "qemu": "emulates guests, for it has no KVM"}
    msg = (
        f"Host {host.name} {what.get(own, own)}, and the members of pool {terms.pool} do not: each is to be of type"
        f" {terms.virt_type}. Make KVM work on all hosts (kvm_intel or kvm_amd, the setting of the firmware), or put"
        " the host into another pool."
    )
    facts = {"virt_type": own, "needed_virt_type": terms.virt_type}
    return Refusal("virt_type", msg, host.name, terms.pool, facts)


def address_bits(host: Host, terms: Terms, fleet: Fleet) -> Optional[Refusal]:
    needed = terms.cpu.address_bits if terms.cpu else terms.address_bits
    own = host.traits.address_bits
    if not needed or own is None or needed <= own:
        return None
    msg = (
        f"Host {host.name} has {own} physical address bits, and guests of pool {terms.pool} have {needed}."
        " Recalculate the pool, give it fewer address bits, or put the host into another pool."
    )
    facts = {"address_bits": own, "needed_address_bits": needed}
    return Refusal("address_bits", msg, host.name, terms.pool, facts)


def lacks_features(host: Host, terms: Terms, fleet: Fleet) -> Optional[Refusal]:
    """Refuse what libvirt would: it compares with the same description of the host, but only the proof has its word."""
    if terms.cpu is None:
        return None
    known = terms.preset is not None and host.presets is not None
    if known and terms.preset in (host.presets or ()):
        return None
    lacking = [] if host.traits.features is None else sorted(set(terms.cpu.require) - host.traits.features)
    if not lacking and not known:
        return None
    return lacking_refusal(host.name, terms.pool, lacking)


def lacking_refusal(host: str, pool: str, lacking: List[str], reason: Optional[str] = None) -> Refusal:
    """Return the refusal of a host that cannot give a pool's CPU."""
    if lacking:
        what = f"lacks {', '.join(lacking)}, which the CPU of pool {pool} has"
    else:
        what = f"cannot give guests the CPU of pool {pool}"
    words = f" ({reason.rstrip('.')})" if reason else ""
    msg = f"Host {host} {what}{words}. Recalculate the pool, or put the host into another one."
    return Refusal("lacks_features", msg, host, pool, {"features": lacking})


def running_vms(host: Host, terms: Terms, fleet: Fleet) -> Optional[Refusal]:
    if host.name in terms.reporting or terms.features is None:
        return None
    beyond = running_beyond(host, terms.features, terms.cpu.address_bits if terms.cpu else None, fleet)
    if not beyond:
        return None
    msg = (
        f"VMs run on host {host.name} with more than the CPU of pool {terms.pool}"
        f" ({'; '.join(str(item) for item in beyond)}). Drain the host first, or shut them down; they can be reported"
        " only, with running_vms=report."
    )
    return Refusal("running_vms", msg, host.name, terms.pool, {"vms": [item.as_data() for item in beyond]})


@dataclass(frozen=True)
class Beyond:
    """A VM and what it runs with that it should not: features, and its address width if that is too large."""

    vm: Vm
    features: Tuple[str, ...] = ()
    address_bits: Optional[int] = None

    def __str__(self) -> str:
        """Return the VM and what it has in words."""
        bits = () if self.address_bits is None else (f"{self.address_bits} address bits",)
        return f"{self.vm.name}{' (saved)' if self.vm.saved else ''}: {', '.join(self.features + bits)}"

    def as_data(self) -> Dict[str, Any]:
        return {
            "vm": self.vm.name,
            "features": list(self.features),
            "address_bits": self.address_bits,
            "saved": self.vm.saved,
        }


def running_beyond(
    host: Host, features: FrozenSet[str], address_bits: Optional[int], fleet: Fleet
) -> Tuple[Beyond, ...]:
    """Return the VMs of a host that run, or were saved, with more than these features and this address width."""
    found = (_beyond(vm, features, address_bits) for vm in fleet.on(host.name) if vm.has_cpu)
    return tuple(item for item in found if item.features or item.address_bits is not None)


def _beyond(vm: Vm, features: FrozenSet[str], address_bits: Optional[int]) -> Beyond:
    wider = vm.address_bits is not None and address_bits is not None and vm.address_bits > address_bits
    return Beyond(vm, tuple(sorted((vm.features or frozenset()) - features)), vm.address_bits if wider else None)


# The cheap ones first, and those that no change of the pool's CPU would overcome.
GUARDS: Tuple[Guard, ...] = (has_cpu, vendor, virt_type, address_bits, lacks_features, running_vms)


def refuse(host: Host, terms: Terms, fleet: Fleet) -> Optional[Refusal]:
    """Return the first reason why a host may not join."""
    for guard in GUARDS:
        found = guard(host, terms, fleet)
        if found is not None:
            return found
    return None
