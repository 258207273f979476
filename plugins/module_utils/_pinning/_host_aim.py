# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""What all VMs of a host are to have, so that no CPU belongs to two of them and no other thread runs on it."""

from __future__ import annotations

from typing import FrozenSet, Sequence, Tuple

from .._errors import FleetError
from .._topology import format_cpuset
from ._desk import Desk
from ._ledger import Claim, conflicts
from ._notes import notes
from ._resident import Aim, HostAim, HostState, Resident, Wish
from ._room import Room
from ._side import Side, is_everything, needs_shared, settle, used_cells
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
    ``conflict`` for VMs that have one CPU for themselves already.
    """
    desk = Desk(state, residents, wishes, repin, keep_free)
    # Who shares CPUs is asked when all that own some are settled, else it might move again at the next run.
    for policies in (("manual", "dedicated"), ("numa",), ("none",)):
        desk.decide(sorted((vm for vm in desk.wished if vm.policy.policy in policies), key=_order))
    _refuse_conflicts(desk)
    room = desk.final_room()
    follow = [vm for vm in desk.vms if float_others and not vm.wish and _concerned(vm, room)]
    aims = [_aim_of(vm, desk.claims(), room) for vm in (*desk.wished, *follow)]
    return HostAim(tuple(sorted(aims, key=lambda each: (each.name, each.uuid))), desk.claims(), notes(desk, room))


def _order(vm: Vm) -> Tuple[int, int, int, int, str, str]:
    guest = vm.guest
    threads = _THREADS[vm.policy.thread_policy] if vm.policy.policy == "dedicated" else 0
    return _RANKS[vm.policy.policy], threads, -len(guest.vcpus), -guest.memory_kib, guest.name, guest.uuid


def _refuse_conflicts(desk: Desk) -> None:
    found = conflicts(desk.claims())
    if found:
        raise FleetError(
            f"VMs of this host have CPUs for themselves that belong to another one too: {'; '.join(map(str, found))}. "
            "Choose the pins of one VM of each pair anew, with the policy dedicated.",
            "conflict",
            conflicts=[{"vms": [each.first[0], each.second[0]], "cpus": format_cpuset(each.cpus)} for each in found],
        )


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
        return bool(live_changes(side.domain, pins, room.cpus))
    now = side.domain.pinning
    return {**vars(now), "policy": ""} != {**vars(pins), "policy": ""}


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
        cells=tuple(sorted(_cells(vm, room))),
        cpus=frozenset(cpu for claim in claims for cpu in claim.cpus),
        blocked=frozenset(cpu for claim in claims for cpu in claim.blocked),
    )


def _cells(vm: Vm, room: Room) -> FrozenSet[int]:
    side = (vm.decided or vm.sides)[0]
    return used_cells(vm.guest, side.policy, side.pins, room) if side.placed else frozenset()
