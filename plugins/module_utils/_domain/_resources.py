# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What a VM consists of beside its CPU model: vCPUs, guest NUMA cells, huge pages, I/O threads; found and wished.

libvirt would correct or drop some of what does not fit together without a word (the size of the memory, pins of vCPUs
that do not exist), so all of it is checked here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple, Union

from .._errors import FleetError
from .._topology import format_cpuset, parse_cpuset
from ._parse import Domain, GuestCell

# QEMU gives memory in pieces of this size at least.
_GRAIN_KIB = 1024


@dataclass(frozen=True)
class Topology:
    """The CPUs that a guest sees: their product is the maximum number of vCPUs."""

    sockets: int
    dies: int
    cores: int
    threads: int

    @property
    def product(self) -> int:
        """How many vCPUs it has."""
        return self.sockets * self.dies * self.cores * self.threads


@dataclass(frozen=True)
class Resources:
    """What a definition has. ``huge_pages_kib`` is 0 without huge pages, ``iothreads`` are numbers."""

    maximum: int
    current: int
    topology: Topology
    cells: Tuple[GuestCell, ...] = ()
    huge_pages_kib: int = 0
    iothreads: Tuple[int, ...] = ()

    def as_dict(self) -> Dict[str, Any]:
        """Return them as in a fleet snapshot."""
        return {
            "vcpus": {"maximum": self.maximum, "current": self.current, "topology": dict(vars(self.topology))},
            "cells": [dict(vars(cell)) for cell in self.cells],
            "huge_pages_kib": self.huge_pages_kib,
            "iothreads": list(self.iothreads),
        }


def resources_of(domain: Domain) -> Resources:
    """Return what a parsed domain has."""
    vcpus = domain.vcpus
    return Resources(
        maximum=vcpus.maximum,
        current=vcpus.current,
        topology=Topology(vcpus.sockets, vcpus.dies, vcpus.cores, vcpus.threads),
        cells=domain.guest_cells,
        huge_pages_kib=domain.huge_pages_kib or 0,
        iothreads=domain.iothreads,
    )


@dataclass(frozen=True)
class ResourceWish:
    """What somebody wants of a VM; ``None`` stays as it is.

    ``topology`` may lack parts: dies and threads are 1, and sockets or cores are what makes the product. ``cells`` is
    a list of cells with ``vcpus`` and ``memory_kib``, or how many equal ones. ``iothreads`` is a number of threads.
    """

    maximum: Optional[int] = None
    current: Optional[int] = None
    topology: Optional[Mapping[str, int]] = None
    cells: Union[int, Tuple[GuestCell, ...], None] = None
    huge_pages_kib: Optional[int] = None
    iothreads: Optional[int] = None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ResourceWish:
        """Return the wish of a mapping with ``vcpus``, ``cells``, ``huge_pages_kib`` and ``iothreads``.

        Missing keys and ``None`` are no wish. Raises ``bad_options`` for what cannot be read (fact ``option``).
        """
        vcpus = data.get("vcpus") or {}
        given = vcpus.get("topology") or {}
        topology = {name: _number(value, name, 1) or 1 for name, value in given.items() if value is not None}
        return cls(
            _number(vcpus.get("maximum"), "maximum", 1),
            _number(vcpus.get("current"), "current", 1),
            topology or None,
            _cells(data.get("cells")),
            _number(data.get("huge_pages_kib"), "huge_pages_kib", 0),
            _number(data.get("iothreads"), "iothreads", 0),
        )


def wished_resources(name: str, found: Resources, memory_kib: int, wish: ResourceWish) -> Resources:
    """Return what a VM is to have, of what it has and what is wished.

    ``memory_kib`` is its memory without plugged DIMMs, which the cells share out. Raises ``vcpus``, ``topology``,
    ``cells`` or ``huge_pages`` (fact ``vm``) for what does not fit together.
    """
    maximum = found.maximum if wish.maximum is None else wish.maximum
    current = found.current if wish.current is None else wish.current
    if current > maximum:
        cause = f"{current} vCPUs at the start are more than the {maximum} it may have"
        _refuse(name, "vcpus", cause, "Give both, current and maximum.")
    wanted = replace(found, maximum=maximum, current=current, topology=_topology(name, found, maximum, wish.topology))
    if wish.huge_pages_kib is not None:
        wanted = replace(wanted, huge_pages_kib=wish.huge_pages_kib)
    if wish.iothreads is not None:
        wanted = replace(wanted, iothreads=_threads(found.iothreads, wish.iothreads))
    if isinstance(wish.cells, int):
        wanted = replace(wanted, cells=_even_cells(name, wanted, memory_kib, wish.cells))
    elif wish.cells is not None:
        wanted = replace(wanted, cells=wish.cells)
    if wanted != found:
        _check_cells(name, wanted, memory_kib)
    if wanted.huge_pages_kib and (wish.huge_pages_kib is not None or wanted.cells != found.cells):
        _check_pages(name, wanted, memory_kib)
    return wanted


def _topology(name: str, found: Resources, maximum: int, wish: Optional[Mapping[str, int]]) -> Topology:
    if wish is None:
        flat = found.topology == Topology(found.maximum, 1, 1, 1)
        wanted = Topology(maximum, 1, 1, 1) if flat else found.topology
    else:
        inner = wish.get("dies", 1) * wish.get("threads", 1)
        sockets = wish.get("sockets", 1 if "cores" not in wish else maximum // max(1, inner * wish["cores"]))
        cores = wish.get("cores", maximum // (inner * max(1, sockets)))
        wanted = Topology(sockets, wish.get("dies", 1), cores, wish.get("threads", 1))
    if wanted.product != maximum:
        parts = ", ".join(f"{count} {part}" for part, count in vars(wanted).items())
        cause = f"a topology of {parts} makes {wanted.product} vCPUs and not the maximum of {maximum}"
        _refuse(name, "topology", cause, "Give a topology and a maximum that fit together.")
    return wanted


def _threads(found: Tuple[int, ...], count: int) -> Tuple[int, ...]:
    """Return the lowest of the numbers there are, and for more threads the lowest free ones, as libvirt counts."""
    free = [number for number in range(1, len(found) + count + 1) if number not in found]
    return tuple(sorted([*found[:count], *free[: max(0, count - len(found))]]))


def _even_cells(name: str, wanted: Resources, memory_kib: int, count: int) -> Tuple[GuestCell, ...]:
    """Share out whole cores and whole pages; where they do not come out even, the first cells have one more."""
    threads, grain = wanted.topology.threads, wanted.huge_pages_kib or _GRAIN_KIB
    cores, pages = wanted.maximum // threads, memory_kib // grain
    if count > min(cores, pages):
        least = f"{cores} cores" if cores < pages else f"{pages} pieces of memory of {grain} KiB"
        _refuse(name, "cells", f"its {least} cannot be shared out to {count} cells", "Give it fewer cells.")
    cells: List[GuestCell] = []
    first = 0
    for number in range(count):
        size = (cores // count + (number < cores % count)) * threads
        share = (pages // count + (number < pages % count)) * grain + (0 if number else memory_kib % grain)
        cells.append(GuestCell(number, format_cpuset(range(first, first + size)), share))
        first += size
    return tuple(cells)


def _check_cells(name: str, wanted: Resources, memory_kib: int) -> None:
    if not wanted.cells:
        return
    members = [vcpu for cell in wanted.cells for vcpu in parse_cpuset(cell.vcpus)]
    advice = "Give cells that have every vCPU and all memory once."
    if sorted(members) != list(range(wanted.maximum)):
        twice = format_cpuset({vcpu for vcpu in members if members.count(vcpu) > 1})
        unknown = format_cpuset(set(members) - set(range(wanted.maximum)))
        without = format_cpuset(set(range(wanted.maximum)) - set(members))
        causes = (
            f"its cells have the vCPUs {unknown}, and it has none beyond {wanted.maximum - 1}" if unknown else "",
            f"the vCPUs {twice} are in several cells" if twice else "",
            f"the vCPUs {without} are in no cell" if without else "",
        )
        _refuse(name, "cells", "; ".join(cause for cause in causes if cause), advice)
    total = sum(cell.memory_kib for cell in wanted.cells)
    if total != memory_kib:
        _refuse(name, "cells", f"its cells have {total} KiB of memory, and it has {memory_kib} KiB", advice)


def _check_pages(name: str, wanted: Resources, memory_kib: int) -> None:
    parts = {f"cell {cell.id}": cell.memory_kib for cell in wanted.cells} or {"it": memory_kib}
    _require_whole(name, wanted.huge_pages_kib, parts)


def require_whole_pages(name: str, wish: ResourceWish, dimms: Sequence[int]) -> None:
    """Raise ``huge_pages`` unless every plugged DIMM, in KiB, consists of the huge pages that are wished."""
    _require_whole(name, wish.huge_pages_kib or 0, {f"DIMM {number}": kib for number, kib in enumerate(dimms)})


def _require_whole(name: str, size_kib: int, parts: Mapping[str, int]) -> None:
    for what, kib in parts.items():
        if size_kib and kib % size_kib:
            cause = f"{what} has {kib} KiB, which is no multiple of its huge pages of {size_kib} KiB"
            _refuse(name, "huge_pages", cause, "Give it smaller pages, or memory that comes out even.")


def _cells(data: Any) -> Union[int, Tuple[GuestCell, ...], None]:
    if data is None or data in ([], ()):
        return None if data is None else 0
    if not isinstance(data, (list, tuple)):
        return _number(data, "cells", 0)
    cells = []
    for number, cell in enumerate(data):
        if not isinstance(cell, Mapping) or set(cell) != {"vcpus", "memory_kib"}:
            raise _bad("cells", f"has {cell!r}. Give each cell as vcpus and memory_kib, or the number of cells")
        memory_kib = _number(cell["memory_kib"], "cells", 1) or 0
        try:
            cells.append(GuestCell(number, format_cpuset(parse_cpuset(str(cell["vcpus"]))), memory_kib))
        except FleetError as error:
            raise _bad("cells", f"cannot be read: {error.msg}") from error
    return tuple(cells)


def _number(value: Any, option: str, least: int) -> Optional[int]:
    """Return a whole number, also of text as templates make it."""
    if value is None:
        return None
    text = str(value).strip()
    if isinstance(value, bool) or not text.isdigit() or int(text) < least:
        raise _bad(option, f"is {value!r}. Give a whole number from {least} on")
    return int(text)


def _bad(option: str, problem: str) -> FleetError:
    return FleetError(f"The option {option} {problem.rstrip('.')}.", "bad_options", option=option)


def _refuse(name: str, code: str, cause: str, advice: str) -> NoReturn:
    raise FleetError(f"VM {name} cannot be defined like this: {cause}. {advice}", code, vm=name, cause=cause)
