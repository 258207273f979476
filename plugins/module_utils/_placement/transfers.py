# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""From blocks that were given to hosts to the moves of their VMs."""

from __future__ import annotations

from typing import List, Mapping, Optional, Sequence

from .problem import Problem
from .traffic import Pins, Transfer


def transfers(problem: Problem, assignment: Mapping[int, int]) -> Sequence[Transfer]:
    """Return the moves of an assignment of blocks; a VM that is there already does not move."""
    moves: List[Transfer] = []
    for block, host in sorted(assignment.items()):
        for vm in problem.blocks[block].vms:
            if problem.source[vm] != host:
                moves.append(transfer(problem, vm, problem.source[vm], host))
    return tuple(moves)


def transfer(problem: Problem, vm: int, source: int, host: int) -> Transfer:
    """Return the move of one VM."""
    tied = problem.vms[vm] if problem.vms[vm].tied else None
    return Transfer(vm, source, host, problem.demand[vm], problem.held[vm], tied)


def pins_of(problem: Problem) -> Optional[Pins]:
    """Return where the tied VMs of a problem find their pins, ``None`` where no VM is tied."""
    if not problem.tied:
        return None
    return Pins(problem.books, tuple(host.name for host in problem.hosts), problem.start)
