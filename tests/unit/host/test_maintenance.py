# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules of maintenance: one at a time, entered once, left as completed or cancelled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, Optional

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import files, maintenance
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.maintenance import Completed, History, Mark
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.paths import HostPaths

NOON, LATER = "2026-01-31T12:00:00Z", "2026-01-31T13:00:00Z"
MARK = Mark("m1", "New kernel", NOON)
DONE = History((Completed("m0", NOON), Completed("m1", NOON)))


@pytest.mark.parametrize(
    ("mark", "options", "expected"),
    [
        (None, {}, Mark("m1", "no reason given", LATER, True, "draining")),
        (None, {"reason": "New kernel", "cordon": False}, Mark("m1", "New kernel", LATER, False, "draining")),
        (None, {"phase": "drained"}, Mark("m1", "no reason given", LATER, True, "drained")),
        (MARK, {}, MARK),
        (MARK, {"reason": "New firmware"}, replace(MARK, reason="New firmware")),
        (MARK, {"cordon": False}, replace(MARK, cordon=False)),
        (MARK, {"phase": "drained"}, replace(MARK, phase="drained")),
        (replace(MARK, phase="reconfigured"), {}, replace(MARK, phase="reconfigured")),
        (replace(MARK, phase="drained"), {"phase": "draining"}, MARK),
    ],
)
def test_entering_keeps_when_it_began_and_what_is_not_given(
    mark: Optional[Mark], options: Dict[str, Any], expected: Mark
) -> None:
    assert maintenance.enter(mark, "m1", LATER, **options) == expected


def test_a_host_in_another_maintenance_refuses_and_names_both_and_the_way_out() -> None:
    with pytest.raises(FleetError) as caught:
        maintenance.enter(MARK, "m2", LATER)
    assert caught.value.code == "maintenance_other"
    assert "in maintenance m1 (New kernel) since 2026-01-31T12:00:00Z, not in m2" in caught.value.msg
    assert "state=left id=m1" in caught.value.msg
    with pytest.raises(FleetError):
        maintenance.leave(MARK, DONE, "m2", completed=False, now=LATER)


@pytest.mark.parametrize(
    ("mark", "history", "given", "completed", "expected"),
    [
        # Cancelled: nothing is recorded.
        (MARK, History(), "m1", False, []),
        (MARK, History(), None, False, []),
        (None, DONE, "m1", False, [("m0", NOON), ("m1", NOON)]),
        # Completed: recorded, by the mark's own name when none is given.
        (MARK, History(), "m1", True, [("m1", LATER)]),
        (MARK, History(), None, True, [("m1", LATER)]),
        (None, History(), "m1", True, [("m1", LATER)]),
        (None, History(), None, True, []),
        # Done before: only going through it again counts anew.
        (None, DONE, "m1", True, [("m0", NOON), ("m1", NOON)]),
        (replace(MARK, id="m0"), DONE, "m0", True, [("m1", NOON), ("m0", LATER)]),
    ],
)
def test_leaving_records_a_completed_maintenance_once(
    mark: Optional[Mark], history: History, given: Optional[str], completed: bool, expected: Any
) -> None:
    left = maintenance.leave(mark, history, given, completed, LATER)
    assert [(entry.id, entry.at) for entry in left.completed] == expected


def test_the_history_keeps_the_newest_fifty() -> None:
    history = History()
    for number in range(60):
        history = history.with_completed(f"m{number}", NOON)
    assert [entry.id for entry in history.completed] == [f"m{number}" for number in range(10, 60)]


@pytest.mark.parametrize(
    ("mark", "maintenance_id", "expected"),
    [
        (None, "m1", True),
        (None, "m2", False),
        (None, None, False),
        (replace(MARK, id="m2"), "m1", True),
        # Entered again: it is not through with it.
        (MARK, "m1", False),
    ],
)
def test_completed_means_on_record_and_not_in_it_again(
    mark: Optional[Mark], maintenance_id: Optional[str], expected: bool
) -> None:
    assert maintenance.is_completed(mark, DONE, maintenance_id) is expected


def test_the_present_time_is_utc_in_seconds() -> None:
    now = maintenance.utc_now()
    assert (len(now), now[4], now[10], now[-1]) == (20, "-", "T", "Z")


def test_mark_and_history_are_read_back_as_written(paths: HostPaths) -> None:
    assert (maintenance.read(paths), maintenance.read_history(paths)) == (None, History())
    mark = replace(MARK, reason='say "no"\n{}', cordon=False, phase="drained")
    maintenance.write(paths, mark)
    maintenance.write_history(paths, DONE)
    assert (maintenance.read(paths), maintenance.read_history(paths)) == (mark, DONE)
    maintenance.write(paths, None)
    assert not paths.mark.exists()


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"version": 2}, "its version is 2 and this release of the collection reads 1"),
        ({"version": True}, "its version is True"),
        ({"version": None}, "its version is None"),
        ({"id": 7}, "its key id is missing or not of type str"),
        ({"since": None}, "its key since is missing"),
        ({"cordon": "no"}, "its key cordon is missing or not of type bool"),
        ({"phase": "sleeping"}, "its phase is sleeping, not one of draining, drained, reconfigured"),
    ],
)
def test_a_mark_with_wrong_content_is_not_guessed_at(paths: HostPaths, change: Dict[str, Any], cause: str) -> None:
    files.write_record(paths.mark, {**MARK.to_data(), **change})
    with pytest.raises(FleetError, match="cannot be used") as caught:
        maintenance.read(paths)
    assert caught.value.code == "bad_record"
    assert cause in caught.value.msg
    assert str(paths.mark) in caught.value.msg


@pytest.mark.parametrize(
    "record",
    [
        {"version": 2, "completed": []},
        {"version": 1},
        {"version": 1, "completed": ["m1"]},
        {"version": 1, "completed": [{"id": "m1"}]},
    ],
)
def test_a_history_with_wrong_content_is_not_guessed_at(paths: HostPaths, record: Dict[str, Any]) -> None:
    files.write_record(paths.history, record)
    with pytest.raises(FleetError) as caught:
        maintenance.read_history(paths)
    assert caught.value.code == "bad_record"
