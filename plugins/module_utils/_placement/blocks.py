# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Blocks: VMs that must share a host in the end, because they are kept together. Most VMs are alone in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

from .floor import Held
from .model import Snapshot, Vm
from .resources import Vector


@dataclass(frozen=True)
class Block:
    """VMs (by their numbers in the problem) with all they need together.

    ``hosts`` are the destinations the filters let them have, ascending; ``kinds`` the kinds of hosts these are, or
    ``None`` where single hosts were picked. ``size`` is the dominant share of the fleet in billionths. ``at`` is where
    it is now and may stay, ``None`` for one that has to go. Blocks of one ``twin`` are interchangeable.
    """

    vms: Tuple[int, ...]
    need: Vector
    held: FrozenSet[Held]
    hosts: Tuple[int, ...]
    kinds: Optional[Tuple[int, ...]]
    size: int
    tied: bool
    priority: int
    twin: int
    at: Optional[int] = None


@dataclass(frozen=True)
class Company:
    """The VMs a VM is to be kept together with, itself included; ``hosts`` are where those are that stay."""

    vms: Tuple[Vm, ...]
    group: str
    hosts: FrozenSet[str]


def companies(vms: Sequence[Vm], snapshot: Snapshot) -> List[Company]:
    """Return the companies of VMs that move, in their order; a VM of several groups joins these.

    A group of which those that stay are apart already keeps nobody together.
    """
    moving = {vm.key for vm in vms}
    members: Dict[str, List[Vm]] = {}
    if any(vm.keep_together for vm in vms):
        for vm in snapshot.vms:
            for group in vm.keep_together if vm.active else ():
                members.setdefault(group, []).append(vm)
    whole = {
        group: some for group, some in members.items() if len({vm.host for vm in some if vm.key not in moving}) < 2
    }
    found: List[Company] = []
    done: Set[str] = set()
    for vm in vms:
        if vm.key not in done:
            all_of_them = _joined(vm, whole)
            done.update(each.key for each in all_of_them)
            leaving = tuple(each for each in all_of_them if each.key in moving)
            staying = frozenset(each.host for each in all_of_them if each.key not in moving)
            found.append(Company(leaving, min(vm.keep_together, default=""), staying))
    return found


def _joined(vm: Vm, members: Mapping[str, Iterable[Vm]]) -> Tuple[Vm, ...]:
    found, groups = {vm.key: vm}, set(vm.keep_together)
    waiting = sorted(groups)
    while waiting:
        for each in members.get(waiting.pop(), ()):
            found[each.key] = each
            waiting.extend(sorted(each.keep_together - groups))
            groups |= each.keep_together
    return tuple(sorted(found.values(), key=lambda each: (each.name, each.key)))
