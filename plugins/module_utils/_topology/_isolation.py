# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which CPUs of a host are isolated for VMs and which keep house, from numbers or from an intent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import FrozenSet, List, Optional, Tuple

from .._errors import FleetError
from ._cpuset import format_cpuset
from ._host import HostTopology

# The boot CPU keeps duties of the kernel that cannot be moved to others.
BOOT_CPU = 0


@dataclass(frozen=True)
class IsolationRequest:
    """What is asked for: one of the sets, both if they are all CPUs, or how many cores of each cell keep house.

    ``keep_siblings`` refuses sets that split the threads of a core, ``housekeeping_in_each_cell`` those that leave a
    cell with CPUs none of its own; ``force`` allows CPU 0 to be isolated.
    """

    isolated: Optional[FrozenSet[int]] = None
    housekeeping: Optional[FrozenSet[int]] = None
    housekeeping_cores_per_cell: Optional[int] = None
    keep_siblings: bool = True
    housekeeping_in_each_cell: bool = False
    force: bool = False


@dataclass(frozen=True)
class Isolation:
    """All CPUs that are online, each in one of two sets."""

    isolated: FrozenSet[int]
    housekeeping: FrozenSet[int]


def isolate(
    request: IsolationRequest, topology: HostTopology, present: FrozenSet[int], online: FrozenSet[int]
) -> Isolation:
    """Return the two sets that a request means on a host.

    ``present`` are the CPUs the host has, ``online`` those that run. Raises ``FleetError``: ``bad_options``,
    ``no_such_cpu``, ``cpu_offline``, ``no_housekeeping``, ``cpu0_isolated`` and ``siblings_split``, each with the CPUs
    or cells in question as facts.
    """
    _require_one_way(request)
    _require_online(request, present, online)
    if request.housekeeping_cores_per_cell is not None:
        found = _by_cores(request.housekeeping_cores_per_cell, topology, online)
    else:
        found = _by_numbers(request, online)
    _require_housekeeping(request, found, topology)
    if request.keep_siblings:
        _require_whole_cores(found, topology)
    return found


def _require_one_way(request: IsolationRequest) -> None:
    given = request.isolated is not None or request.housekeeping is not None
    cores = request.housekeeping_cores_per_cell
    if given == (cores is not None):
        raise FleetError(
            "What to isolate is not clear. Give either isolated and/or housekeeping, or housekeeping_cores_per_cell.",
            "bad_options",
        )
    if cores is not None and cores < 1:
        raise FleetError(
            f"housekeeping_cores_per_cell is {cores}, but the host needs CPUs of its own. Give at least 1.",
            "bad_options",
            housekeeping_cores_per_cell=cores,
        )


def _require_online(request: IsolationRequest, present: FrozenSet[int], online: FrozenSet[int]) -> None:
    for option, cpus in (("isolated", request.isolated), ("housekeeping", request.housekeeping)):
        missing = (cpus or frozenset()) - present
        if missing:
            raise FleetError(
                f"{option} names CPUs that this host does not have: {format_cpuset(missing)}. "
                f"It has {format_cpuset(present)}; name only those.",
                "no_such_cpu",
                cpus=format_cpuset(missing),
                present=format_cpuset(present),
            )
        offline = (cpus or frozenset()) - online
        if offline:
            raise FleetError(
                f"{option} names CPUs that are offline: {format_cpuset(offline)}. "
                "Bring them online (/sys/devices/system/cpu/cpuN/online, or the argument nosmt), or leave them out.",
                "cpu_offline",
                cpus=format_cpuset(offline),
                online=format_cpuset(online),
            )


def _by_numbers(request: IsolationRequest, online: FrozenSet[int]) -> Isolation:
    isolated, housekeeping = request.isolated, request.housekeeping
    if isolated is None:
        isolated = online - (housekeeping or frozenset())
    if housekeeping is None:
        housekeeping = online - isolated
    both, neither = isolated & housekeeping, online - isolated - housekeeping
    if both or neither:
        wrong = f"CPUs {format_cpuset(both)} are in both" if both else f"CPUs {format_cpuset(neither)} are in neither"
        raise FleetError(
            f"isolated and housekeeping do not fit together: {wrong}. Give one of them; the other follows.",
            "bad_options",
            cpus=format_cpuset(both or neither),
        )
    return Isolation(isolated, housekeeping)


def _by_cores(count: int, topology: HostTopology, online: FrozenSet[int]) -> Isolation:
    """Keep the first cores of each cell, by their lowest CPU: so CPU 0 and its siblings always keep house.

    CPUs in no cell keep house too: nobody could say which memory is near them.
    """
    first = frozenset(cpu for cores in _cores_by_cell(topology, online) for core in cores[:count] for cpu in core)
    housekeeping = online & (first | (online - topology.cpus))
    if housekeeping == online:
        raise FleetError(
            f"housekeeping_cores_per_cell is {count}, which leaves no CPU to isolate; give a smaller number.",
            "bad_options",
            housekeeping_cores_per_cell=count,
        )
    return Isolation(online - housekeeping, housekeeping)


def _cores_by_cell(topology: HostTopology, online: FrozenSet[int]) -> List[Tuple[FrozenSet[int], ...]]:
    """Return the cores that run, by cell, in the order of their lowest CPU."""
    by_cell = [[core & online for core in cell.siblings if core & online] for cell in topology.cells]
    return [tuple(sorted(cores, key=min)) for cores in by_cell]


def _require_housekeeping(request: IsolationRequest, found: Isolation, topology: HostTopology) -> None:
    if not found.housekeeping:
        raise FleetError(
            "No housekeeping CPU would be left on this host, and it could not run its own services. "
            "Isolate fewer CPUs; at least one core, best that of CPU 0, stays with the host.",
            "no_housekeeping",
            cells=[],
        )
    if BOOT_CPU in found.isolated and not request.force:
        raise FleetError(
            "CPU 0 would be isolated, but the kernel keeps duties on it that cannot be moved. "
            "Leave it out, or set force if VMs may be disturbed there.",
            "cpu0_isolated",
        )
    everything = found.isolated | found.housekeeping
    bare = [cell.id for cell in topology.cells if cell.cpus & everything and not cell.cpus & found.housekeeping]
    if request.housekeeping_in_each_cell and bare:
        raise FleetError(
            f"No housekeeping CPU would be left in the NUMA cells {format_cpuset(bare)}. "
            "Isolate fewer CPUs there, or unset housekeeping_in_each_cell.",
            "no_housekeeping",
            cells=bare,
        )


def _require_whole_cores(found: Isolation, topology: HostTopology) -> None:
    cores = [core for cell in topology.cells for core in cell.siblings]
    split = [format_cpuset(core) for core in cores if core & found.isolated and core & found.housekeeping]
    if split:
        raise FleetError(
            f"The threads of a core would be split between VMs and the host: {'; '.join(split)}. "
            "Give each core to one of them as a whole, or unset keep_siblings.",
            "siblings_split",
            cores=split,
        )
