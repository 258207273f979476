# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What is asked for a VM, from the options of the module."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

from ..._domain import Domain, PinningPolicy, given_pins
from ..._errors import FleetError
from ..._pin_rules import policy_of
from ..._pinning import BOTH, DEFINITION, Wish

# Options of the module, and the fields of a policy they are.
POLICY_OPTIONS = {
    "policy": "policy",
    "thread_policy": "thread_policy",
    "emulator_threads": "emulator",
    "memory_mode": "memory_mode",
    "host_cells": "host_cells",
}


def wish_of(options: Mapping[str, Any], vm: Domain, apply_to: str) -> Wish:
    """Return what the options ask for a VM; ``apply_to`` is as in ``Wish``.

    A policy that is given is complete: what is not said about it has its default. Without one, what is given changes
    the policy that the VM has. Raises ``FleetError`` that names the VM: ``bad_options``, ``bad_pins``, ``bad_cpuset``.
    """
    try:
        policy = _policy(options, vm)
        pins = options.get("pins")
        return Wish(vm.uuid, policy, None if pins is None else given_pins(pins, policy.policy), apply_to)
    except FleetError as error:
        raise FleetError(f"VM {vm.name}: {error.msg}", error.code, **{**error.facts, "vm": vm.name}) from error


def state_asked(options: Mapping[str, Any], live: Optional[Domain], defined: Optional[Domain], apply_to: str) -> Domain:
    """Return the state of a VM whose policy counts where the options give none: the one that is changed.

    Raises ``bad_options`` where both are changed and have different policies.
    """
    running, definition = (live or defined, defined or live)
    if running is None or definition is None:
        raise ValueError("a VM neither runs nor is defined")
    if apply_to == DEFINITION:
        return definition
    if apply_to == BOTH and options.get("policy") is None and _stored(running) != _stored(definition):
        one, other = policy_of(running), policy_of(definition)
        if one != other:
            raise FleetError(
                f"VM {running.name} runs with the policy {_words(one)}, and its definition has {_words(other)}. "
                "Say which policy it is to have, or let apply_to name one of the two.",
                "bad_options",
                vm=running.name,
                option="policy",
                live=one.as_dict(),
                defined=other.as_dict(),
            )
    return running


def _stored(vm: Domain) -> Optional[PinningPolicy]:
    return vm.policy.pinning if vm.policy else None


def _words(policy: PinningPolicy) -> str:
    options = [f"{name}={value}" for name, value in policy.as_dict().items() if name != "policy" and value is not None]
    return f"{policy.policy} ({', '.join(options)})" if options else policy.policy


def _policy(options: Mapping[str, Any], vm: Domain) -> PinningPolicy:
    given = {field: options[name] for name, field in POLICY_OPTIONS.items() if options.get(name) is not None}
    stored: Dict[str, Any] = {} if "policy" in given else policy_of(vm).as_dict()
    return PinningPolicy.from_dict({**stored, **given})
