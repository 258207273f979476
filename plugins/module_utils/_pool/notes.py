# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What a person should know although nothing is refused, as sentences."""

from __future__ import annotations

from typing import Dict, FrozenSet, List, Mapping, Sequence

from .._cpu import PoolCpu
from .draft import Draft, PoolDraft
from .judge import Decision
from .model import Fleet, Host
from .pairs import side
from .policy import BASELINE
from .request import Request


def notes_of(fleet: Fleet, request: Request, drafted: Draft, decisions: Mapping[str, Decision]) -> List[str]:
    """Return the notes about a plan, in the order of pools."""
    found = strangers(fleet, request)
    for name, pool in sorted(drafted.pools.items()):
        decision = decisions[name]
        found += _emulated(pool) + _gone(pool, fleet) + _leftover(pool, drafted) + _not_computed(pool)
        found += _unknown(pool, decision)
        if decision.cpu is not None:
            found += _unknown_width(pool, decision.cpu)
        if decision.features is not None:
            found += _unknown_layout(pool, decision.features) + _unknown_vms(pool, fleet)
        found += _unknown_clock(pool, fleet)
        found += lacking_types(name, pool.old, fleet)
        found += _created_without_all(pool, drafted, request, fleet)
    return found


def strangers(fleet: Fleet, request: Request) -> List[str]:
    """Return the note about hosts of the snapshot that nobody asked about."""
    known = {wish.name for wish in request.wishes} | request.unavailable
    names = [name for name in fleet.hosts if name not in known]
    if not names or request.question == "stat":
        return []
    return [f"{', '.join(names)}: in the snapshot, but not in this run. Pools with them as members are not changed."]


def _emulated(pool: PoolDraft) -> List[str]:
    names = [host.name for host in pool.members if host.traits.virt_type == "qemu"]
    if not names:
        return []
    return [f"Pool {pool.name}: guests on {', '.join(names)} are emulated, for these hosts have no KVM."]


def _gone(pool: PoolDraft, fleet: Fleet) -> List[str]:
    content = pool.standing.content
    if content is None or pool.frozen is not None:
        return []
    names = sorted(item.name for item in content.members if item.uuid not in fleet.seen)
    if not names:
        return []
    return [
        f"Pool {pool.name}: {', '.join(names)} are members on record, but in no inventory any more. They are dropped."
    ]


def _leftover(pool: PoolDraft, drafted: Draft) -> List[str]:
    """Name hosts that stay with a record of a pool that does not count them as members."""
    inside = {host.name for host in pool.members}
    names = [host.name for host in pool.standing.holders if drafted.places.get(host.name) == pool.name]
    names = [name for name in names if name not in inside and name in drafted.refused]
    return [f"{name} has a record of pool {pool.name}, which does not count it as a member." for name in names]


def _not_computed(pool: PoolDraft) -> List[str]:
    if pool.frozen is None or pool.frozen.code != "member_unavailable" or pool.policy.definition != BASELINE:
        return []
    return [f"Pool {pool.name} is not recalculated without {', '.join(pool.unseen)}."]


def _unknown(pool: PoolDraft, decision: Decision) -> List[str]:
    return [
        f"Pool {pool.name}: {name} is not disabled by name, for libvirt on {', '.join(hosts)} does not know it."
        for name, hosts in sorted(decision.unknown.items())
    ]


def _unknown_width(pool: PoolDraft, cpu: PoolCpu) -> List[str]:
    names = [host.name for host in pool.members if host.traits.address_bits is None]
    if not names or (cpu.address_bits is None and pool.target.definition != BASELINE):
        return []
    what = (
        "guests get the hypervisor's" if cpu.address_bits is None else f"{cpu.address_bits} bits are not checked there"
    )
    return [f"Pool {pool.name}: the address width of {', '.join(names)} is not known; {what}."]


def _unknown_layout(pool: PoolDraft, features: FrozenSet[str]) -> List[str]:
    names = _kvm_without(pool.members, "xsave") if "xsave" in features and len(pool.members) > 1 else []
    if not names:
        return []
    return [
        f"Pool {pool.name}: how CPUs lay out their state is not known of {', '.join(names)}, so it is not compared."
    ]


def _unknown_clock(pool: PoolDraft, fleet: Fleet) -> List[str]:
    vms = [vm.name for host in pool.members for vm in fleet.on(host.name) if "invtsc" in (vm.features or ())]
    names = [host.name for host in pool.members if host.traits.tsc is None]
    if not vms or not names or len(pool.members) < 2:
        return []
    return [f"Pool {pool.name}: {', '.join(vms)} have invtsc, and the clock of {', '.join(names)} is not known."]


def _kvm_without(members: Sequence[Host], trait: str) -> List[str]:
    return [host.name for host in members if host.traits.virt_type == "kvm" and getattr(host.traits, trait) is None]


def _unknown_vms(pool: PoolDraft, fleet: Fleet) -> List[str]:
    vms = [
        f"{vm.name} on {host.name}"
        for host in pool.joined
        for vm in fleet.on(host.name)
        if vm.has_cpu and vm.features is None
    ]
    return [f"Pool {pool.name}: the CPU of {', '.join(vms)} is not known, so it is not compared."] if vms else []


def lacking_types(pool: str, members: Sequence[Host], fleet: Fleet) -> List[str]:
    """Name the machine types of VMs that other members lack, as after an upgrade of some hosts."""
    used: Dict[str, List[str]] = {}
    for host in members:
        for machine_type, vms in side(host, fleet).used_types:
            used.setdefault(machine_type, []).extend(f"{vm} on {host.name}" for vm in vms)
    found = []
    for machine_type, users in sorted(used.items()):
        lacking = [
            host.name for host in members if host.machine_types is not None and machine_type not in host.machine_types
        ]
        if lacking:
            found.append(
                f"Pool {pool}: {', '.join(users)} cannot move to {', '.join(lacking)}, for {machine_type}, their"
                " machine type, is not known there. Bring QEMU on all members to one version, or give these VMs another"
                " machine type."
            )
    return found


def _created_without_all(pool: PoolDraft, drafted: Draft, request: Request, fleet: Fleet) -> List[str]:
    """A pool can be created twice if the only hosts that know it do not answer."""
    members = {name for other in drafted.pools.values() for name in other.unseen}
    unread = {host.name for host in fleet.hosts.values() if host.record_error is not None}
    names = sorted((request.unavailable | unread) - members)
    if pool.standing.content is not None or not pool.members or not names:
        return []
    return [f"Pool {pool.name} is new as far as known; {', '.join(names)} could not be asked."]
