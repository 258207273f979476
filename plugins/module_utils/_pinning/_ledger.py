# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which CPUs of a host belong to whom, derived from the definitions of its VMs and stored nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterable, List, Mapping, Sequence, Set, Tuple

from .._domain import AUTO, Pinning, PinningPolicy, VcpuPin
from .._topology import Cell, format_cpuset, parse_cpuset
from ._isolation_guard import ThreadPin


@dataclass(frozen=True)
class Claim:
    """The CPUs that a dedicated VM has for itself, running or not.

    ``cpus`` are those of its vCPUs and of an isolated emulator, ``blocked`` the sibling threads that the thread policy
    ``isolate`` keeps empty.
    """

    vm: str
    uuid: str
    running: bool
    cpus: FrozenSet[int]
    blocked: FrozenSet[int] = frozenset()

    @property
    def all(self) -> FrozenSet[int]:
        """Every CPU on which no other VM may run."""
        return self.cpus | self.blocked


@dataclass(frozen=True)
class Conflict:
    """CPUs that two VMs want, at least one of them for itself. Each VM is its name and UUID."""

    first: Tuple[str, str]
    second: Tuple[str, str]
    cpus: FrozenSet[int]

    def __str__(self) -> str:
        """Return the words for a message."""
        return f"{self.first[0]} and {self.second[0]} on {format_cpuset(self.cpus)}"


def exclusive_cpus(
    policy: PinningPolicy, pinning: Pinning, cells: Sequence[Cell]
) -> Tuple[FrozenSet[int], FrozenSet[int]]:
    """Return the CPUs that a VM has for itself, and the threads beside its vCPUs that stay empty."""
    if policy.policy != "dedicated":
        return frozenset(), frozenset()
    vcpus = frozenset(cpu for pin in seats(policy, pinning) for cpu in parse_cpuset(pin.cpus))
    own = pinning.emulator if policy.emulator == "isolate" and pinning.emulator != AUTO else None
    cpus = vcpus | parse_cpuset(own or "")
    cores = [core for cell in cells for core in cell.cores if core & vcpus]
    blocked = frozenset(cpu for core in cores for cpu in core - cpus if policy.thread_policy == "isolate")
    return cpus, blocked


def seats(policy: PinningPolicy, pinning: Pinning) -> Tuple[VcpuPin, ...]:
    """Return the pins of a dedicated VM's vCPUs that have a CPU for themselves.

    One that was plugged shares CPUs, as the emulator does, until its pins are chosen anew. Beside an isolated emulator
    it is not told from the others where only one CPU is shared.
    """
    shared = pinning.emulator if policy.emulator == "share" else None
    return tuple(pin for pin in pinning.vcpus if len(parse_cpuset(pin.cpus)) == 1 and pin.cpus != shared)


def conflicts(claims: Iterable[Claim], pins: Iterable[ThreadPin] = ()) -> Tuple[Conflict, ...]:
    """Return every two VMs of which one uses what the other has for itself, sorted by name."""
    ledger = sorted(claims, key=lambda claim: (claim.vm, claim.uuid))
    by_vm = pins_by_vm(pins)
    found: Dict[Tuple[Tuple[str, str], Tuple[str, str]], Set[int]] = {}
    for index, claim in enumerate(ledger):
        for other in ledger[index + 1 :]:
            _add(found, (claim.vm, claim.uuid), (other.vm, other.uuid), claim.cpus & other.all | other.cpus & claim.all)
        for pin in by_vm:
            _add(found, (claim.vm, claim.uuid), pin[0], claim.all & pin[1])
    return tuple(Conflict(*pair, frozenset(cpus)) for pair, cpus in sorted(found.items()))


def pins_by_vm(pins: Iterable[ThreadPin]) -> List[Tuple[Tuple[str, str], FrozenSet[int]]]:
    """Return the CPUs to which each VM is pinned, by its name and UUID."""
    found: Dict[Tuple[str, str], FrozenSet[int]] = {}
    for pin in pins:
        found[pin.vm, pin.uuid] = found.get((pin.vm, pin.uuid), frozenset()) | pin.cpus
    return sorted(found.items())


def _add(
    found: Dict[Tuple[Tuple[str, str], Tuple[str, str]], Set[int]],
    one: Tuple[str, str],
    other: Tuple[str, str],
    cpus: FrozenSet[int],
) -> None:
    if cpus and one != other:
        found.setdefault((min(one, other), max(one, other)), set()).update(cpus)


def owners(claims: Iterable[Claim]) -> Mapping[int, str]:
    """Return the name of the VM that has each claimed CPU for itself."""
    return {cpu: claim.vm for claim in claims for cpu in sorted(claim.all)}
