# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The peer: the greedy first-fit that drain scripts do, without filters, order or reasons."""

from __future__ import annotations

from typing import Any


def first_fit(snapshot: dict[str, Any], request: dict[str, Any]) -> dict[str, str] | None:
    """Return VM → destination, or ``None`` where the next VM in the list fits nowhere."""
    drained = set(request["hosts"])
    free = {host["name"]: host["memory_kib"] for host in snapshot["hosts"] if host["name"] not in drained}
    for vm in snapshot["vms"]:
        if vm["host"] in free:
            free[vm["host"]] -= vm["memory_kib"]
    chosen: dict[str, str] = {}
    for vm in snapshot["vms"]:
        if vm["host"] not in drained:
            continue
        target = next((name for name, left in free.items() if left >= vm["memory_kib"]), None)
        if target is None:
            return None
        free[target] -= vm["memory_kib"]
        chosen[vm["uuid"]] = target
    return chosen
