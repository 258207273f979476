# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts and VMs for which it matters whose a CPU is, as they stand in a snapshot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import parse_cpuset

from tests.unit.placement.fleet import GIB, host, vm

Cpus = frozenset[int]


def machine(name: str, cells: str = "0-7", gib: float = 8, **fields: Any) -> dict[str, Any]:
    """Give a host with cells between bars, ``gib`` of memory in each; sibling threads are joined by ``+``."""
    parts = [part.strip() for part in cells.split("|")]
    found = [
        {
            "id": number,
            "cpus": part.replace("+", ",").replace(" ", ","),
            "siblings": [core.replace("+", ",") for core in part.split() if "+" in core],
            "memory_kib": int(gib * GIB),
        }
        for number, part in enumerate(parts)
    ]
    for number, more in fields.pop("cell_fields", {}).items():
        found[number].update(more)
    return host(name, gib * len(parts), cells=found, **fields)


def tied(name: str, on: str, cpus: str = "", policy: str = "dedicated", **fields: Any) -> dict[str, Any]:
    """Give a VM with a stored policy and one vCPU on each of ``cpus`` (sets, by spaces); ``options`` of the policy."""
    options, sets = fields.pop("options", {}), cpus.split()
    count = fields.pop("vcpus", None) or len(sets) or 1
    pins = {"vcpus": [{"vcpu": vcpu, "cpus": each} for vcpu, each in enumerate(sets)]}
    more = fields.pop("policy_fields", {})
    return vm(
        name,
        on,
        fields.pop("gib", 1),
        vcpus={"current": count, "maximum": count},
        pinning={**pins, **fields.pop("pinning", {})},
        policy={"pinning": {"policy": policy, **options}, **more},
        **fields,
    )


def vcpu_sets(pins: dict[str, Any] | None) -> list[str]:
    return [] if pins is None else [pin["cpus"] for pin in pins["vcpus"]]


def union(texts: Sequence[str | None]) -> Cpus:
    return frozenset(cpu for text in texts for cpu in parse_cpuset(text or ""))
