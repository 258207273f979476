# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules of the host's state as a whole: planned first, written in a safe order, read back."""

from __future__ import annotations

from dataclasses import replace
from typing import List

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import files, hook, maintenance, state
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.maintenance import Completed, History, Mark
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.paths import HostPaths
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.state import HostState, Request

NOW = "2026-01-31T12:00:00Z"
MARK = Mark("m1", "New kernel", NOW)
ENTER = Request(entered=True, id="m1", reason="New kernel")
COMPLETE = Request(entered=False, id="m1", completed=True)


def test_entering_plans_mark_and_hook() -> None:
    assert state.plan(HostState(), ENTER, NOW) == HostState(MARK, History(), hook.CURRENT)


def test_without_cordon_the_hook_is_left_alone() -> None:
    for found in (hook.ABSENT, hook.OUTDATED, hook.CURRENT):
        planned = state.plan(HostState(hook=found), replace(ENTER, cordon=False), NOW)
        assert (planned.hook, planned.cordoned) == (found, False)


def test_an_outdated_hook_is_replaced_when_the_host_enters_again() -> None:
    assert state.plan(HostState(MARK, History(), hook.OUTDATED), ENTER, NOW).hook == hook.CURRENT


def test_leaving_keeps_the_hook_for_the_next_time() -> None:
    planned = state.plan(HostState(MARK, History(), hook.CURRENT), COMPLETE, NOW)
    assert planned == HostState(None, History((Completed("m1", NOW),)), hook.CURRENT)


@pytest.mark.parametrize("maintenance_id", [None, ""])
def test_a_maintenance_without_an_id_is_refused(maintenance_id: str | None) -> None:
    with pytest.raises(FleetError) as caught:
        state.plan(HostState(), replace(ENTER, id=maintenance_id), NOW)
    assert caught.value.code == "bad_options"


def test_a_whole_maintenance_changes_the_host_step_by_step_and_each_step_once(paths: HostPaths) -> None:
    paths.state.rmdir()
    steps = [ENTER, replace(ENTER, phase="drained"), replace(ENTER, phase="reconfigured"), COMPLETE]
    seen = []
    for step in steps:
        before = state.observe(paths)
        seen.append(state.carry_out(paths, step, NOW))
        assert seen[-1] != before
        assert state.plan(seen[-1], step, "2026-01-31T13:00:00Z") == seen[-1]
        assert state.observe(paths) == seen[-1]
    assert [found.mark.phase if found.mark else None for found in seen] == ["draining", "drained", "reconfigured", None]
    assert seen[-1].history.has("m1")


def test_the_order_of_writing_is_safe_to_be_cut_off(paths: HostPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    written: List[str] = []
    write_text, remove = files.write_text, files.remove
    monkeypatch.setattr(
        files, "write_text", lambda path, *a, **k: (written.append(path.name), write_text(path, *a, **k))
    )
    monkeypatch.setattr(files, "remove", lambda path: (written.append(f"-{path.name}"), remove(path)))
    state.carry_out(paths, ENTER, NOW)
    state.carry_out(paths, COMPLETE, NOW)
    assert written == ["kvm_fleet", "maintenance.json", "history.json", "-maintenance.json"]


def test_another_maintenance_entered_since_the_plan_is_not_overwritten(paths: HostPaths) -> None:
    assert state.plan(state.observe(paths), ENTER, NOW).mark == MARK
    maintenance.write(paths, Mark("m2", "Firmware", NOW))
    with pytest.raises(FleetError) as caught:
        state.carry_out(paths, ENTER, NOW)
    assert caught.value.code == "maintenance_other"
    assert maintenance.read(paths) == Mark("m2", "Firmware", NOW)


def test_what_was_not_written_is_noticed(paths: HostPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "write", lambda _paths, _mark: None)
    with pytest.raises(FleetError, match="do not hold what was just written") as caught:
        state.carry_out(paths, ENTER, NOW)
    assert caught.value.code == "not_applied"


def test_a_host_that_is_not_drained_is_told_with_the_names() -> None:
    error = state.not_drained([{"driver": "lxc", "name": "web"}, {"driver": "qemu", "name": "db1"}], MARK)
    assert error.code == "not_drained"
    assert "web (lxc), db1 (qemu)" in error.msg
    assert error.facts["running"][1] == {"driver": "qemu", "name": "db1"}
    assert error.facts["maintenance"]["id"] == "m1"
