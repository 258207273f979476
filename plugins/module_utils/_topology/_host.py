# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The host's sockets, dies, cores, threads and NUMA cells, from libvirt's capabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterable, List, Optional, Set, Tuple

from .. import _xml
from ._cells import LOCAL_DISTANCE, REMOTE_DISTANCE, Cell, PageSize
from ._cpuset import parse_cpuset

_UNIT_KIB = {"b": 1 / 1024, "bytes": 1 / 1024, "KiB": 1, "MiB": 1024, "GiB": 1024 * 1024}


@dataclass(frozen=True)
class HostTopology:
    """Totals of a host: ``sockets`` of the host, ``dies`` of a socket, ``cores`` of a die, ``threads`` of a core.

    On an uneven host each is the largest that occurs, so the product is an upper bound; ``cpus`` is exact.
    """

    sockets: int
    dies: int
    cores: int
    threads: int
    cells: Tuple[Cell, ...] = ()

    @property
    def cpus(self) -> FrozenSet[int]:
        """Every CPU of every cell."""
        return frozenset(cpu for cell in self.cells for cpu in cell.cpus)

    @property
    def memory_kib(self) -> int:
        """Memory of all cells."""
        return sum(cell.memory_kib for cell in self.cells)

    def as_dict(self) -> Dict[str, int]:
        """Return the totals as in a fleet snapshot (the cells are a key of their own there)."""
        return {"sockets": self.sockets, "dies": self.dies, "cores": self.cores, "threads": self.threads}


@dataclass(frozen=True)
class _Cpu:
    id: int
    cell: int
    socket: Optional[int]
    die: int
    core: Tuple[int, int]
    siblings: FrozenSet[int]


def from_capabilities(xml: str, online: Optional[FrozenSet[int]] = None) -> HostTopology:
    """Return the topology in ``virConnectGetCapabilities``; raises ``FleetError`` (``bad_xml``, ``bad_cpuset``).

    libvirt lists CPUs that are offline too, some releases as cores of their own in socket 0 (11.3.0); who knows the
    CPUs that are ``online`` gives them, and the others are left out.
    """
    root = _xml.parse_as(xml, "capabilities")
    elements = sorted(root.findall("host/topology/cells/cell"), key=_id)
    cpus = _online([cpu for element in elements for cpu in _cpus(element)], online)
    ids = [_id(element) for element in elements]
    cells = tuple(_cell(element, ids, [cpu for cpu in cpus if cpu.cell == _id(element)]) for element in elements)
    sockets, dies, cores, threads = _totals(cpus) or _stated_totals(root, len(cells))
    return HostTopology(sockets, dies, cores, threads, cells)


def _id(element: _xml.Element) -> int:
    return _xml.int_attribute(element, "id", 0)


def _cpus(cell: _xml.Element) -> List[_Cpu]:
    return [
        _Cpu(
            id=_id(cpu),
            cell=_id(cell),
            socket=_xml.to_int(cpu.get("socket_id")),
            die=_xml.int_attribute(cpu, "die_id", 0),
            core=(_xml.int_attribute(cpu, "cluster_id", 0), _xml.int_attribute(cpu, "core_id", 0)),
            siblings=parse_cpuset(cpu.get("siblings", "")),
        )
        for cpu in cell.findall("cpus/cpu")
    ]


def _online(cpus: List[_Cpu], online: Optional[FrozenSet[int]]) -> List[_Cpu]:
    """Leave out CPUs that are offline; some releases of libvirt give the place of all but these."""
    if online:
        cpus = [cpu for cpu in cpus if cpu.id in online]
    placed = [cpu for cpu in cpus if cpu.socket is not None]
    return placed or cpus


def _cell(element: _xml.Element, ids: Iterable[int], cpus: List[_Cpu]) -> Cell:
    return Cell(
        id=_id(element),
        cpus=frozenset(cpu.id for cpu in cpus),
        memory_kib=_memory_kib(element),
        distances=_distances(element, ids),
        pages=_pages(element),
        siblings=_siblings(cpus),
    )


def _memory_kib(cell: _xml.Element) -> int:
    unit = _xml.find_attribute(cell, "memory", "unit") or "KiB"
    return int((_xml.to_int(_xml.find_text(cell, "memory")) or 0) * _UNIT_KIB.get(unit, 1))


def _distances(cell: _xml.Element, ids: Iterable[int]) -> Tuple[int, ...]:
    stated = {_id(sibling): _xml.int_attribute(sibling, "value", 0) for sibling in cell.findall("distances/sibling")}
    own = _id(cell)
    return tuple(stated.get(other) or (LOCAL_DISTANCE if other == own else REMOTE_DISTANCE) for other in ids)


def _pages(cell: _xml.Element) -> Tuple[PageSize, ...]:
    pages = []
    for page in cell.findall("pages"):
        size = int(_xml.int_attribute(page, "size", 0) * _UNIT_KIB.get(page.get("unit", "KiB"), 1))
        pages.append(PageSize(size, _xml.to_int(page.text) or 0))
    return tuple(sorted(pages, key=lambda page: page.size_kib))


def _siblings(cpus: List[_Cpu]) -> Tuple[FrozenSet[int], ...]:
    own = frozenset(cpu.id for cpu in cpus)
    cores: Set[FrozenSet[int]] = {(cpu.siblings & own) | {cpu.id} for cpu in cpus}
    return tuple(sorted(cores, key=min))


def _totals(cpus: List[_Cpu]) -> Optional[Tuple[int, int, int, int]]:
    """Count from the place of each CPU; ``None`` when libvirt does not give the places."""
    if not cpus or any(cpu.socket is None for cpu in cpus):
        return None
    dies: Dict[Optional[int], Set[int]] = {}
    cores: Dict[Tuple[Optional[int], int], Set[object]] = {}
    for cpu in cpus:
        dies.setdefault(cpu.socket, set()).add(cpu.die)
        # core_id repeats between clusters on some machines; a set of sibling threads never does.
        cores.setdefault((cpu.socket, cpu.die), set()).add(cpu.siblings or cpu.core)
    return (
        len(dies),
        max(len(each) for each in dies.values()),
        max(len(each) for each in cores.values()),
        max(len(cpu.siblings) or 1 for cpu in cpus),
    )


def _stated_totals(root: _xml.Element, cells: int) -> Tuple[int, int, int, int]:
    """Return libvirt's own totals, whose ``sockets`` counts the sockets of one NUMA cell (``virNodeInfo``).

    For a host whose cells differ libvirt states one socket with all CPUs as its cores instead; multiplying that by the
    cells would give more CPUs than there are, which is how it is told apart.
    """
    known = len(root.findall("host/topology/cells/cell/cpus/cpu"))
    topology = root.find("host/cpu/topology")
    if topology is None:
        return (1, 1, max(1, known), 1)
    names = ("sockets", "dies", "cores", "threads")
    sockets, dies, cores, threads = (_xml.int_attribute(topology, name, 1) for name in names)
    factor = max(1, cells)
    if known and sockets * factor * dies * cores * threads > known:
        factor = 1
    return (sockets * factor, dies, cores, threads)
