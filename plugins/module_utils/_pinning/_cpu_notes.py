# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""VMs that have or use CPUs of a host otherwise than it divides them now."""

from __future__ import annotations

from typing import Dict, FrozenSet, Iterator, List, Sequence, Set, Tuple

from .._domain import AUTO
from .._topology import format_cpuset, parse_cpuset
from ._ledger import exclusive_cpus, seats
from ._room import Room
from ._side import Side, is_widened
from ._threads import pinned, thread_sets
from ._vm import Vm

# More VMs than these are counted only.
_NAMED = 5

_OFFLINE = "VM {vm} has CPU {cpus} for itself, but that is offline. Bring it online, or choose the VM's pins anew."
_NOT_ISOLATED = (
    "VM {vm} has CPU {cpus} for itself, but the host isolates others and not this. "
    "Isolate it too, or choose the VM's pins anew."
)
_NOT_SPREAD = (
    "VM {vm} has pins by hand with several CPUs for one thread, and the host isolates CPU {cpus}, so the scheduler "
    "would not spread it there. Pin the thread to one CPU, or to CPUs that are not isolated."
)
_SHARING = "vCPU {cpus} of VM {vm} has no CPU for itself, as the VM's others have. Choose the VM's pins anew."
_WIDENED = (
    "VM {vm} is to float on CPU {cpus}, but none of it is shared, so it floats on all CPUs that are. "
    "Give it a cpuset with shared CPUs."
)


def cpu_notes(vms: Sequence[Vm], room: Room) -> List[str]:
    """Return a warning for each VM and kind of fault, with its CPUs."""
    found: Dict[Tuple[str, str], Set[int]] = {}
    for vm in vms:
        for side in vm.sides:
            for text, cpus in _faults(side, room):
                found.setdefault((vm.resident.name, text), set()).update(cpus)
    return [text.format(vm=vm, cpus=format_cpuset(cpus)) for (vm, text), cpus in sorted(found.items()) if cpus]


def _faults(side: Side, room: Room) -> Iterator[Tuple[str, FrozenSet[int]]]:
    own = exclusive_cpus(side.policy, side.pins, ())[0]
    yield _OFFLINE, own - room.cpus
    if room.isolated:
        yield _NOT_ISOLATED, (own & room.cpus) - room.isolated
    if side.policy.policy == "dedicated":
        yield _SHARING, frozenset(side.domain.vcpus.online) - {pin.vcpu for pin in seats(side.policy, side.pins)}
    if not side.placed:
        sets = [parse_cpuset(text) for text in pinned(side.pins).values() if text != AUTO]
        yield _NOT_SPREAD, frozenset(cpu for cpus in sets if len(cpus) > 1 for cpu in cpus & room.isolated)
    if is_widened(side, room):
        yield _WIDENED, parse_cpuset(side.limit or "")


def left_there(vms: Sequence[Vm], room: Room) -> List[str]:
    """Return a warning that names the VMs nobody asked about whose threads float on CPUs that others own."""
    found = {vm.resident.name: _intruding(vm, room) for vm in vms if not vm.wish}
    names = [name for name, cpus in found.items() if cpus]
    if not names:
        return []
    return [
        f"Threads of {listed(names)} stay on CPUs that other VMs have for themselves "
        f"({format_cpuset(frozenset().union(*found.values()))}), as float_others is off. Let them float later."
    ]


def listed(names: Sequence[str]) -> str:
    """Return names in words; of many the number only."""
    known = sorted(names)
    more = len(known) - _NAMED
    return ", ".join(known[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _intruding(vm: Vm, room: Room) -> FrozenSet[int]:
    taken = frozenset(cpu for cpu, owner in room.owners.items() if owner != vm.resident.name)
    sets = []
    for side in vm.sides:
        by_hand = {} if side.placed else pinned(side.pins)
        sets += [cpus for thread, cpus in thread_sets(side.domain, room.cpus).items() if thread not in by_hand]
    return frozenset(cpu for cpus in sets for cpu in cpus & taken)
