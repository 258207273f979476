# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""A VM of a host while it is decided what it is to have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import FrozenSet, List, Mapping, Optional, Tuple

from .._domain import Pinning, PinningPolicy
from .._errors import FleetError
from ._guest import Guest, guest_of
from ._promise import starting
from ._resident import BOTH, DEFINITION, LIVE, Resident, Wish
from ._side import Side, side_of


@dataclass(frozen=True)
class Vm:
    """A VM of the host: its states as they are, and those that are ``decided``, ``None`` until its turn has come."""

    resident: Resident
    wish: Optional[Wish]
    present: Tuple[Side, ...]
    guest: Guest
    decided: Optional[Tuple[Side, ...]] = None
    kept: bool = True

    @property
    def policy(self) -> PinningPolicy:
        """The policy that the VM is to follow."""
        return self.wish.policy if self.wish else self.present[0].policy

    @property
    def stored(self) -> Optional[PinningPolicy]:
        """The policy that somebody asked for."""
        policy = self.resident.domain.policy
        return self.wish.policy if self.wish else policy.pinning if policy else None

    @property
    def touched(self) -> Tuple[Side, ...]:
        """The states that the wish is for, as they are."""
        sought = {BOTH: (True, False), LIVE: (True,), DEFINITION: (False,)}[self.wish.apply_to] if self.wish else ()
        return tuple(side for side in self.present if side.live in sought)

    @property
    def sides(self) -> Tuple[Side, ...]:
        """The states as they are to be, as far as that is decided; those that no wish is for stay."""
        if self.decided is None:
            return tuple(side for side in self.present if side not in self.touched)
        decided = {side.live: side for side in self.decided}
        found = tuple(decided.get(side.live, side) for side in self.present)
        return tuple(self._at_home(side, found[-1]) for side in found)

    def _at_home(self, side: Side, last: Side) -> Side:
        """Return a state with what is known of the memory near which its threads belong."""
        if not side.live or not side.placed:
            return side
        of_one_making = not last.live and last.policy == side.policy and _alike(side.pins, last.pins)
        return replace(side, home=last.pins if of_one_making else None, held=most_held(self.resident.held_kib))

    @property
    def runs(self) -> bool:
        """Whether the wish finds the VM running with the memory that it asks for, which is somewhere already."""
        live = self.resident.live
        if live is None or (self.wish and self.wish.apply_to == DEFINITION):
            return False
        return live.huge_pages_kib == self.guest.huge_pages_kib

    @property
    def held_kib(self) -> Mapping[int, int]:
        """What it has in each cell of the memory that it asks for; other memory is given back when it ends."""
        return self.resident.held_kib if self.runs else {}


def vm_of(resident: Resident, wish: Optional[Wish], isolation: FrozenSet[int]) -> Vm:
    """Return a VM before anything is decided; ``isolation`` is as in ``side_of``."""
    states = [domain for domain in (resident.live, resident.defined) if domain is not None]
    guest = guest_of(states[0]) if resident.live else starting(states[0])
    found = Vm(resident, wish, tuple(side_of(domain, isolation) for domain in states), guest)
    if wish is None:
        return replace(found, decided=found.present)
    if not found.touched:
        raise FleetError(
            f"VM {resident.name} cannot be pinned in its {wish.apply_to} state, because it has none. "
            "Apply the pins to both states.",
            "bad_options",
            vm=resident.name,
            option="apply_to",
        )
    return replace(found, guest=_guest(found))


def _alike(one: Pinning, other: Pinning) -> bool:
    """Whether the vCPUs that have pins in both states have the same."""
    pins = {pin.vcpu: pin.cpus for pin in one.vcpus}
    both = [pin for pin in other.vcpus if pin.vcpu in pins]
    return bool(both) and all(pins[pin.vcpu] == pin.cpus for pin in both)


def most_held(held_kib: Mapping[int, int]) -> FrozenSet[int]:
    """Return the fewest cells that have more than half of a VM's memory."""
    most: List[int] = []
    for cell in sorted(held_kib, key=lambda cell: (-held_kib[cell], cell)):
        if held_kib[cell] and 2 * sum(held_kib[each] for each in most) <= sum(held_kib.values()):
            most.append(cell)
    return frozenset(most)


def _guest(vm: Vm) -> Guest:
    """Return what the VM asks for: every thread that it has in one of the states."""
    states = [side.domain for side in vm.touched]
    # What a VM is to start with must fit; what it runs with is there.
    first = states[-1]
    online = tuple(sorted({number for domain in states for number in domain.vcpus.online}))
    vcpus = replace(first.vcpus, numbers=online, maximum=max(domain.vcpus.maximum for domain in states))
    iothreads = tuple(sorted({number for domain in states for number in domain.iothreads}))
    domain = replace(first, vcpus=vcpus, iothreads=iothreads)
    found = guest_of(domain)
    return found if replace(vm, guest=found).runs else starting(domain)
