# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Argument specifications as values that can be merged: rules such as ``required_if`` travel with their options."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence, Tuple


@dataclass(frozen=True)
class ArgumentSpec:
    """Options of a module with the rules between them; field names are those of ``AnsibleModule``."""

    options: Mapping[str, Any] = field(default_factory=dict)
    mutually_exclusive: Sequence[Tuple[str, ...]] = ()
    required_together: Sequence[Tuple[str, ...]] = ()
    required_one_of: Sequence[Tuple[str, ...]] = ()
    required_if: Sequence[Tuple[Any, ...]] = ()

    def merge(self, *others: ArgumentSpec) -> ArgumentSpec:
        """Return one specification with the options and rules of all."""
        every = (self, *others)
        options: Dict[str, Any] = {}
        for spec in every:
            options.update(spec.options)
        return ArgumentSpec(
            options,
            mutually_exclusive=[rule for spec in every for rule in spec.mutually_exclusive],
            required_together=[rule for spec in every for rule in spec.required_together],
            required_one_of=[rule for spec in every for rule in spec.required_one_of],
            required_if=[rule for spec in every for rule in spec.required_if],
        )

    def to_kwargs(self) -> Dict[str, Any]:
        """Return the keyword arguments for ``AnsibleModule``."""
        rules: Dict[str, List[Tuple[Any, ...]]] = {
            "mutually_exclusive": list(self.mutually_exclusive),
            "required_together": list(self.required_together),
            "required_one_of": list(self.required_one_of),
            "required_if": list(self.required_if),
        }
        return {"argument_spec": dict(self.options), **{name: rule for name, rule in rules.items() if rule}}


def per_vm(options: Mapping[str, Any]) -> ArgumentSpec:
    """Return ``name`` with the options for one VM, and ``vms`` with the same for each of several.

    None of the options has a default, which could not be told from what is given beside ``vms``.
    """
    own = {"name": {"type": "str", "required": True}, **options}
    return ArgumentSpec(
        {
            "name": {"type": "str"},
            **options,
            "vms": {"type": "list", "elements": "dict", "options": own},
        },
        mutually_exclusive=[("vms", name) for name in ("name", *options)],
        required_one_of=[("name", "vms")],
    )


def each_vm(params: Mapping[str, Any], options: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """Return ``name`` and the options of each VM, however they were given to a module with ``per_vm``."""
    if params["name"] is None:
        return [dict(vm) for vm in params["vms"]]
    return [{"name": params["name"], **{option: params[option] for option in options}}]


# Fits the documentation fragment virtops.kvm_fleet.libvirt.
LIBVIRT = ArgumentSpec({"uri": {"type": "str", "default": "qemu:///system"}})

# Fits the documentation fragment virtops.kvm_fleet.wait.
WAIT = ArgumentSpec({"wait_timeout": {"type": "int", "default": 600}})

# The topology of a VM's vCPUs.
TOPOLOGY: Dict[str, Any] = {part: {"type": "int"} for part in ("sockets", "dies", "cores", "threads")}
