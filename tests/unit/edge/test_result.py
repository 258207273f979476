# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The edge of every module: changed and diff come from one before/after value, failures are one clear error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible.module_utils.testing import patch_module_args
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, WAIT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run


def result_of(capsys: pytest.CaptureFixture[str], work: Any, **arguments: Any) -> dict[str, Any]:
    with patch_module_args(arguments), pytest.raises(SystemExit):
        run(ArgumentSpec(), work)
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_equal_values_are_no_change(capsys: pytest.CaptureFixture[str]) -> None:
    result = result_of(capsys, lambda _module: Outcome({"a": 1}, {"a": 1}), _ansible_diff=True)
    assert result["changed"] is False
    assert "diff" not in result


def test_a_difference_is_a_change_with_its_diff(capsys: pytest.CaptureFixture[str]) -> None:
    result = result_of(capsys, lambda _module: Outcome({"a": 1}, {"a": 2}), _ansible_diff=True)
    assert result["changed"] is True
    assert result["diff"] == {"before": '{\n  "a": 1\n}\n', "after": '{\n  "a": 2\n}\n'}
    assert "planned" not in result


def test_text_is_compared_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    result = result_of(capsys, lambda _module: Outcome(None, "<cpu/>"), _ansible_diff=True)
    assert result["diff"] == {"before": "", "after": "<cpu/>\n"}


def test_a_change_in_check_mode_is_only_planned(capsys: pytest.CaptureFixture[str]) -> None:
    result = result_of(capsys, lambda _module: Outcome(1, 2), _ansible_check_mode=True)
    assert result["changed"] is True
    assert result["planned"] is True


def test_a_failure_carries_its_code_and_facts(capsys: pytest.CaptureFixture[str]) -> None:
    def work(_module: basic.AnsibleModule) -> Outcome:
        raise FleetError("VM db1 is gone.", "vm_unknown", vm="db1")

    result = result_of(capsys, work)
    assert (result["failed"], result["msg"], result["error"], result["vm"]) == (
        True,
        "VM db1 is gone.",
        "vm_unknown",
        "db1",
    )


def test_rules_travel_with_their_options() -> None:
    merged = LIBVIRT.merge(WAIT, ArgumentSpec({"name": {"type": "str"}}, required_if=[("name", "x", ("uri",))]))
    arguments = merged.to_kwargs()
    assert set(arguments["argument_spec"]) == {"uri", "wait_timeout", "name"}
    assert arguments["required_if"] == [("name", "x", ("uri",))]
    assert "mutually_exclusive" not in arguments
