# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What a plan does not forbid, but a person should know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple

from .._amount import amount
from .._domain import Pinning
from .answer import Move
from .estimate import DEFAULT_LINK_MIB_S, may_not_converge
from .model import Host, Snapshot, Vm
from .reasons import Reason
from .resources import UNLIMITED, capacity

Warnings = List[Dict[str, Any]]

# Field of a host → what its absence means for the plan.
_HOST_FIELDS: Tuple[Tuple[str, Callable[[Host], object], str], ...] = (
    ("memory_kib", lambda host: host.memory_kib, "their memory is taken for unlimited"),
    ("cpu", lambda host: host.cpu, "any VM's CPU is taken to work there"),
    ("link_mib_s", lambda host: host.link_mib_s, f"estimates assume {DEFAULT_LINK_MIB_S:.0f} MiB/s"),
)
_VM_FIELDS: Tuple[Tuple[str, Callable[[Vm], object], str], ...] = (
    ("memory_kib", lambda vm: vm.memory_kib, "they are taken to need no memory"),
    ("cpu", lambda vm: vm.cpu, "they are taken to run on any CPU"),
)


def of_moves(moves: Sequence[Tuple[Vm, Move]], hosts: Mapping[str, Host]) -> Warnings:
    """Return warnings about single moves: VMs that may lose performance, and migrations that may not end."""
    found: Warnings = []
    for vm, move in moves:
        source, destination = hosts[move.source], hosts[move.destination]
        if vm.migration == "manual" and not (vm.home and vm.home.is_host(destination)):
            text = f"{vm.name} may lose performance on {move.destination}: its migration mode is manual."
            found.append({"code": "manual", "vm": vm.name, "uuid": vm.uuid, "host": move.destination, "text": text})
        if move.pins is not None and not vm.is_placed and _chosen(move.pins) != _chosen(vm.own_pinning):
            text = f"{vm.name} gets other pins on {move.destination}."
            found.append(
                {"code": "pins_changed", "vm": vm.name, "uuid": vm.uuid, "host": move.destination, "text": text}
            )
        if may_not_converge(vm, source, destination):
            text = f"{vm.name} dirties {vm.dirty_mib_s:g} MiB/s, as much as the link carries: it may not converge."
            found.append(
                {"code": "may_not_converge", "vm": vm.name, "uuid": vm.uuid, "host": move.destination, "text": text}
            )
    return found


def of_vms_off(staying: Iterable[Tuple[Vm, Tuple[Reason, ...]]]) -> Warnings:
    """Return a warning for each VM that is off and stays, though such VMs move."""
    found: Warnings = []
    for vm, reasons in staying:
        text = f"{vm.name} is off and stays on {vm.host}: {'; '.join(reason.text for reason in reasons)}."
        found.append({"code": "stays_off", "vm": vm.name, "uuid": vm.uuid, "host": vm.host, "text": text})
    return found


def _chosen(pins: Pinning) -> Pinning:
    """Return the pins of single threads and of memory; where the other threads run, follows the host."""
    return replace(pins, policy="", cpuset=None)


def of_snapshot(
    snapshot: Snapshot, vms: Sequence[Vm], hosts: Sequence[Host], max_age_s: int, now_s: Optional[int]
) -> Warnings:
    """Return warnings about these VMs and hosts, and about parts of the snapshot that are old."""
    return [
        *_unknown(vms, hosts),
        *_over_memory(snapshot, hosts),
        *_same_name(snapshot, vms),
        *_stale(snapshot, max_age_s, now_s),
    ]


def _unknown(vms: Sequence[Vm], hosts: Sequence[Host]) -> Warnings:
    found: Warnings = []
    for field, host_value, meaning in _HOST_FIELDS:
        names = [host.name for host in hosts if host_value(host) is None]
        if names:
            found.append(_missing(field, meaning, "hosts", names))
    for field, vm_value, meaning in _VM_FIELDS:
        names = [vm.name for vm in vms if vm_value(vm) is None]
        if names:
            found.append(_missing(field, meaning, "vms", names))
    return found


def _missing(field: str, meaning: str, kind: str, names: List[str]) -> Dict[str, Any]:
    who = "Host" if kind == "hosts" else "VM"
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    text = f"{who} without {field}: {shown}; {meaning}."
    return {"code": "missing_field", "field": field, kind: names, "text": text}


def _over_memory(snapshot: Snapshot, hosts: Sequence[Host]) -> Warnings:
    """Return the hosts that have promised more than they have; whether guests ever use it all is not known."""
    needed = dict.fromkeys((host.name for host in hosts), 0)
    for vm in (*snapshot.vms, *snapshot.leftovers):
        if vm.active and vm.host in needed:
            needed[vm.host] += vm.total_kib
    found: Warnings = []
    for host in hosts:
        room = capacity(host)[0]
        if room < UNLIMITED and needed[host.name] > max(0, room):
            text = (
                f"The VMs of host {host.name} need {amount(needed[host.name])} of memory together, it has"
                f" {amount(max(0, room))} for them. They may stay, but more can come only when there is room."
            )
            facts = {"host": host.name, "needed_kib": needed[host.name], "capacity_kib": room}
            found.append({"code": "over_memory", **facts, "text": text})
    return found


def _same_name(snapshot: Snapshot, vms: Sequence[Vm]) -> Warnings:
    """Return the names of these VMs that others have elsewhere; domains of one UUID are one VM and not meant."""
    where: Dict[str, List[str]] = {vm.name: [] for vm in vms if vm.active}
    for vm in snapshot.vms:
        if vm.active and vm.name in where:
            where[vm.name].append(vm.host)
    found: Warnings = []
    for name, hosts in sorted(where.items()):
        if len(hosts) > 1:
            text = f"VMs on {', '.join(hosts)} have one name, {name}. They can never be on one host."
            found.append({"code": "same_name", "vm": name, "hosts": hosts, "text": text})
    return found


def _stale(snapshot: Snapshot, max_age_s: int, now_s: Optional[int]) -> Warnings:
    times = [host.collected_s for host in snapshot.hosts if host.collected_s is not None]
    if not times:
        return []
    # Without a clock, the newest part tells how far the others lag behind.
    reference = now_s if now_s is not None else max(times)
    old = [
        host.name
        for host in snapshot.hosts
        if host.collected_s is not None and reference - host.collected_s > max_age_s
    ]
    if not old:
        return []
    text = f"The snapshot of {', '.join(old)} is older than {max_age_s} s. Collect it again before executing the plan."
    return [{"code": "stale", "hosts": old, "max_age_s": max_age_s, "text": text}]
