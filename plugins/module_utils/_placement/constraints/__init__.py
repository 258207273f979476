# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The hard constraints of a plan. A new one is a file here, and a line in one of the three lists below.

That VMs of one group are kept together is no filter: they are placed as one block (see ``blocks``).
"""

from __future__ import annotations

from typing import Iterator, Tuple

from ..model import Host, Vm
from ..reasons import Reason
from ..request import Options
from .allowed_hosts import AllowedHosts
from .amounts import memory, vcpus
from .base import Context, HostFilter, RoomFilter, There, VmFilter
from .connections import Networks, Storage
from .cpu import AddressBits, CpuFeatures, CpuVendor
from .labels import Label, keep_apart, labels, name_taken
from .machine_type import MachineType
from .maintenance import Draining, Excluded, Maintenance
from .migration_mode import migration_mode
from .movable import blockers, in_transit, not_running, state
from .pinning import Pinning, pins
from .pool import Pool

# Refusals that hold for every destination.
VM_FILTERS: Tuple[VmFilter, ...] = (not_running, state, in_transit, migration_mode, blockers)

# Refusals of one destination at any time, the cheap ones first.
HOST_FILTERS: Tuple[HostFilter, ...] = (
    Maintenance(),
    Draining(),
    Excluded(),
    AllowedHosts(),
    Pool(),
    MachineType(),
    CpuVendor(),
    CpuFeatures(),
    AddressBits(),
    Networks(),
    Storage(),
    Pinning(),
)

# Refusals of one destination because of the VMs that are there at a moment.
ROOM_FILTERS: Tuple[RoomFilter, ...] = (name_taken, keep_apart, memory, vcpus, pins)


def vm_reasons(vm: Vm, options: Options) -> Tuple[Reason, ...]:
    """Return why a VM cannot move at all."""
    return tuple(reason for check in VM_FILTERS for reason in (check(vm, options),) if reason)


def host_reasons(vm: Vm, host: Host, context: Context) -> Iterator[Reason]:
    """Yield why a VM can never go to a host, one after the other, so that a caller may stop at the first."""
    for check in HOST_FILTERS:
        reason = check.judge(vm, host, context)
        if reason is not None:
            yield Reason(reason.code, reason.text, host.name, reason.facts)


def room_reasons(vm: Vm, there: There) -> Tuple[Reason, ...]:
    """Return why a VM cannot go to a host as it is at a moment."""
    found = (check(vm, there) for check in ROOM_FILTERS)
    return tuple(Reason(each.code, each.text, there.host.name, each.facts) for each in found if each)


__all__ = [
    "HOST_FILTERS",
    "ROOM_FILTERS",
    "VM_FILTERS",
    "Context",
    "HostFilter",
    "Label",
    "RoomFilter",
    "There",
    "VmFilter",
    "host_reasons",
    "labels",
    "room_reasons",
    "vm_reasons",
]
