# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Blocks: VMs that must share a host in the end, because they are kept together. Most VMs are alone in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

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
    """Return the companies of VMs that have to go, in their order; a VM of several groups joins these.

    A group of which those that stay are apart already keeps nobody together.
    """
    moving = {vm.key for vm in vms}
    members = _members(vms, snapshot)
    whole = {
        group: some for group, some in members.items() if len({vm.host for vm in some if vm.key not in moving}) < 2
    }
    found: List[Company] = []
    for joined in _all_joined(vms, whole):
        leaving = tuple(vm for vm in joined if vm.key in moving)
        staying = frozenset(vm.host for vm in joined if vm.key not in moving)
        found.append(Company(leaving, min(leaving[0].keep_together, default=""), staying))
    return found


def whole_companies(vms: Sequence[Vm], snapshot: Snapshot) -> List[Tuple[Vm, ...]]:
    """Return the companies of which all are among these VMs and on one host, so that they may move as a whole."""
    may = {vm.key for vm in vms}
    joined = _all_joined(vms, _members(vms, snapshot))
    return [some for some in joined if len({vm.host for vm in some}) == 1 and may.issuperset(vm.key for vm in some)]


def _members(vms: Sequence[Vm], snapshot: Snapshot) -> Dict[str, List[Vm]]:
    found: Dict[str, List[Vm]] = {}
    if any(vm.keep_together for vm in vms):
        for vm in snapshot.vms:
            for group in vm.keep_together if vm.active else ():
                found.setdefault(group, []).append(vm)
    return found


def _all_joined(vms: Sequence[Vm], members: Mapping[str, Iterable[Vm]]) -> Iterator[Tuple[Vm, ...]]:
    done: Set[str] = set()
    for vm in vms:
        if vm.key not in done:
            joined = _joined(vm, members)
            done.update(each.key for each in joined)
            yield joined


def _joined(vm: Vm, members: Mapping[str, Iterable[Vm]]) -> Tuple[Vm, ...]:
    found, groups = {vm.key: vm}, set(vm.keep_together)
    waiting = sorted(groups)
    while waiting:
        for each in members.get(waiting.pop(), ()):
            found[each.key] = each
            waiting.extend(sorted(each.keep_together - groups))
            groups |= each.keep_together
    return tuple(sorted(found.values(), key=lambda each: (each.name, each.key)))
