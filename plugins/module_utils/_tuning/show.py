# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What the modules did to VMs, for people to read."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

# What modules said of one VM, by module.
_Results = Mapping[str, Mapping[str, Any]]

_WORDS = {
    "maximum": "vCPUs",
    "current": "vCPUs",
    "topology": "topology",
    "cells": "NUMA cells",
    "huge_pages_kib": "huge pages",
    "iothreads": "I/O threads",
}


def tuning_report(done: Mapping[str, Sequence[Any]], planned: bool = False) -> Dict[str, List[str]]:
    """Return what changed and what is still to be done.

    ``done`` has the ``vms`` of the results of ``vm_resources`` (``resources``), ``vm_cpu`` (``cpu``), ``vm_pinning``
    (``pinning``), ``vm_policy`` (``policy``) and ``vm_vcpus`` (``hot_plug``), and in ``postponed`` the names of VMs
    whose pins cannot be planned; each may be missing. ``planned`` is check mode. The answer has ``lines`` of text and
    the names of VMs: ``changed``, ``restart_required`` and ``restart_or_migrate_required``.
    """
    found = _by_vm(done)
    changes = {name: _changes(results) for name, results in found.items() if not _only_follows(results)}
    moved = [name for name, results in found.items() if _only_follows(results) and results["pinning"]["changed"]]
    restart = {name: _restart(results) for name, results in found.items()}
    waiting = [name for name, results in found.items() if _pinning(results).get("restart_or_migrate_required")]
    verb = "would change" if planned else "changed"
    lines = [f"{name}: {verb} {', '.join(parts)}" for name, parts in changes.items() if parts]
    lines += [f"{', '.join(moved)}: {verb} shared CPUs"] if moved else []
    lines += [f"{name}: restart it for its {', '.join(parts)}" for name, parts in restart.items() if parts]
    lines += [f"{name}: restart or migrate it for {_memory(_pinning(found[name]))}" for name in waiting]
    return {
        "lines": lines,
        "changed": [name for name, parts in changes.items() if parts] + moved,
        "restart_required": [name for name, parts in restart.items() if parts],
        "restart_or_migrate_required": waiting,
    }


def _by_vm(done: Mapping[str, Sequence[Any]]) -> Dict[str, _Results]:
    """Return the results of each VM by module, and the VMs by name."""
    results: Dict[str, Dict[str, Mapping[str, Any]]] = {}
    for module in ("resources", "cpu", "pinning", "policy", "hot_plug"):
        for vm in done.get(module) or ():
            results.setdefault(str(vm["name"]), {})[module] = vm
    for name in done.get("postponed") or ():
        results.setdefault(str(name), {})["pinning"] = {"changed": True}
    return dict(sorted(results.items()))


def _only_follows(results: _Results) -> bool:
    return list(results) == ["pinning"] and bool(_pinning(results).get("floating"))


def _pinning(results: _Results) -> Mapping[str, Any]:
    return results.get("pinning", {})


def _changes(results: _Results) -> List[str]:
    parts = []
    if results.get("resources", {}).get("changed"):
        parts.append("definition")
    if results.get("cpu", {}).get("changed"):
        parts.append("CPU")
    if _pinning(results).get("changed"):
        parts.append(_pins(_pinning(results)))
    if results.get("policy", {}).get("changed"):
        parts.append("migration policy")
    if results.get("hot_plug", {}).get("changed"):
        parts.append(_vcpus(results["hot_plug"]))
    return parts


def _vcpus(hot_plug: Mapping[str, Any]) -> str:
    count = (hot_plug["running"] or hot_plug["defined"])["count"]
    used = hot_plug["guest_online"]
    return f"vCPUs ({count})" if used in (None, count) else f"vCPUs ({count}, of which its guest uses {used})"


def _pins(pinning: Mapping[str, Any]) -> str:
    if pinning.get("floating"):
        return "shared CPUs"
    cpus = f" on {pinning['cpus']}" if pinning.get("cpus") else ""
    return f"pins ({pinning['policy']}{cpus})" if "policy" in pinning else "pins"


def _restart(results: _Results) -> List[str]:
    difference = results.get("resources", {}).get("difference") or {}
    parts = list(dict.fromkeys(words for key, words in _WORDS.items() if key in difference))
    return parts + (["CPU"] if results.get("cpu", {}).get("restart_required") else [])


def _memory(pinning: Mapping[str, Any]) -> str:
    kinds = sorted({str(entry["kind"]) for entry in pinning.get("pending") or ()})
    return f"its memory ({', '.join(kinds)})" if kinds else "its memory"
