# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The pools as they are, by the records."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

from .answer import DECIDED, VERSION, Placed, cpu_data, pool_data, restart_required
from .drift import drift, harms_pool, lost
from .model import Fleet, Host
from .notes import lacking_types
from .request import Request
from .settle import Standing, standings
from .target import shared_data


def stat(fleet: Fleet, request: Request) -> Dict[str, Any]:
    """Return the answer (JSON) to the question stat."""
    pools = standings(fleet)
    hosts = [host for name, host in sorted(fleet.hosts.items())]
    notes = [line for name, item in pools.items() for line in lacking_types(name, item.members, fleet)]
    unusable = [host for host in hosts if host.record_error is not None]
    return {
        "version": VERSION,
        "question": request.question,
        "stage": DECIDED,
        "feasible": True,
        "current": request.current,
        "hosts": [_host(host) for host in hosts],
        "pools": [_pool(item, fleet) for item in pools.values()],
        "refusals": [],
        "notes": [*(f"Host {host.name}: {host.record_error[1]}" for host in unusable if host.record_error), *notes],
        "restart_required": restart_required([_placed(host, pools) for host in hosts], fleet),
    }


# What QEMU sets by itself, and what libvirt never lists among the features of a host for it cannot migrate.
_NOT_OF_HOSTS = frozenset({"hypervisor", "ht", "invtsc"})


def _placed(host: Host, pools: Mapping[str, Standing]) -> Placed:
    """Return what VMs may have on a host: what its pool has and the host itself has not lost since that was proven.

    What QEMU adds to the CPU of a pool unasked is no loss. In no pool, it is what the host has.
    """
    content = pools[host.pool].content if host.pool is not None else None
    if content is not None:
        return Placed(host, host.pool, content.features, content.cpu.address_bits, lost(host))
    known = host.traits.features
    return Placed(host, None, None if known is None else known | _NOT_OF_HOSTS, host.traits.address_bits)


def _host(host: Host) -> Dict[str, Any]:
    return {
        "name": host.name,
        "action": "none",
        "pool": host.pool,
        "wanted_pool": host.pool,
        "previous_pool": host.pool,
        "prove": None,
        "record": None,
        "generation": host.record.generation if host.record else None,
        "host_mask": [],
        "drift": drift(host),
    }


def _pool(standing: Standing, fleet: Fleet) -> Dict[str, Any]:
    content, members = standing.content, standing.members
    listed = content.members if content else ()
    missing = sorted(member.name for member in listed if member.uuid not in fleet.seen)
    features = content.features if content else None
    cpu = cpu_data(content.cpu, features) if content else None
    return {
        **pool_data(standing),
        "status": _status(standing, members, missing),
        "compute_on": None,
        "compute_of": [],
        "compute_id": None,
        "members": sorted({host.name for host in members} | set(missing)),
        "unavailable": missing,
        "joined": [],
        "left": [],
        "cpu": cpu,
        "previous_cpu": cpu,
        "gained": [],
        "lost": [],
        **shared_data(members, features),
    }


def _status(standing: Standing, members: Sequence[Host], missing: List[str]) -> str:
    if not standing.complete or any(holder not in members for holder in standing.holders):
        return "incomplete"
    if missing:
        return "unavailable"
    return "drift" if any(harms_pool(host) for host in members) else "settled"
