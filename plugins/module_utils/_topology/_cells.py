# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The NUMA cells of a host, as values and as data of a fleet snapshot."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from .._errors import FleetError
from ._cpuset import format_cpuset, parse_cpuset

# What Linux and ACPI assume between a cell and itself, and between any two cells, when the firmware says nothing.
LOCAL_DISTANCE = 10
REMOTE_DISTANCE = 20


@dataclass(frozen=True)
class PageSize:
    """Pages of one size in a cell; ``free`` is unknown to capabilities and ``None`` until a caller adds it."""

    size_kib: int
    total: int
    free: Optional[int] = None


@dataclass(frozen=True)
class Cell:
    """A NUMA node; it may have no CPUs or no memory. ``distances`` follow the order of the host's cells.

    ``siblings`` holds one set of threads for every core, also where a core has one thread. ``free_kib`` is unknown to
    capabilities, and ``None`` until a caller adds it.
    """

    id: int
    cpus: FrozenSet[int]
    memory_kib: int
    distances: Tuple[int, ...] = ()
    pages: Tuple[PageSize, ...] = ()
    siblings: Tuple[FrozenSet[int], ...] = ()
    free_kib: Optional[int] = None

    @property
    def cores(self) -> Tuple[FrozenSet[int], ...]:
        """Every CPU of the cell in exactly one core; those that ``siblings`` leaves out are cores of their own."""
        left, cores = set(self.cpus), []
        for threads in sorted(self.siblings, key=sorted):
            core = frozenset(threads & left)
            left -= core
            cores += [core] if core else []
        return tuple(sorted(cores + [frozenset({cpu}) for cpu in left], key=min))

    def as_dict(self, free_kib: Optional[int] = None, free_pages: Optional[Mapping[int, int]] = None) -> Dict[str, Any]:
        """Return the cell as in a fleet snapshot; free memory and pages (size in KiB → number) come from the caller."""
        free, kib = free_pages or {}, self.free_kib if free_kib is None else free_kib
        result: Dict[str, Any] = {"id": self.id, "cpus": format_cpuset(self.cpus), "memory_kib": self.memory_kib}
        if kib is not None:
            result["free_kib"] = kib
        result["distances"] = list(self.distances)
        result["pages"] = [_page_dict(page, free.get(page.size_kib, page.free)) for page in self.pages]
        result["siblings"] = [format_cpuset(threads) for threads in self.siblings]
        return result


def _page_dict(page: PageSize, free: Optional[int]) -> Dict[str, int]:
    result = {"size_kib": page.size_kib, "total": page.total}
    if free is not None:
        result["free"] = free
    return result


def cells_from_data(data: Any) -> Tuple[Cell, ...]:
    """Return the ``cells`` of a host in a fleet snapshot, by number; every key of a cell may be missing.

    A cell without ``id`` has its position in the list. Raises ``FleetError`` with code ``bad_cells`` for a wrong shape
    and for a number that two cells have.
    """
    cells = [_cell(item, index) for index, item in enumerate(_mappings(data, "cells"))]
    ids = [cell.id for cell in cells]
    if len(set(ids)) < len(ids):
        raise _bad("cells", "a list of cells with different ids", ids)
    # Distances are in the order of the list, which somebody may have written by hand.
    order = sorted(range(len(cells)), key=ids.__getitem__)
    return tuple(_reordered(cells[index], order) for index in order)


def _cell(item: Mapping[str, Any], index: int) -> Cell:
    where = f"cells[{index}]: "
    pages = [
        PageSize(_whole(page, "size_kib", where) or 0, _whole(page, "total", where) or 0, _whole(page, "free", where))
        for page in _mappings(item.get("pages"), f"{where}pages")
    ]
    distances = _list(item.get("distances"), f"{where}distances")
    number = _whole(item, "id", where)
    return Cell(
        id=index if number is None else number,
        cpus=_set(item.get("cpus"), f"{where}cpus"),
        memory_kib=_whole(item, "memory_kib", where) or 0,
        distances=tuple(_whole({"distances": each}, "distances", where) or 0 for each in distances),
        pages=tuple(sorted(pages, key=lambda page: page.size_kib)),
        siblings=tuple(_set(core, f"{where}siblings") for core in _list(item.get("siblings"), f"{where}siblings")),
        free_kib=_whole(item, "free_kib", where),
    )


def _mappings(value: Any, where: str) -> List[Mapping[str, Any]]:
    items = _list(value, where)
    if not all(isinstance(item, Mapping) for item in items):
        raise _bad(where, "a list of mappings", value)
    return items


def _list(value: Any, where: str) -> List[Any]:
    if value is not None and not isinstance(value, (list, tuple)):
        raise _bad(where, "a list", value)
    return list(value or ())


def _whole(item: Mapping[str, Any], key: str, where: str) -> Optional[int]:
    value = item.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _bad(where + key, "a whole number", value)
    return value


def _set(value: Any, where: str) -> FrozenSet[int]:
    try:
        return parse_cpuset(value or "")
    except (AttributeError, FleetError) as error:
        raise _bad(where, "a set such as '0-3,8'", value) from error


def _bad(where: str, wanted: str, value: Any) -> FleetError:
    return FleetError(f"{where} must be {wanted}, not {value!r}.", code="bad_cells", field=where)


def _reordered(cell: Cell, order: List[int]) -> Cell:
    if len(cell.distances) != len(order):
        return replace(cell, distances=())
    return replace(cell, distances=tuple(cell.distances[index] for index in order))


def distances_between(cells: Sequence[Cell]) -> Dict[int, Dict[int, int]]:
    """Return the distance from each cell to each, by their numbers, as the firmware states it or Linux assumes it."""
    between: Dict[int, Dict[int, int]] = {}
    for cell in cells:
        assumed = [LOCAL_DISTANCE if other.id == cell.id else REMOTE_DISTANCE for other in cells]
        stated = cell.distances if len(cell.distances) == len(cells) else assumed
        between[cell.id] = {other.id: distance for other, distance in zip(cells, stated)}
    return between
