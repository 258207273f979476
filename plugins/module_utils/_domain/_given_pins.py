# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Pins as a person gives them, where a misspelt name would be a pin that silently is none."""

from __future__ import annotations

from typing import Any, Mapping, Optional, Sequence, Tuple

from .._errors import FleetError
from ._pins import AUTO, Pinning

# Everything that the fleet snapshot has, so that what is found there can be given as it is.
_PARTS: Mapping[str, Tuple[str, ...]] = {
    "policy": (),
    "vcpus": ("vcpu", "cpus"),
    "emulator": (),
    "iothreads": ("iothread", "cpus"),
    "cpuset": (),
    "memory": ("mode", "nodes"),
    "cells": ("id", "mode", "node", "vcpus", "memory_kib"),
}
_BY_POLICY: Mapping[str, Sequence[str]] = {"manual": tuple(_PARTS), "none": ("cpuset",)}


def given_pins(data: Mapping[str, Any], policy: Optional[str]) -> Optional[Pinning]:
    """Return the pins of a mapping shaped as ``pinning`` of the fleet snapshot.

    ``policy`` is the one they are for, ``None`` if it is not known yet; one that chooses all pins itself has none, and
    the answer is ``None``. Raises ``FleetError``: ``bad_options`` (fact ``option``) for names that nobody knows, pins
    that the policy does not take and numbers given twice; ``bad_pins`` and ``bad_cpuset``.
    """
    _require_known(data, _PARTS, "pins")
    for part, names in _PARTS.items():
        for entry in _mappings(data.get(part)) if names else ():
            _require_known(entry, names, f"pins.{part}")
    allowed = tuple(_PARTS) if policy is None else _BY_POLICY.get(policy, ())
    given = [name for name, value in data.items() if name != "policy" and value not in (None, [], "")]
    foreign = sorted(set(given) - set(allowed))
    if foreign:
        advice = "Give only cpuset with it" if policy == "none" else "Leave pins out"
        raise _bad(
            f"the policy {policy!r} chooses {', '.join(foreign)} itself. {advice}, or use the policy manual", "pins"
        )
    return _each_there(_each_once(Pinning.from_dict({**data, "policy": policy}))) if allowed else None


def _mappings(value: Any) -> Sequence[Mapping[str, Any]]:
    entries = value if isinstance(value, (list, tuple)) else [value]
    return [entry for entry in entries if isinstance(entry, Mapping)]


def _require_known(data: Mapping[str, Any], names: Any, where: str) -> None:
    unknown = sorted(str(name) for name in data if name not in names)
    if unknown:
        raise _bad(
            f"{where} has no {', '.join(unknown)}; it has {', '.join(names)}. Correct the name", f"{where}.{unknown[0]}"
        )


def _each_once(pins: Pinning) -> Pinning:
    numbers = {
        "vCPU": [pin.vcpu for pin in pins.vcpus],
        "I/O thread": [pin.iothread for pin in pins.iothreads],
        "cell": [cell.id for cell in pins.cells],
    }
    for kind, found in numbers.items():
        twice = sorted({number for number in found if found.count(number) > 1})
        if twice:
            raise _bad(f"pins names {kind} {twice[0]} twice. Give it once", "pins")
    return pins


def _each_there(pins: Pinning) -> Pinning:
    """Refuse sets of no CPU, and ``auto`` where libvirt does not know it: it would say so when half is done."""
    named = [(f"vCPU {pin.vcpu}", pin.cpus) for pin in pins.vcpus]
    named += [(f"I/O thread {pin.iothread}", pin.cpus) for pin in pins.iothreads]
    named += [(f"memory of cell {cell.id}", cell.node) for cell in pins.cells]
    named += [("emulator", pins.emulator)] if pins.emulator is not None else []
    for what, numbers in named:
        if numbers in ("", AUTO):
            raise _bad(f"pins gives {what} the set {numbers!r}, which names nothing. Name numbers, as in 0-3,8", "pins")
    if pins.cpuset == "" or (pins.memory is not None and pins.memory.nodes == ""):
        what = "cpuset" if pins.cpuset == "" else "memory"
        raise _bad(f"pins gives {what} a set that names nothing. Name numbers, as in 0-3,8, or auto", "pins")
    return pins


def _bad(problem: str, option: str) -> FleetError:
    return FleetError(f"{problem}.", "bad_options", option=option)
