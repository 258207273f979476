# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What moves mean for the hosts they touch."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from .answer import Move
from .model import Host, Snapshot, Vm
from .resources import Vector, capacity, demand, free_now, known, minus, plus


def vms_of(moves: Sequence[Move], snapshot: Snapshot) -> List[Vm]:
    """Return the VM of each move, as it stands in the snapshot."""
    by_uuid = {vm.uuid: vm for vm in snapshot.vms if vm.uuid is not None}
    here = {(vm.name, vm.host): vm for vm in snapshot.vms if vm.uuid is None}
    found: List[Vm] = []
    for move in moves:
        vm = by_uuid[move.uuid] if move.uuid is not None else here[move.vm, move.source]
        if move.uuid is None:
            here[move.vm, move.destination] = vm
        found.append(vm)
    return found


def loads(moves: Sequence[Tuple[Vm, Move]], snapshot: Snapshot) -> Tuple[Dict[str, Any], ...]:
    """Return used memory before and after for every host that a move touches."""
    before: Mapping[str, Vector] = free_now(snapshot)
    after = dict(before)
    for vm, move in moves:
        after[move.source] = plus(after[move.source], demand(vm))
        after[move.destination] = minus(after[move.destination], demand(vm))
    touched = {name for _vm, move in moves for name in (move.source, move.destination)}
    return tuple(_load(host, before[host.name], after[host.name]) for host in snapshot.hosts if host.name in touched)


def _load(host: Host, before: Vector, after: Vector) -> Dict[str, Any]:
    total = capacity(host)[0]
    return {
        "host": host.name,
        "capacity_kib": known(total),
        "before_kib": total - before[0],
        "after_kib": total - after[0],
    }
