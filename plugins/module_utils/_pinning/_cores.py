# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""Which CPUs of some cores a dedicated VM gets: how many of each core, and which of its threads on which of them.

Everything here is for cores that one VM may take from; which of the host's they are is chosen before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Dict, FrozenSet, Iterable, List, Optional, Sequence, Tuple

from ._room import RoomCell

PREFER, ISOLATE, REQUIRE = "prefer", "isolate", "require"


@dataclass(frozen=True)
class Core:
    """A core of the host: its threads that a VM can have for itself, and how many run in all."""

    free: Tuple[int, ...]
    size: int

    @property
    def shape(self) -> Tuple[int, int]:
        """The numbers of free and of all threads, on which alone depends how many are taken."""
        return len(self.free), self.size


@dataclass(frozen=True)
class Taken:
    """CPUs for a VM's own: by vCPU, for the emulator, and those that stay empty beside them."""

    vcpus: Dict[int, int] = field(default_factory=dict)
    emulator: Optional[int] = None
    blocked: FrozenSet[int] = frozenset()


def free_cores(cells: Iterable[RoomCell]) -> Tuple[Core, ...]:
    """Return the cores of host cells that have a free thread, in the order of the cells and of their lowest thread."""
    found: List[Core] = []
    for cell in cells:
        free = [(tuple(sorted(core & cell.dedicated)), len(core)) for core in cell.cores if core & cell.dedicated]
        found += [Core(*core) for core in sorted(free)]
    return tuple(found)


@lru_cache(maxsize=4096)
def counts(shape: Tuple[Tuple[int, int], ...], wanted: int, threads: str, unit: int) -> Tuple[int, ...]:
    """Return how many vCPUs each core carries.

    ``shape`` are the free and all threads of each core, ``wanted`` the vCPUs, ``threads`` the thread policy and
    ``unit`` the vCPUs that form a core of the guest. That so many fit must be known (``_packing.Stock.fits``).
    """
    if threads == ISOLATE:
        # The smallest cores, so that the fewest threads stay empty.
        whole = sorted((size, index) for index, (free, size) in enumerate(shape) if free == size)
        chosen = {index for size, index in whole[:wanted]}
        return tuple(int(index in chosen) for index in range(len(shape)))
    return _paired(shape, wanted) if threads == REQUIRE else _packed(shape, wanted, unit)


def _packed(shape: Sequence[Tuple[int, int]], wanted: int, unit: int) -> Tuple[int, ...]:
    """Take whole cores while they can be filled, then parts of cores that others use too, then parts of whole ones.

    Each in units of a guest's core at first, so that its threads stay together, unless that breaks more cores. With
    cores of one and two threads no way breaks fewer; with more there may be a better sum, which nobody looks for.
    """
    unit = min(unit, max((free for free, size in shape), default=1))
    parts = [(False, False, unit), (True, False, unit), (False, False, 1), (True, False, 1)]
    together = _in_rounds(shape, wanted, [(True, True, unit), *parts])
    apart = _in_rounds(shape, wanted, [(True, True, unit), (True, True, 1), *parts])
    return min(together, apart, key=lambda taken: _parts_of(shape, taken))


def _in_rounds(
    shape: Sequence[Tuple[int, int]], wanted: int, rounds: Iterable[Tuple[bool, bool, int]]
) -> Tuple[int, ...]:
    """Each round says whether it takes from whole cores, only all of a core, and in which steps."""
    taken, left = [0] * len(shape), wanted
    for whole, filled, step in rounds:
        for index in _largest_first(shape):
            free, size = shape[index]
            can = min(free - taken[index], left) // step * step
            if (free == size) == whole and (can == size or not filled):
                taken[index] += can
                left -= can
    return tuple(taken)


def _largest_first(shape: Sequence[Tuple[int, int]]) -> List[int]:
    return sorted(range(len(shape)), key=lambda index: (-shape[index][0], shape[index][1], index))


def _paired(shape: Sequence[Tuple[int, int]], wanted: int) -> Tuple[int, ...]:
    """Take from cores with two free threads or more; one vCPU is alone on its core only where that cannot be helped.

    Filling the largest cores first leaves at most the last one with one vCPU. It gets a second from any core that has
    three; where none has, all cores have two free threads and the number is odd.
    """
    taken, left, last = [0] * len(shape), wanted, None
    for index in _largest_first(shape):
        if left:
            taken[index] = min(shape[index][0], left)
            left -= taken[index]
            last = index
    richer = [index for index, count in enumerate(taken) if count >= 3]
    if last is not None and taken[last] == 1 and richer:
        taken[richer[-1]] -= 1
        taken[last] += 1
    return tuple(taken)


def broken(shape: Tuple[Tuple[int, int], ...], wanted: int, threads: str, unit: int) -> int:
    """Return how many cores a VM would share with others, taking ``wanted`` vCPUs from them."""
    if threads == ISOLATE:
        return 0
    return _parts_of(shape, counts(shape, wanted, threads, unit))


def _parts_of(shape: Iterable[Tuple[int, int]], taken: Iterable[int]) -> int:
    return sum(0 < count < size for count, (free, size) in zip(taken, shape))


def take(cores: Sequence[Core], groups: Sequence[Sequence[int]], threads: str, near: FrozenSet[int]) -> Taken:
    """Return the CPUs for vCPUs, given by the guest's cores, under a thread policy.

    One of the CPUs ``near``, if there are any, is taken for the emulator. That all fit must be known.
    """
    shape = tuple(core.shape for core in cores)
    unit = max((len(group) for group in groups), default=1)
    carried = counts(shape, sum(len(group) for group in groups), threads, unit)
    vcpus = _seated([list(core.free[:count]) for core, count in zip(cores, carried)], groups)
    used = frozenset(vcpus.values())
    beside = frozenset(cpu for core in cores if used & set(core.free) for cpu in core.free if cpu not in used)
    blocked = beside if threads == ISOLATE else frozenset()
    emulator = _for_emulator(cores, used, beside, near - blocked) if near else None
    return Taken(vcpus, emulator, blocked)


def _seated(seats: List[List[int]], groups: Sequence[Sequence[int]]) -> Dict[int, int]:
    """Put each core of the guest into the first core that has room for all of it, and the rest wherever it fits."""
    vcpus: Dict[int, int] = {}
    apart: List[int] = []
    for group in groups:
        core = next((core for core in seats if len(core) >= len(group)), None)
        if core is None:
            apart += group
        else:
            vcpus.update((vcpu, core.pop(0)) for vcpu in group)
    vcpus.update(zip(apart, [cpu for core in seats for cpu in core]))
    return vcpus


def _for_emulator(
    cores: Sequence[Core], used: FrozenSet[int], beside: FrozenSet[int], near: FrozenSet[int]
) -> Optional[int]:
    """Return the CPU that costs others least: beside the VM's own, then of a core in use, then of a whole one."""
    free = [(core, cpu) for core in cores for cpu in core.free if cpu in near - used]
    order = [(cpu not in beside, len(core.free) == core.size, cpu) for core, cpu in free]
    return min(order)[2] if order else None
