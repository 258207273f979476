# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""Why a VM's pins cannot be chosen on a host: what is missing, and by how much."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Sequence, Tuple

from .._domain import PinningPolicy
from ._guest import Guest
from ._move import Misfit
from ._packing import Bin, Demand
from ._room import Room
from ._search import search

# More cells than these are in the facts only.
_LISTED = 8

_SEATS = {
    "prefer": "CPUs that nobody else has",
    "isolate": "cores of which nobody has a thread",
    "require": "CPUs on cores with two free threads",
}


def no_shared_cpu(guest: Guest, room: Room) -> Misfit:
    """Return that no CPU would be left for threads that share CPUs."""
    text = (
        f"VM {guest.name} cannot run here: no CPU would be left to threads that have none of their own, such as its "
        "emulator or other VMs. Give the host a CPU that is neither isolated nor a VM's own."
    )
    return Misfit("no_shared_cpu", text, {"vm": guest.name, "shared": len(room.shared)})


def no_shared_in(guest: Guest, cpuset: str) -> Misfit:
    """Return that a set of its user's leaves a VM none of the CPUs that are shared."""
    text = (
        f"VM {guest.name} is to float on CPU {cpuset}, but the host isolates it. Pin its threads there one by one with "
        "the policy manual, or give it CPUs that are not isolated."
    )
    return Misfit("policy_isolation", text, {"vm": guest.name, "cpus": cpuset})


def why_not(guest: Guest, policy: PinningPolicy, room: Room, bins: Sequence[Bin], demand: Demand) -> Misfit:
    """Return what is missing where the search found nothing: memory if all fits without, else CPUs."""
    distances = {cell.id: cell.distances for cell in room.cells}
    free_of_memory = demand.without_memory()
    if search(bins, free_of_memory, distances) is not None:
        return _memory(guest, bins, demand)
    if search(bins, replace(free_of_memory, limit=None), distances) is not None:
        return no_shared_cpu(guest, room)
    return _cores(guest, policy, bins, demand)


def _memory(guest: Guest, bins: Sequence[Bin], demand: Demand) -> Misfit:
    size, needed = guest.huge_pages_kib, demand.total.memory
    unit = "KiB" if size is None else f"huge pages of {size} KiB"
    there = {each.id: each.memory for each in bins}
    why, missing = _lack([item.memory for item in demand.items], there, needed)
    text = (
        f"VM {guest.name} needs {needed} {unit}{_parts(demand, 'memory')} in the NUMA cells of its CPUs, but free are "
        f"{_listed(there)}{why}. Free some there, or choose other cells or another host."
    )
    facts: Dict[str, object] = {
        "vm": guest.name,
        "needed": needed,
        "missing": missing,
        "free": _by_cell(bins, "memory"),
    }
    return (
        Misfit("memory_short", text, facts)
        if size is None
        else Misfit("huge_pages_short", text, {**facts, "size_kib": size})
    )


def _cores(guest: Guest, policy: PinningPolicy, bins: Sequence[Bin], demand: Demand) -> Misfit:
    seats, total = {each.id: each.stock.seats for each in bins}, demand.total
    kind = _SEATS[policy.thread_policy] if policy.policy == "dedicated" else "shared CPUs"
    emulator = " and one for its emulator" if total.extra else ""
    why, missing = _lack([item.vcpus for item in demand.items], seats, total.vcpus + total.extra)
    text = (
        f"VM {guest.name} needs {total.vcpus} {kind}{_parts(demand, 'vcpus')}{emulator}, but there are "
        f"{sum(seats.values())}: {_listed(seats)}{why}. Free some, or choose another thread policy or another host."
    )
    facts = {
        "vm": guest.name,
        "needed": total.vcpus + total.extra,
        "missing": missing,
        "available": sum(seats.values()),
        "cells": [{"cell": number, "available": count} for number, count in seats.items()],
    }
    return Misfit("not_enough_cores", text, facts)


def _lack(parts: Sequence[int], there: Dict[int, int], needed: int) -> Tuple[str, int]:
    """Say why a guest does not fit where the sum is enough, and return how much is missing at least."""
    missing = needed - sum(there.values())
    if missing > 0:
        return "", missing
    part, largest = max(parts), max(there.values(), default=0)
    if len(parts) > 1 and part > largest:
        return f"; the part of {part} fits no cell; the largest has {largest}", part - largest
    return "; spread like this they do not suffice", 0


def _parts(demand: Demand, name: str) -> str:
    """Say what each cell of the guest needs, as none of them can be divided."""
    parts = [str(getattr(item, name)) for item in demand.items]
    return f" ({' + '.join(parts)} in one cell each)" if len(parts) > 1 else ""


def _listed(amounts: Dict[int, int]) -> str:
    first = [f"{amount} in cell {number}" for number, amount in list(amounts.items())[:_LISTED]]
    more = len(amounts) - len(first)
    return ", ".join(first) + (f" and some in {more} more" if more else "") or "none"


def _by_cell(bins: Sequence[Bin], name: str) -> List[Dict[str, int]]:
    return [{"cell": each.id, "free": getattr(each, name)} for each in bins]
