# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What hosts have left at one moment of a plan, with the reasons why a VM cannot come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import FrozenSet, Iterable, List, Optional, Sequence, Tuple

from .._pinning import Misfit
from .books import Books, Moment
from .constraints import There, room_reasons
from .constraints.labels import labels
from .floor import Floor, Held
from .model import Host, Vm
from .reasons import Reason
from .resources import Vector, demand


@dataclass(frozen=True)
class Rest:
    """Hosts at one moment, by their numbers."""

    hosts: Sequence[Host]
    capacity: Sequence[Vector]
    floor: Floor
    moments: Sequence[Moment]
    books: Books

    def takes(self, vm: Vm, held: FrozenSet[Held], host: int) -> bool:
        """Whether a host has everything for one more VM."""
        return self.floor.is_free(demand(vm), held, host) and self._misfit(vm, host) is None

    def reasons(self, vm: Vm, hosts: Iterable[int]) -> Tuple[Reason, ...]:
        """Return a reason for every host that has too little left, or something that excludes the VM."""
        found: List[Reason] = []
        for host in hosts:
            holders = self.floor.holders(host)
            there = There(
                host=self.hosts[host],
                free=self.floor.free[host],
                capacity=self.capacity[host],
                holders={label: frozenset(holders.get(label, ())) for label in labels(vm)},
                misfit=self._misfit(vm, host),
            )
            found.extend(room_reasons(vm, there))
        return tuple(found)

    def _misfit(self, vm: Vm, host: int) -> Optional[Misfit]:
        found = self.books.offer(self.hosts[host].name, self.moments[host], vm) if vm.tied else None
        return found if isinstance(found, Misfit) else None
