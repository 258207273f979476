# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small fleets for the planner's tests: every builder returns JSON as it stands in a snapshot."""

from __future__ import annotations

from typing import Any

from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _placement

GIB = 1048576


def host(name: str, gib: float | None = 16, **fields: Any) -> dict[str, Any]:
    memory = {} if gib is None else {"memory_kib": int(gib * GIB)}
    return {"name": name, "uuid": f"uuid-{name}", **memory, **fields}


def vm(name: str, on: str, gib: float = 1, **fields: Any) -> dict[str, Any]:
    return {"name": name, "uuid": f"uuid-{name}", "host": on, "memory_kib": int(gib * GIB), **fields}


def fleet(hosts: list[dict[str, Any]], vms: list[dict[str, Any]], **cpus: Any) -> dict[str, Any]:
    return {"version": 1, "cpus": cpus, "hosts": hosts, "vms": vms}


def ask(snapshot: dict[str, Any], question: str, **request: Any) -> dict[str, Any]:
    return _placement.plan({"question": question, **request}, snapshot)


def drain(snapshot: dict[str, Any], *hosts: str, **options: Any) -> dict[str, Any]:
    return ask(snapshot, "drain", hosts=list(hosts), options=options)


def steps(answer: dict[str, Any]) -> list[list[dict[str, Any]]]:
    return [step["moves"] for wave in answer["waves"] for step in wave["steps"]]


def where(answer: dict[str, Any]) -> dict[str, str]:
    """Return VM → destination."""
    return {move["vm"]: move["destination"] for step in steps(answer) for move in step}


def codes(answer: dict[str, Any], name: str) -> set[tuple[str | None, str]]:
    """Return (host, code) of every reason why a VM has no destination."""
    return {
        (reason["host"], reason["code"])
        for item in answer["unplaced"]
        if item["vm"] == name
        for reason in item["reasons"]
    }
