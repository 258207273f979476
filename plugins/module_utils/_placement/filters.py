# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Hard constraints.

``VM_FILTERS`` and ``HOST_FILTERS`` are the registries; a new constraint is a function and a line there.

What depends on other VMs of the same plan (memory, vCPUs, CPUs and cells) is not here but in ``resources``, ``books``
and the search.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, FrozenSet, Iterator, Mapping, Optional, Tuple

from .._pinning import fit_pinning
from .books import Books
from .model import MOVABLE_STATES, Host, Vm
from .reasons import Reason
from .request import Options
from .seat import wanted_pinning


@dataclass(frozen=True)
class Context:
    """What filters may know besides the VM and the host.

    ``own_hosts`` maps host names to hosts. ``defined`` maps a host name to the names of all its domains, shut-off
    ones too, with their keys. ``books`` know which CPUs are whose. ``draining`` are the hosts to be emptied.
    """

    options: Options
    own_hosts: Mapping[str, Host]
    defined: Mapping[str, Mapping[str, str]]
    books: Books
    draining: FrozenSet[str] = frozenset()


VmFilter = Callable[[Vm, Context], Optional[Reason]]
HostFilter = Callable[[Vm, Host, Context], Optional[Reason]]


def not_running(vm: Vm, context: Context) -> Optional[Reason]:
    if vm.active:
        return None
    return Reason("not_running", f"{vm.name} is {vm.state}; only running VMs can move live. Start it first.")


def state(vm: Vm, context: Context) -> Optional[Reason]:
    if not vm.active or vm.state in MOVABLE_STATES:
        return None
    text = f"{vm.name} is in state {vm.state}, which cannot migrate. Wait until it has ended, or destroy it."
    return Reason("state", text, facts={"state": vm.state})


def in_transit(vm: Vm, context: Context) -> Optional[Reason]:
    if vm.twins:
        where = " and ".join(vm.twins)
        text = (
            f"a second domain with the UUID of {vm.name} is on {where}: a migration is under way or has left it behind."
            " Wait for the migration, or clean up the leftover, and collect the snapshot again."
        )
        return Reason("in_transit", text, facts={"twins": list(vm.twins)})
    if vm.job in ("migration_out", "migration_in"):
        text = f"{vm.name} is being migrated already. Wait for that migration and collect the snapshot again."
        return Reason("in_transit", text, facts={"job": vm.job})
    return None


def mode(vm: Vm, context: Context) -> Optional[Reason]:
    if vm.migration == "pinned":
        text = f"the policy of {vm.name} is migration: pinned. Shut it down, or change its policy."
        return Reason("migration_pinned", text)
    if vm.migration == "manual" and not context.options.move_manual:
        text = f"{vm.name} moves by hand only (migration: manual), and move_manual is off."
        return Reason("migration_manual", text)
    return None


def blockers(vm: Vm, context: Context) -> Optional[Reason]:
    if not vm.blockers:
        return None
    return Reason("blockers", "; ".join(vm.blockers), facts={"blockers": list(vm.blockers)})


def maintenance(vm: Vm, host: Host, context: Context) -> Optional[Reason]:
    return Reason("maintenance", "is in maintenance") if host.maintenance else None


def draining(vm: Vm, host: Host, context: Context) -> Optional[Reason]:
    return Reason("draining", "is to be emptied too") if host.name in context.draining else None


def excluded(vm: Vm, host: Host, context: Context) -> Optional[Reason]:
    return Reason("excluded", "is in exclude_hosts") if host.name in context.options.exclude_hosts else None


def allowed_hosts(vm: Vm, host: Host, context: Context) -> Optional[Reason]:
    if not vm.allowed_hosts or any(host.is_called(name) for name in vm.allowed_hosts):
        return None
    text = f"is not one of the hosts the VM's policy allows ({', '.join(vm.allowed_hosts)})"
    return Reason("allowed_hosts", text, facts={"allowed": list(vm.allowed_hosts)})


def pool(vm: Vm, host: Host, context: Context) -> Optional[Reason]:
    own = context.own_hosts[vm.host].pool
    if not context.options.stay_in_pool or own == host.pool:
        return None
    text = f"is in {_pool_name(host.pool)}, the VM runs in {_pool_name(own)}, and stay_in_pool is on"
    return Reason("pool", text, facts={"pool": host.pool, "own_pool": own})


def _pool_name(name: Optional[str]) -> str:
    return "no pool" if name is None else f"pool {name}"


def cpu_vendor(vm: Vm, host: Host, context: Context) -> Optional[Reason]:
    if vm.cpu is None or host.cpu is None or None in (vm.cpu.vendor, host.cpu.vendor):
        return None
    if vm.cpu.vendor == host.cpu.vendor:
        return None
    text = f"has a CPU of vendor {host.cpu.vendor}, the VM has one of {vm.cpu.vendor}"
    return Reason("cpu_vendor", text, facts={"vendor": host.cpu.vendor, "needed_vendor": vm.cpu.vendor})


def cpu_features(vm: Vm, host: Host, context: Context) -> Optional[Reason]:
    if vm.cpu is None or host.cpu is None or vm.cpu.features is None or host.cpu.features is None:
        return None
    if vm.cpu.features <= host.cpu.features:
        return None
    missing = sorted(vm.cpu.features - host.cpu.features)
    return Reason("cpu_features", f"lacks the CPU features {', '.join(missing)}", facts={"missing": missing})


def address_bits(vm: Vm, host: Host, context: Context) -> Optional[Reason]:
    needed = vm.cpu.address_bits if vm.cpu else None
    offered = host.cpu.address_bits if host.cpu else None
    if needed is None or offered is None or needed <= offered:
        return None
    text = f"has {offered} physical address bits, the VM has {needed}"
    return Reason("address_bits", text, facts={"address_bits": offered, "needed_address_bits": needed})


def machine_type(vm: Vm, host: Host, context: Context) -> Optional[Reason]:
    if vm.machine_type is None or host.machine_types is None or vm.machine_type in host.machine_types:
        return None
    text = f"does not know the machine type {vm.machine_type}"
    return Reason("machine_type", text, facts={"machine_type": vm.machine_type})


def networks(vm: Vm, host: Host, context: Context) -> Optional[Reason]:
    return _subset("networks", "networks", vm.networks, host.networks)


def storage(vm: Vm, host: Host, context: Context) -> Optional[Reason]:
    return _subset("storage", "storage", vm.storage, host.storage)


def _subset(code: str, what: str, wanted: FrozenSet[str], offered: Optional[FrozenSet[str]]) -> Optional[Reason]:
    if offered is None or wanted <= offered:
        return None
    missing = sorted(wanted - offered)
    return Reason(code, f"lacks the {what} {', '.join(missing)}", facts={"missing": missing})


def name_taken(vm: Vm, host: Host, context: Context) -> Optional[Reason]:
    other = context.defined.get(host.name, {}).get(vm.name)
    if other is None or other == vm.key:
        return None
    return Reason("name_taken", f"has another VM of the name {vm.name}", facts={"other": other})


def pinning(vm: Vm, host: Host, context: Context) -> Optional[Reason]:
    if not vm.tied:
        problem = context.books.crowded(host.name)
    else:
        # Pins that the VM's policy made say nothing about other hosts.
        problem = None if vm.is_placed else fit_pinning(wanted_pinning(vm, host), host.cpus, host.nodes)
    return None if problem is None else Reason(problem.code, problem.text, facts=problem.facts)


# Refusals that hold for every destination.
VM_FILTERS: Tuple[VmFilter, ...] = (not_running, state, in_transit, mode, blockers)

# Refusals of one destination, the cheap ones first.
HOST_FILTERS: Tuple[HostFilter, ...] = (
    maintenance,
    draining,
    excluded,
    allowed_hosts,
    pool,
    machine_type,
    cpu_vendor,
    cpu_features,
    address_bits,
    networks,
    storage,
    name_taken,
    pinning,
)


def vm_reasons(vm: Vm, context: Context) -> Tuple[Reason, ...]:
    """Return why a VM cannot move at all."""
    return tuple(reason for check in VM_FILTERS for reason in (check(vm, context),) if reason)


def host_reasons(vm: Vm, host: Host, context: Context) -> Iterator[Reason]:
    """Yield why a VM cannot go to a host, one after the other, so that a caller may stop at the first."""
    for check in HOST_FILTERS:
        reason = check(vm, host, context)
        if reason is not None:
            yield Reason(reason.code, reason.text, host.name, reason.facts)
