# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The planning problem: which VMs have to go, where they could, and what the hosts have for them.

VMs and hosts are numbers here, in the order of names, so that the search is fast and always takes the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import FrozenSet, List, Mapping, Sequence, Tuple

from .blocks import Block
from .books import Books, Moment
from .constraints import Context, Label
from .floor import Floor, Held
from .model import Host, Snapshot, Vm
from .question import Question
from .reach import Reach
from .resources import Vector, known
from .rest import Rest


@dataclass(frozen=True)
class Ground:
    """A fleet and a question, without any decision which VMs move.

    ``number`` maps the names of hosts to their numbers; ``contested`` are the labels of several VMs. By host:
    ``capacity``, ``free`` with every VM charged where it runs, the ``labels`` that VMs hold there, and ``pinned``, how
    many vCPU pins they have.
    """

    snapshot: Snapshot
    question: Question
    context: Context
    reach: Reach
    number: Mapping[str, int]
    capacity: Tuple[Vector, ...]
    free: Tuple[Vector, ...]
    labels: Mapping[int, Tuple[Held, ...]]
    contested: FrozenSet[Label]
    pinned: Tuple[int, ...]

    @property
    def books(self) -> Books:
        return self.context.books

    @property
    def hosts(self) -> Tuple[Host, ...]:
        return self.snapshot.hosts

    @cached_property
    def limits_vcpus(self) -> bool:
        """Whether any host has a limit of vCPUs."""
        return any(known(amounts[1]) is not None for amounts in self.capacity)

    def now(self) -> Floor:
        """Return the hosts before anything moves."""
        return Floor(self.free, self.labels)

    def rest(self, floor: Floor, moments: Sequence[Moment]) -> Rest:
        return Rest(self.hosts, self.capacity, floor, moments, self.books)


@dataclass(frozen=True)
class Problem:
    """Blocks of VMs that need a destination, or may get another one to make room (``at`` is their host then).

    By VM: ``source``, ``demand`` and ``held``. By host: how tied VMs are placed now (``start``), and with those VMs
    gone that have to go (``after``).
    """

    ground: Ground
    vms: Tuple[Vm, ...]
    source: Tuple[int, ...]
    demand: Tuple[Vector, ...]
    held: Tuple[FrozenSet[Held], ...]
    blocks: Tuple[Block, ...]
    start: Tuple[Moment, ...]
    after: Tuple[Moment, ...]

    @property
    def books(self) -> Books:
        return self.ground.books

    @property
    def hosts(self) -> Tuple[Host, ...]:
        return self.ground.hosts

    @cached_property
    def leaving(self) -> Tuple[int, ...]:
        """The blocks that cannot stay where they are."""
        return tuple(number for number, block in enumerate(self.blocks) if block.at is None)

    @cached_property
    def tied(self) -> bool:
        """Whether any VM takes certain CPUs, cells or pages."""
        return any(block.tied for block in self.blocks)

    def emptied(self) -> Floor:
        """Return the hosts when all VMs that have to go have left and none has arrived."""
        floor = self.ground.now()
        for number in self.leaving:
            for vm in self.blocks[number].vms:
                floor.release(self.demand[vm], self.held[vm], self.source[vm])
        return floor

    def members(self, block: int) -> List[Vm]:
        return [self.vms[vm] for vm in self.blocks[block].vms]
