# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What hosts have left while VMs come and go: amounts, and labels that a host can have once only."""

from __future__ import annotations

from typing import Dict, FrozenSet, Iterable, List, Mapping, Sequence, Set, Tuple

from .constraints import Label
from .resources import Vector, fits, minus, plus

# A label with the key of the VM that has it.
Held = Tuple[Label, str]


class Floor:
    """Amounts and labels of all hosts. A VM under way counts at both ends, as in BtrPlace's slices."""

    def __init__(self, free: Sequence[Vector], held: Mapping[int, Iterable[Held]]) -> None:
        self.free = list(free)
        self._start = held
        self._holders: Dict[int, Dict[Label, List[str]]] = {}

    def holders(self, host: int) -> Dict[Label, List[str]]:
        """Return who has which label on a host; a VM counts twice where its old definition is too."""
        if host not in self._holders:
            found: Dict[Label, List[str]] = {}
            for label, key in self._start.get(host, ()):
                found.setdefault(label, []).append(key)
            self._holders[host] = found
        return self._holders[host]

    def is_free(self, need: Vector, held: FrozenSet[Held], host: int) -> bool:
        """Whether a host has the amounts, and no other VM there has one of the labels."""
        return fits(need, self.free[host]) and (not held or not self.conflicts(held, host))

    def conflicts(self, held: FrozenSet[Held], host: int) -> Set[Label]:
        """Return the labels that others on a host have."""
        holders, own = self.holders(host), {key for _label, key in held}
        return {label for label, _key in held if any(key not in own for key in holders.get(label, ()))}

    def charge(self, need: Vector, held: FrozenSet[Held], host: int) -> None:
        self.free[host] = minus(self.free[host], need)
        for label, key in held:
            self.holders(host).setdefault(label, []).append(key)

    def release(self, need: Vector, held: FrozenSet[Held], host: int) -> None:
        self.free[host] = plus(self.free[host], need)
        for label, key in held:
            self.holders(host)[label].remove(key)
