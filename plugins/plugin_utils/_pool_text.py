# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Answers about pools as lines of text for people."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Sequence

from ansible_collections.virtops.kvm_fleet.plugins.plugin_utils._plan_text import table_lines

_COLUMNS = (
    {"key": "pool", "title": "POOL"},
    {"key": "vendor", "title": "VENDOR"},
    {"key": "definition", "title": "DEFINITION"},
    {"key": "model", "title": "CPU"},
    {"key": "hosts", "title": "HOSTS"},
    {"key": "generation", "title": "GENERATION"},
    {"key": "status", "title": "STATUS"},
)


def pool_lines(answer: Mapping[str, Any]) -> List[str]:
    """Return an answer as lines: a table of pools, what changes, who limits and masks what, and what has drifted."""
    pools: Sequence[Mapping[str, Any]] = answer["pools"]
    lines = table_lines([_row(pool, answer["current"]) for pool in pools], _COLUMNS) if pools else ["no pools"]
    alone = [_starred(host["name"], answer["current"]) for host in answer["hosts"] if host["pool"] is None]
    if alone:
        lines.append(f"in no pool: {', '.join(alone)}")
    for pool in pools:
        lines.extend(_change_lines(pool))
    for pool in pools:
        lines.extend(_feature_lines(pool))
    for host in answer["hosts"]:
        lines.extend(_drift_lines(host))
    for vm in answer["restart_required"]:
        lines.extend(_restart_lines(vm))
    lines.extend(refusal_lines(answer))
    lines.extend(f"note: {note}" for note in answer["notes"])
    return lines


def refusal_lines(answer: Mapping[str, Any]) -> List[str]:
    """Return a line for everything that is refused, with the reason and the next step."""
    return [f"refused ({refusal['code']}): {refusal['msg']}" for refusal in answer["refusals"]]


def _row(pool: Mapping[str, Any], current: Any) -> Dict[str, Any]:
    cpu = pool["cpu"] or {}
    return {
        "pool": pool["name"],
        "vendor": pool["vendor"],
        "definition": pool["definition"],
        "model": cpu.get("model"),
        "hosts": [_starred(name, current) for name in pool["members"]],
        "generation": pool["generation"] or None,
        "status": pool["status"],
    }


def _starred(name: str, current: Any) -> str:
    return f"{name}*" if name == current else name


def _words(names: Iterable[str]) -> str:
    return ", ".join(names)


def _change_lines(pool: Mapping[str, Any]) -> List[str]:
    """Return what happens to a pool: hosts that come and go, features that guests get and lose."""
    said = [(key, pool[key]) for key in ("joined", "left", "gained", "lost", "unavailable")]
    return [f"{pool['name']} {key}: {_words(names)}" for key, names in said if names]


def _feature_lines(pool: Mapping[str, Any]) -> List[str]:
    name = pool["name"]
    lines = [f"{name} is limited by {hosts}: {_words(features)}" for hosts, features in _limits(pool)]
    lines += [f"{name} would gain without {item['host']}: {_words(item['features'])}" for item in pool["gain_without"]]
    lines += [f"{item['host']} has masked in {name}: {_words(item['features'])}" for item in pool["masked"]]
    return lines


def _limits(pool: Mapping[str, Any]) -> List[Any]:
    """Return features by the hosts that lack them, for most often a few hosts lack many."""
    groups: Dict[str, List[str]] = {}
    for item in pool["limits"]:
        groups.setdefault(_words(item["hosts"]), []).append(item["feature"])
    return list(groups.items())


def _drift_lines(host: Mapping[str, Any]) -> List[str]:
    drift = host["drift"]
    if not drift:
        return []
    said = [f"{item['name']} {_value(item['before'])} -> {_value(item['after'])}" for item in drift["versions"]]
    said += [f"{item['name']} {_value(item['before'])} -> {_value(item['after'])}" for item in drift["changed"]]
    said += [f"{key} {_words(drift[key])}" for key in ("lost", "gained") if drift[key]]
    if drift["pool_lost"]:
        said.append(f"of its pool {_words(drift['pool_lost'])}")
    return [f"{host['name']} has changed since its record: {'; '.join(said)}"]


def _restart_lines(vm: Mapping[str, Any]) -> List[str]:
    """Return what a VM runs with that its pool has not, and what its host has not any more."""
    bits = [] if vm["address_bits"] is None else [f"{vm['address_bits']} address bits"]
    gone = [name for name in vm["features"] if vm["pool"] is None or name in vm["lost"]]
    more = [name for name in vm["features"] if name not in gone]
    (gone if vm["pool"] is None else more).extend(bits)
    does = "was saved and resumes" if vm["saved"] else "runs"
    return [
        f"{vm['vm']} on {vm['host']} {does} with more than {whose} until it is stopped and started: {_words(what)}"
        for whose, what in ((f"the CPU of {vm['pool']}", more), ("its host has now", gone))
        if what
    ]


def _value(value: Any) -> str:
    return "unknown" if value is None else str(value)
