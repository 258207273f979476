# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Pins on a host: who owns which CPUs, what a VM gets there, whether its pins can be kept, and what they rule out.

Read ``_guest``, ``_ledger`` and ``_room`` for what is asked and what there is, then ``_place``, which finds host cells
with ``_search`` (``_packing``, ``_nearest``) and CPUs in them with ``_cores``.
"""

from __future__ import annotations

from ._floating import float_on, forget_shared, shared_cpus
from ._guest import Guest, GuestCell, guest_from_data, guest_of
from ._isolation_guard import ThreadPin, pins_lost, pins_outside, pins_refusal, thread_pins
from ._ledger import Claim, Conflict, claims_of, conflicts, exclusive_cpus, manual_pins, policy_of
from ._manual import check_pins
from ._move import Misfit, count_pins, fit_pinning, keeps_pinning, move_pinning, pinned_cpus
from ._place import Placement, place
from ._room import HostCpus, Others, Room, RoomCell, others_of, room_of, without_vm

__all__ = [
    "Claim",
    "Conflict",
    "Guest",
    "GuestCell",
    "HostCpus",
    "Misfit",
    "Others",
    "Placement",
    "Room",
    "RoomCell",
    "ThreadPin",
    "check_pins",
    "claims_of",
    "conflicts",
    "count_pins",
    "exclusive_cpus",
    "fit_pinning",
    "float_on",
    "forget_shared",
    "guest_from_data",
    "guest_of",
    "keeps_pinning",
    "manual_pins",
    "move_pinning",
    "others_of",
    "pinned_cpus",
    "pins_lost",
    "pins_outside",
    "pins_refusal",
    "place",
    "policy_of",
    "room_of",
    "shared_cpus",
    "thread_pins",
    "without_vm",
]
