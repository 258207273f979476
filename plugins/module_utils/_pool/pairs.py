# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Why two hosts may not be in one pool: what a migration between them could not carry over.

``PAIRS`` is the registry. Each function gets the host that wants to join, a host that is in the pool, and what the VMs
and the CPU of the pool need.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, Optional, Sequence, Tuple

from .._cpu import layout_differences
from .model import Fleet, Host, Refusal, Tsc, Xsave

Kind = Tuple[Any, ...]


@dataclass(frozen=True)
class Side:
    """A host as its partner in a migration sees it.

    ``used_types`` are the machine types of its VMs, each with the VMs; ``invtsc_vms`` are VMs whose clock must not
    change its pace.
    """

    name: str
    virt_type: Optional[str]
    xsave: Optional[Xsave]
    tsc: Optional[Tsc]
    machine_types: Optional[FrozenSet[str]]
    used_types: Tuple[Tuple[str, Tuple[str, ...]], ...] = ()
    invtsc_vms: Tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        """What decides; sides of one kind get along with the same sides."""
        types = tuple(machine_type for machine_type, vms in self.used_types)
        return (self.virt_type, self.xsave, self.tsc, self.machine_types, types, bool(self.invtsc_vms))


@dataclass(frozen=True)
class Conflict:
    """Why two hosts do not go together."""

    code: str
    text: str
    facts: Dict[str, Any]


def side(host: Host, fleet: Fleet) -> Side:
    """Return a host with what its VMs need; stopped ones count too if they are persistent."""
    used: Dict[str, List[str]] = {}
    invtsc: List[str] = []
    for vm in fleet.on(host.name):
        if not (vm.active or vm.persistent):
            continue
        if vm.machine_type is not None:
            used.setdefault(vm.machine_type, []).append(vm.name)
        if "invtsc" in (vm.features or ()):
            invtsc.append(vm.name)
    return Side(
        name=host.name,
        virt_type=host.traits.virt_type,
        xsave=host.traits.xsave,
        tsc=host.traits.tsc,
        machine_types=host.machine_types,
        used_types=tuple((machine_type, tuple(used[machine_type])) for machine_type in sorted(used)),
        invtsc_vms=tuple(invtsc),
    )


Pair = Callable[[Side, Side, FrozenSet[str]], Optional[Conflict]]


def xsave(new: Side, member: Side, features: FrozenSet[str]) -> Optional[Conflict]:
    """Compare where the CPUs put the state of what guests use; offsets are not the same on all CPUs.

    Emulated guests have the layout of QEMU, the same everywhere.
    """
    if new.xsave is None or member.xsave is None or "kvm" not in (new.virt_type, member.virt_type):
        return None
    found = layout_differences(new.xsave, member.xsave, features)
    if not found:
        return None
    words = "; ".join(f"{item.name}: {_place(item.a)}, {member.name} {_place(item.b)}" for item in found)
    text = f"lays out the state of the CPU in another way than {member.name} ({words})"
    return Conflict("xsave", text, {"components": [item.component for item in found]})


def _place(place: Optional[Tuple[int, int]]) -> str:
    return "has none" if place is None else f"{place[0]} bytes at {place[1]}"


def tsc(new: Side, member: Side, features: FrozenSet[str]) -> Optional[Conflict]:
    """Compare clocks where a VM has invtsc: its new host must run at the old pace, or be able to scale it."""
    for source, target in ((new, member), (member, new)):
        if not source.invtsc_vms or source.tsc is None or target.tsc is None or target.tsc.scaling:
            continue
        if not target.tsc.is_close(source.tsc):
            text = (
                f"does not go together with {member.name}: {', '.join(source.invtsc_vms)} on {source.name} with invtsc"
                f" need the clock of {source.tsc.frequency_hz} Hz, and {target.name} has {target.tsc.frequency_hz} Hz"
                " without TSC scaling"
            )
            return Conflict("tsc", text, {"vms": list(source.invtsc_vms)})
    return None


def machine_type(new: Side, member: Side, features: FrozenSet[str]) -> Optional[Conflict]:
    lacking = _lacking(member, new)
    if lacking:
        text = f"lacks machine types that VMs on {member.name} have ({_words(lacking)})"
        return Conflict("machine_type", text, {"machine_types": [name for name, vms in lacking]})
    lacking = _lacking(new, member)
    if lacking:
        text = f"has VMs with machine types that {member.name} lacks ({_words(lacking)})"
        return Conflict("machine_type", text, {"machine_types": [name for name, vms in lacking]})
    return None


def _lacking(source: Side, target: Side) -> List[Tuple[str, Tuple[str, ...]]]:
    if target.machine_types is None:
        return []
    return [(name, vms) for name, vms in source.used_types if name not in target.machine_types]


def _words(lacking: Sequence[Tuple[str, Tuple[str, ...]]]) -> str:
    return "; ".join(f"{name}: {', '.join(vms)}" for name, vms in lacking)


PAIRS: Tuple[Pair, ...] = (xsave, tsc, machine_type)

_NEXT = {
    "xsave": "Put it into another pool, or give the pool a CPU without these features.",
    "tsc": "Take invtsc from these VMs, or put the host into another pool.",
    "machine_type": "Bring QEMU on all hosts to one version, or give these VMs another machine type.",
}


def conflict(new: Side, member: Side, features: FrozenSet[str]) -> Optional[Conflict]:
    """Return the first reason why two hosts may not be in one pool."""
    for pair in PAIRS:
        found = pair(new, member, features)
        if found is not None:
            return found
    return None


def admit(
    pool: str, members: Sequence[Host], joiners: Sequence[Host], features: FrozenSet[str], fleet: Fleet
) -> Dict[str, Refusal]:
    """Return which of the ``joiners`` cannot be in one pool with its members, or with other joiners, by name.

    Those that get along with most others are let in first, so that one odd host does not keep all others out. The
    outcome does not depend on the order of the arguments, and asking again once the others are members refuses the
    same hosts.
    """
    # Hosts of a fleet are of few kinds, so each pair of kinds is looked at once.
    inside: Dict[Kind, Side] = {}
    for host in sorted(members, key=lambda host: host.name):
        item = side(host, fleet)
        inside.setdefault(item.kind, item)
    waiting = [(item.kind, item) for item in (side(host, fleet) for host in joiners)]
    kinds = Counter(kind for kind, item in waiting)
    example = dict(waiting)
    clashes = {
        kind: sum(count for other, count in kinds.items() if conflict(example[kind], example[other], features))
        for kind in kinds
    }
    refused: Dict[str, Refusal] = {}
    for kind, item in sorted(waiting, key=lambda pair: (clashes[pair[0]], pair[1].name)):
        found = _first_conflict(pool, item, inside.values(), features)
        if found is None:
            inside.setdefault(kind, item)
        else:
            refused[item.name] = found
    return refused


def _first_conflict(pool: str, item: Side, inside: Iterable[Side], features: FrozenSet[str]) -> Optional[Refusal]:
    for member in inside:
        found = conflict(item, member, features)
        if found is not None:
            msg = f"Host {item.name} {found.text}. {_NEXT[found.code]}"
            return Refusal(found.code, msg, item.name, pool, {"member": member.name, **found.facts})
    return None


def layouts_clash(hosts: Sequence[Host], features: FrozenSet[str], fleet: Fleet) -> bool:
    """Whether hosts that are in one pool already lay out the state of these features in different ways."""
    sides = {item.kind: item for item in (side(host, fleet) for host in hosts)}
    return any(xsave(one, other, features) for one in sides.values() for other in sides.values())
