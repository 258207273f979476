# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What is asked for a VM, from the options of the module."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from ..._domain import Domain, Pinning, PinningPolicy
from ..._errors import FleetError
from ..._pinning import Wish, policy_of

# What of a VM is changed.
BOTH, LIVE, DEFINITION = "both", "live", "definition"

# Options of the module, and the fields of a policy they are.
POLICY_OPTIONS = {
    "policy": "policy",
    "thread_policy": "thread_policy",
    "emulator_threads": "emulator",
    "memory_mode": "memory_mode",
    "host_cells": "host_cells",
}

# Every pin of the fleet snapshot, so that what is found there can be given as it is.
_PINS = ("policy", "vcpus", "emulator", "iothreads", "cpuset", "memory", "cells")


def wish_of(options: Mapping[str, Any], vm: Domain, apply_to: str) -> Wish:
    """Return what the options ask for a VM; ``apply_to`` is as in ``Wish``.

    A policy that is given is complete: what is not said about it has its default. Without one, what is given changes
    the policy that the VM has. Raises ``FleetError`` that names the VM: ``bad_options``, ``bad_pins``, ``bad_cpuset``.
    """
    try:
        policy = _policy(options, vm)
        return Wish(vm.uuid, policy, _pins(options.get("pins"), policy), apply_to)
    except FleetError as error:
        raise FleetError(f"VM {vm.name}: {error.msg}", error.code, **{**error.facts, "vm": vm.name}) from error


def _policy(options: Mapping[str, Any], vm: Domain) -> PinningPolicy:
    given = {field: options[name] for name, field in POLICY_OPTIONS.items() if options.get(name) is not None}
    stored: Dict[str, Any] = {} if "policy" in given else policy_of(vm).as_dict()
    return PinningPolicy.from_dict({**stored, **given})


def _pins(data: Optional[Mapping[str, Any]], policy: PinningPolicy) -> Optional[Pinning]:
    if data is None:
        return None
    given = [name for name, value in data.items() if name != "policy" and value not in (None, [], "")]
    allowed = {"manual": _PINS, "none": ("cpuset",)}.get(policy.policy, ())
    unknown = sorted(set(data) - set(_PINS))
    if unknown:
        raise _bad(f"pins has no {', '.join(unknown)}; it has {', '.join(_PINS)}. Correct the name", unknown[0])
    foreign = sorted(set(given) - set(allowed))
    if foreign:
        advice = "Give only cpuset with it" if policy.policy == "none" else "Leave pins out"
        raise _bad(
            f"the policy {policy.policy!r} chooses {', '.join(foreign)} itself. {advice}, or use the policy manual",
            "pins",
        )
    return _each_once(Pinning.from_dict({**data, "policy": policy.policy})) if allowed else None


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


def _bad(problem: str, option: str) -> FleetError:
    return FleetError(f"{problem}.", "bad_options", option=option)
