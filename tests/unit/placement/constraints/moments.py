# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is where at each moment of a plan, worked out from the answer alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.unit.placement.fleet import steps

# By host, the VMs that are there.
Crowd = dict[str, frozenset[str]]


def crowds(snapshot: dict[str, Any], answer: dict[str, Any]) -> Iterator[Crowd]:
    """Yield the active VMs of each host at the start, in the middle of each step, and after it.

    In the middle of a step every VM that moves is at both ends.
    """
    there: dict[str, set[str]] = {item["name"]: set() for item in snapshot["hosts"]}
    for item in snapshot["vms"]:
        if item.get("state") != "shutoff":
            there[item["host"]].add(item["name"])
    yield {name: frozenset(vms) for name, vms in there.items()}
    for step in steps(answer):
        for move in step:
            assert move["vm"] in there[move["source"]]
            there[move["destination"]].add(move["vm"])
        yield {name: frozenset(vms) for name, vms in there.items()}
        for move in step:
            there[move["source"]].discard(move["vm"])
        yield {name: frozenset(vms) for name, vms in there.items()}


def final(snapshot: dict[str, Any], answer: dict[str, Any]) -> dict[str, str]:
    """Return VM → host after the plan."""
    *_before, last = crowds(snapshot, answer)
    return {vm: name for name, vms in last.items() for vm in vms}
