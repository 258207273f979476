# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""What all VMs of a host are to have, so that no CPU belongs to two of them and no other thread runs on it."""

from __future__ import annotations

from typing import FrozenSet, Sequence, Tuple

from .._domain import Pinning, same_pins
from .._errors import FleetError
from .._topology import format_cpuset
from ._desk import Desk
from ._ledger import Claim, conflicts
from ._manual import check_pins
from ._misfits import no_shared_in
from ._notes import notes
from ._resident import Aim, HostAim, HostState, Resident, Wish
from ._room import Room
from ._side import Side, at_home, floating, is_everything, is_widened, needs_shared, settle, used_cells
from ._threads import live_changes
from ._vm import Vm

_RANKS = {"manual": 0, "dedicated": 1, "numa": 2, "none": 3}
_THREADS = {"require": 0, "isolate": 1, "prefer": 2}


def aim(
    state: HostState,
    residents: Sequence[Resident],
    wishes: Sequence[Wish],
    repin: bool = False,
    keep_free: FrozenSet[int] = frozenset(),
    float_others: bool = True,
) -> HostAim:
    """Return what VMs are to have so that every wish holds.

    A VM whose pins are already what is wished for keeps them, unless ``repin`` lets all those wished for be placed
    anew. Floating threads of all VMs leave the CPUs that a VM has for itself, and those in ``keep_free`` for one that
    is about to arrive; with ``float_others`` off only those of VMs wished for. Raises ``FleetError``: the code and
    facts of the ``Misfit`` for a VM that cannot have its wish, ``no_shared_cpu``, ``vm_unknown``, ``bad_options``, or
    ``conflict`` for a VM wished for that owns a CPU together with another one, and for any that owns one in
    ``keep_free``.
    """
    desk = Desk(state, residents, wishes, repin, keep_free)
    # Who shares CPUs is asked when all that own some are settled, else it might move again at the next run.
    for policies in (("manual", "dedicated"), ("numa",), ("none",)):
        desk.decide(sorted((vm for vm in desk.wished if vm.policy.policy in policies), key=_order))
    _refuse_conflicts(desk, keep_free)
    room = desk.final_room()
    _refuse_limits(desk, room)
    follow = [vm for vm in desk.vms if float_others and not vm.wish and _concerned(vm, room)]
    ledger = desk.claims()
    aims = [_aim_of(vm, ledger, room) for vm in (*desk.wished, *follow)]
    aims.sort(key=lambda each: (each.name, each.uuid))
    return HostAim(tuple(aims), ledger, notes(desk, room, float_others), room.shared)


def _order(vm: Vm) -> Tuple[int, int, int, int, str, str]:
    guest = vm.guest
    threads = _THREADS[vm.policy.thread_policy] if vm.policy.policy == "dedicated" else 0
    return _RANKS[vm.policy.policy], threads, -len(guest.vcpus), -guest.memory_kib, guest.name, guest.uuid


def _refuse_conflicts(desk: Desk, keep_free: FrozenSet[int]) -> None:
    ledger = desk.claims()
    kept = {claim.vm: claim.all & keep_free for claim in ledger if claim.all & keep_free}
    if kept:
        names, cpus = sorted(kept), format_cpuset(frozenset().union(*kept.values()))
        raise FleetError(
            f"CPU {cpus} cannot be kept free for a VM that arrives: VM {', '.join(names)} has it for itself. "
            "Keep other CPUs free, or choose the pins of that VM anew.",
            "conflict",
            conflicts=[{"vms": [name], "cpus": format_cpuset(each)} for name, each in sorted(kept.items())],
        )
    # Two VMs that nobody asked about were in conflict before: a warning, so that nothing else has to wait for them.
    wished = {(vm.resident.name, vm.resident.uuid) for vm in desk.wished}
    found = [each for each in conflicts(ledger) if wished & {each.first, each.second}]
    if found:
        raise FleetError(
            f"VMs of this host have CPUs for themselves that belong to another one too: {'; '.join(map(str, found))}. "
            "Choose the pins of one VM of each pair anew, with the policy dedicated.",
            "conflict",
            conflicts=[{"vms": [each.first[0], each.second[0]], "cpus": format_cpuset(each.cpus)} for each in found],
        )


def _refuse_limits(desk: Desk, room: Room) -> None:
    """Raise an error for a set that a VM is just being given if none of its CPUs is there to be shared."""
    for vm in desk.wished:
        present = {side.live: side.limit for side in vm.present}
        for side in vm.decided or ():
            if vm.wish and vm.wish.pins and side.limit != present[side.live] and is_widened(side, room):
                misfit = check_pins(vm.guest, Pinning(cpuset=side.limit), room) or no_shared_in(
                    vm.guest, side.limit or ""
                )
                raise FleetError(misfit.text, misfit.code, **{**misfit.facts, "vm": vm.resident.name})


def _concerned(vm: Vm, room: Room) -> bool:
    """Whether the division of the host's CPUs says something to a VM that nobody asked about."""
    return any(_concerns(side, room) for side in vm.sides)


def _concerns(side: Side, room: Room) -> bool:
    if not side.placed and needs_shared(side) and not (is_everything(room) and side.following is None):
        return True
    _require_shared(side, room)
    pins, following = settle(side, room)
    if following != side.following:
        return True
    if side.live:
        return bool(live_changes(side.domain, pins, room.cpus, floating(side)))
    return not same_pins(side.domain.pinning, pins)


def _require_shared(side: Side, room: Room) -> None:
    if not room.shared and needs_shared(side):
        raise FleetError(
            f"VM {side.domain.name} cannot run here: no CPU would be left to its threads that have none of their own. "
            "Give the host a CPU that is neither isolated nor a VM's own.",
            "no_shared_cpu",
            vm=side.domain.name,
            shared=0,
        )


def _aim_of(vm: Vm, ledger: Sequence[Claim], room: Room) -> Aim:
    found = {}
    for side in vm.sides:
        _require_shared(side, room)
        found[side.live] = settle(side, room)
    live, defined = found.get(True), found.get(False)
    claims = [claim for claim in ledger if claim.uuid == vm.resident.uuid]
    return Aim(
        uuid=vm.resident.uuid,
        name=vm.resident.name,
        wished=vm.wish is not None,
        kept=vm.kept,
        policy=vm.stored,
        defined=defined[0] if defined else None,
        live=live[0] if live else None,
        following_defined=defined[1] if defined else None,
        following_live=live[1] if live else None,
        floating=frozenset(thread for side in vm.sides if side.live for thread in floating(side)),
        cells=tuple(sorted(_cells(vm, room))),
        cpus=frozenset(cpu for claim in claims for cpu in claim.cpus),
        blocked=frozenset(cpu for claim in claims for cpu in claim.blocked),
    )


def _cells(vm: Vm, room: Room) -> FrozenSet[int]:
    first = vm.decided[0].live if vm.decided else True
    side = next((each for each in vm.sides if each.live == first), vm.sides[0])
    return used_cells(vm.guest, side.policy, at_home(side, room), room) if side.placed else frozenset()
