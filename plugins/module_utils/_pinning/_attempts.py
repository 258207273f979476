# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""Where on a host the memory of a running VM is."""

from __future__ import annotations

from dataclasses import replace
from typing import FrozenSet, Iterator, List, Mapping

from .._domain import Pinning, PinningPolicy
from ._move import bound_nodes
from ._room import Room
from ._vm import Vm, most_held

# The modes with which memory is nowhere else than in the nodes they name.
_BINDING = ("strict", "restrictive", "interleave")


def attempts(vm: Vm, room: Room) -> Iterator[PinningPolicy]:
    """Return the policy with the host cells that hold the memory of a running VM, one set after the other.

    The VM cannot take its memory along, so that it is best placed there, if it can be.
    """
    policy, everywhere = vm.policy, frozenset(cell.id for cell in room.cells)
    # Where there is never memory, there is none to be left behind.
    bare = frozenset(cell.id for cell in room.cells if not cell.has_memory)
    live = vm.resident.live
    if vm.runs and live is not None:
        for cells in _with_memory(live.pinning, vm.resident.held_kib):
            allowed = (cells | bare) & (everywhere if policy.host_cells is None else policy.host_cells)
            if allowed & cells:
                yield replace(policy, host_cells=allowed)


def _with_memory(pins: Pinning, held_kib: Mapping[int, int]) -> List[FrozenSet[int]]:
    bound = bound_nodes(pins)
    if bound and pins.memory is not None and pins.memory.mode in _BINDING:
        return [bound]
    found: List[FrozenSet[int]] = []
    holding = frozenset(cell for cell, kib in held_kib.items() if kib)
    for cells in (most_held(held_kib), holding):
        found += [cells] if cells and cells not in found else []
    return found
