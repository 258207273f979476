# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What a VM asks of a host: its vCPUs, its NUMA cells and their memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from .._domain import Domain
from .._errors import FleetError
from .._topology import parse_cpuset


@dataclass(frozen=True)
class GuestCell:
    """A NUMA cell of a guest, with those of its vCPUs that the guest has now."""

    id: int
    vcpus: Tuple[int, ...]
    memory_kib: int


@dataclass(frozen=True)
class Guest:
    """A VM as the choice of pins sees it.

    ``vcpus`` are the numbers of those it has now, ``maximum`` how many it can get, ``threads`` how many form a core of
    the guest. A guest that sees no NUMA (``numa``) is one cell with everything. ``huge_pages_kib`` is the size of the
    pages of all its memory.
    """

    name: str
    uuid: str
    vcpus: Tuple[int, ...]
    maximum: int
    threads: int
    cells: Tuple[GuestCell, ...]
    numa: bool
    huge_pages_kib: Optional[int] = None
    iothreads: Tuple[int, ...] = ()

    @property
    def memory_kib(self) -> int:
        """Memory of all cells."""
        return sum(cell.memory_kib for cell in self.cells)

    def siblings(self, vcpus: Sequence[int]) -> Tuple[Tuple[int, ...], ...]:
        """Return some of the vCPUs by the guest's cores; libvirt numbers the threads of a core in a row."""
        cores = sorted({vcpu // self.threads for vcpu in vcpus})
        return tuple(tuple(vcpu for vcpu in sorted(vcpus) if vcpu // self.threads == core) for core in cores)


def guest_of(domain: Domain) -> Guest:
    """Return what a VM asks for, from its definition; raises ``FleetError`` with code ``bad_cpuset``."""
    vcpus = domain.vcpus
    named = [(cell.id, parse_cpuset(cell.vcpus), cell.memory_kib) for cell in domain.guest_cells]
    return Guest(
        name=domain.name,
        uuid=domain.uuid,
        vcpus=vcpus.online,
        maximum=vcpus.maximum,
        threads=vcpus.threads,
        cells=_cells(named, vcpus.online, domain.memory_kib),
        numa=bool(named),
        huge_pages_kib=domain.huge_pages_kib,
        iothreads=domain.iothreads,
    )


def guest_from_data(vm: Mapping[str, Any]) -> Guest:
    """Return what a VM asks for, from its entry in a fleet snapshot; raises ``FleetError`` with code ``bad_snapshot``.

    Where the entry does not list I/O threads, those that have a pin are taken.
    """
    try:
        return _from_data(vm)
    except (AttributeError, KeyError, TypeError, ValueError, FleetError) as error:
        raise FleetError(
            f"VM {vm.get('name')} in the snapshot cannot be read: {type(error).__name__}: {error}. "
            "Collect the fleet snapshot again, or correct vcpus, memory_kib and pinning.cells.",
            code="bad_snapshot",
            object=f"vm {vm.get('name')}",
        ) from error


def _from_data(vm: Mapping[str, Any]) -> Guest:
    vcpus, pinning = vm["vcpus"], vm.get("pinning") or {}
    online = tuple(sorted(parse_cpuset(vcpus["online"]))) if vcpus.get("online") else tuple(range(vcpus["current"]))
    named = [
        (int(cell["id"]), parse_cpuset(cell["vcpus"]), int(cell["memory_kib"])) for cell in pinning.get("cells") or ()
    ]
    pinned = [pin["iothread"] for pin in pinning.get("iothreads") or ()]
    return Guest(
        name=vm["name"],
        uuid=vm.get("uuid") or "",
        vcpus=online,
        maximum=vcpus.get("maximum") or max(online) + 1,
        threads=(vcpus.get("topology") or {}).get("threads") or 1,
        cells=_cells(named, online, vm.get("memory_kib") or 0),
        numa=bool(named),
        huge_pages_kib=vm.get("huge_pages_kib"),
        iothreads=tuple(sorted(vm.get("iothreads") or pinned)),
    )


def _cells(
    named: List[Tuple[int, FrozenSet[int], int]], online: Sequence[int], memory_kib: int
) -> Tuple[GuestCell, ...]:
    """Return the guest's cells; what none of them names is the first one's.

    For vCPUs that is QEMU's rule. For memory it is a guess at where plugged DIMMs belong.
    """
    first, *others = sorted(named) or [(0, frozenset(), 0)]
    elsewhere = {vcpu for cell in others for vcpu in cell[1]}
    rest = max(0, memory_kib - sum(cell[2] for cell in named))
    cells = [GuestCell(first[0], tuple(vcpu for vcpu in online if vcpu not in elsewhere), first[2] + rest)]
    cells += [
        GuestCell(number, tuple(vcpu for vcpu in online if vcpu in own), memory) for number, own, memory in others
    ]
    return tuple(cells)
