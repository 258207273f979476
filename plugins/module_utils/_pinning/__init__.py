# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Pins on a host: who owns which CPUs, what a VM gets there, whether its pins can be kept, and what they rule out.

Read ``_guest``, ``_ledger`` and ``_room`` for what is asked and what there is, then ``_place``, which finds host cells
with ``_search`` (``_packing``, ``_nearest``) and CPUs in them with ``_cores``. ``_host_aim`` does so for all VMs of a
host: ``_desk`` decides one after the other (``_keep``, ``_attempts``, ``_promise``), ``_side`` gives the threads that
share CPUs what is left.
"""

from __future__ import annotations

from ._guest import Guest, GuestCell, guest_from_data, guest_of
from ._host_aim import aim
from ._isolation_guard import ThreadPin, pins_lost, pins_outside, pins_refusal, thread_pins
from ._ledger import Claim, Conflict, conflicts, exclusive_cpus
from ._manual import check_pins
from ._move import Misfit, count_pins, fit_pinning, keeps_pinning, move_pinning, pinned_cpus
from ._others import Tenant, joined, others_of_tenant, pins_all
from ._place import Placement, place
from ._resident import BOTH, DEFINITION, LIVE, Aim, HostAim, HostState, Resident, Wish
from ._room import Others, Room, RoomCell, huge_pages, room_of, usable_kib, without_vm
from ._threads import Pending, Thread, live_changes, pending, pinned, thread_sets

__all__ = [
    "BOTH",
    "DEFINITION",
    "LIVE",
    "Aim",
    "Claim",
    "Conflict",
    "Guest",
    "GuestCell",
    "HostAim",
    "HostState",
    "Misfit",
    "Others",
    "Pending",
    "Placement",
    "Resident",
    "Room",
    "RoomCell",
    "Tenant",
    "Thread",
    "ThreadPin",
    "Wish",
    "aim",
    "check_pins",
    "conflicts",
    "count_pins",
    "exclusive_cpus",
    "fit_pinning",
    "guest_from_data",
    "guest_of",
    "huge_pages",
    "joined",
    "keeps_pinning",
    "live_changes",
    "move_pinning",
    "others_of_tenant",
    "pending",
    "pinned",
    "pinned_cpus",
    "pins_all",
    "pins_lost",
    "pins_outside",
    "pins_refusal",
    "place",
    "room_of",
    "thread_pins",
    "thread_sets",
    "usable_kib",
    "without_vm",
]
