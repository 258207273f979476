# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""Why a VM's pins cannot be chosen on a host: what is missing, and by how much."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable, Container, Dict, List, Optional, Sequence, Tuple

from .._domain import PinningPolicy
from .._topology import format_cpuset
from ._cores import REQUIRE
from ._guest import Guest
from ._move import Misfit
from ._packing import Bin, Demand, Stock, stock_of
from ._room import Room
from ._search import search

# More cells than these are in the facts only.
_LISTED = 8

# So many unlike cells are tried for how much more of something would do.
_TRIED = 8

# Whether a guest fits into some cells.
Fits = Callable[[Sequence[Bin]], bool]

_SEATS = {
    "prefer": "CPUs that nobody else has",
    "isolate": "cores of which nobody has a thread",
    "require": "CPUs on cores with two free threads",
}


def no_shared_cpu(guest: Guest, room: Room, missing: int = 1) -> Misfit:
    """Return that no CPU would be left for threads that share CPUs, and how many more would do."""
    shared = f"of the {len(room.shared)} that VMs share ({format_cpuset(room.shared)}), " if room.shared else ""
    text = (
        f"VM {guest.name} cannot run here: {shared}no CPU would be left to threads that have none of their own, such "
        f"as its emulator or other VMs; {missing} more would do. Give the host a CPU that is neither isolated nor a "
        "VM's own."
    )
    return Misfit("no_shared_cpu", text, {"vm": guest.name, "shared": len(room.shared), "missing": missing})


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

    def fits(some: Sequence[Bin], wanted: Demand) -> bool:
        return search(some, wanted, distances) is not None

    cpus = demand.without_memory()
    if fits(bins, cpus):
        return _memory(guest, bins, demand, lambda some: fits(some, demand))
    if demand.limit is not None and fits(bins, replace(cpus, limit=None)):
        limit, there = demand.limit, sum(each.stock.free for each in bins)
        missing = _least(there, lambda more: fits(bins, replace(cpus, limit=limit + more)))
        return no_shared_cpu(guest, room, missing or there)
    return _cores(guest, policy, room, bins, demand, lambda some: fits(some, replace(cpus, limit=None)))


def _memory(guest: Guest, bins: Sequence[Bin], demand: Demand, fits: Fits) -> Misfit:
    size, needed = guest.huge_pages_kib, demand.total.memory
    unit = "KiB" if size is None else f"huge pages of {size} KiB"
    there = {each.id: each.memory for each in bins}
    words, missing = _lack(bins, needed, there, _with_memory, fits)
    text = (
        f"VM {guest.name} needs {needed} {unit}{_parts(demand, 'memory')} in the NUMA cells of its CPUs, but free are "
        f"{_listed(there)}{words}. Free some there, or choose other cells or another host."
    )
    facts = {"vm": guest.name, "needed": needed, **missing, "free": _by_cell(bins, "memory")}
    if size is None:
        return Misfit("memory_short", text, facts)
    return Misfit("huge_pages_short", text, {**facts, "size_kib": size})


def _cores(guest: Guest, policy: PinningPolicy, room: Room, bins: Sequence[Bin], demand: Demand, fits: Fits) -> Misfit:
    seats, total = {each.id: each.stock.seats for each in bins}, demand.total
    kind, first, unfit = "shared CPUs", "Free some", ""
    if policy.policy == "dedicated":
        kind, unfit = _SEATS[policy.thread_policy], _unfit(room, list(seats))
        if room.isolated:
            kind, first = f"isolated {kind}", "Free or isolate some"
    emulator = " and one for its emulator" if total.extra else ""
    needed = total.vcpus + total.extra
    words, missing = _lack(bins, needed, seats, _with_cpus, fits)
    text = (
        f"VM {guest.name} needs {total.vcpus} {kind}{_parts(demand, 'vcpus')}{emulator}, but there are "
        f"{sum(seats.values())}: {_listed(seats)}{words}.{unfit} {first}, or choose another thread policy or another "
        "host."
    )
    cells = [{"cell": number, "available": count} for number, count in seats.items()]
    facts = {"vm": guest.name, "needed": needed, **missing, "available": sum(seats.values()), "cells": cells}
    return Misfit("not_enough_cores", text, facts)


def _unfit(room: Room, cells: Container[int]) -> str:
    """Say which CPUs without an owner are not counted, and why."""
    cpus = frozenset(cpu for cell in room.cells if cell.id in cells for cpu in cell.cpus - cell.dedicated)
    cpus -= frozenset(room.owners)
    by_hand = cpus & frozenset(room.by_hand)
    names = ", ".join(sorted({room.by_hand[cpu] for cpu in by_hand}))
    reasons = [
        (by_hand, f"to which the user pinned {names}"),
        (cpus & room.reserved, "that are reserved"),
        (cpus - room.usable, "outside of machine.slice"),
        (cpus - room.isolated if room.isolated else frozenset(), "that are not isolated"),
    ]
    found = [f"CPU {format_cpuset(some)} {why}" for some, why in reasons if some]
    return f" Not counted: {', '.join(found)}." if found else ""


def _with_memory(each: Bin, more: int) -> Bin:
    return replace(each, memory=each.memory + more)


def _with_cpus(each: Bin, more: int) -> Bin:
    # One core of many threads keeps each company that needs it; of those that need none there are single ones.
    cores = [(more, more)] if each.stock.threads == REQUIRE else [(1, 1)] * more
    return replace(each, stock=stock_of([*each.stock.shape, *cores], each.stock.threads))


def _lack(
    bins: Sequence[Bin], needed: int, there: Dict[int, int], enlarged: Callable[[Bin, int], Bin], fits: Fits
) -> Tuple[str, Dict[str, object]]:
    """Say how much is missing; where the sum is enough, in which cell: there that much more would do."""
    missing = needed - sum(there.values())
    if missing > 0:
        return "", {"missing": missing}

    def with_more(ids: Container[int]) -> Callable[[int], bool]:
        return lambda more: fits([enlarged(each, more) if each.id in ids else each for each in bins])

    kinds: Dict[Tuple[Stock, int], int] = {}
    for each in bins:
        kinds.setdefault((each.stock, each.memory), each.id)
    tried = [(_least(needed, with_more((number,))), number) for number in list(kinds.values())[:_TRIED]]
    found = [(amount, number) for amount, number in tried if amount is not None]
    if found:
        amount, cell = min(found)
        return f"; {amount} more in cell {cell} would do", {"missing": amount, "missing_in": cell}
    each_lacks = _least(needed, with_more([each.id for each in bins])) or needed
    return f"; {each_lacks} more in each would do", {"missing": each_lacks}


def _least(most: int, enough: Callable[[int], bool]) -> Optional[int]:
    """Return the least amount that is enough, ``None`` where not even ``most`` is; whatever is more is enough too."""
    if not enough(most):
        return None
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


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
