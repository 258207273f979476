# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options of modules that take one VM or several."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import each_vm, per_vm

MODULES = "ansible_collections.virtops.kvm_fleet.plugins.modules"


def checked(options: dict[str, Any], given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    result = ArgumentSpecValidator(**per_vm(options).to_kwargs()).validate(given)
    return result.validated_parameters, result.error_messages


@pytest.mark.parametrize(
    ("module", "attribute"),
    [("vm_resources", "OPTIONS"), ("vm_policy", "OPTIONS"), ("vm_machine_type", "OPTIONS"), ("vm_pinning", "VM")],
)
def test_no_option_of_a_vm_is_overlooked_beside_a_list(module: str, attribute: str) -> None:
    options = getattr(import_module(f"{MODULES}.{module}"), attribute)

    for option, kind in options.items():
        value = kind.get("choices", [{"bool": True, "int": 1, "list": [], "dict": {}}.get(kind["type"], "1")])[0]
        _params, errors = checked(options, {"vms": [{"name": "a"}], option: value})
        assert errors == [f"parameters are mutually exclusive: vms|{option}"]


def test_one_vm_and_several_are_read_alike() -> None:
    options = {"size": {"type": "int"}, "drop": {"type": "bool"}}
    one, _errors = checked(options, {"name": "a", "size": "1"})
    several, _errors = checked(options, {"vms": [{"name": "a", "size": "1"}]})

    assert each_vm(one, options) == each_vm(several, options) == [{"name": "a", "size": 1, "drop": None}]
