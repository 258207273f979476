# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import settling
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.settling import SETTLE_S, SettlingNote


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time since the boot of the host, in a list so that it can be moved."""
    clock = [100.0]
    monkeypatch.setattr(settling, "_now", lambda: clock[0])
    return clock


def note(folder: Path) -> SettlingNote:
    return SettlingNote("a", "uuid-a", folder / "vcpus")


@pytest.mark.usefixtures("now")
def test_what_was_asked_for_is_read_by_the_next_run_and_forgotten_when_it_is_over(tmp_path: Path) -> None:
    assert note(tmp_path).read(7) == ()
    with note(tmp_path).locked():
        note(tmp_path).write((3, 2), 7)
    assert note(tmp_path).read(7) == (3, 2)
    note(tmp_path).forget()
    assert note(tmp_path).read(7) == ()


def test_a_guest_that_runs_anew_or_has_had_its_time_was_asked_for_nothing(tmp_path: Path, now: list[float]) -> None:
    with note(tmp_path).locked():
        note(tmp_path).write((3,), 7)
    assert note(tmp_path).read(8) == ()
    now[0] += SETTLE_S
    assert note(tmp_path).read(7) == (3,)
    now[0] += 1
    assert note(tmp_path).read(7) == ()


def test_one_run_at_a_time_changes_a_vm(tmp_path: Path) -> None:
    with note(tmp_path).locked():
        with pytest.raises(FleetError, match=r"VM a .* another run") as failure, note(tmp_path).locked():
            pass
        with SettlingNote("b", "uuid-b", tmp_path / "vcpus").locked():
            pass
    assert failure.value.code == "settling"
    with note(tmp_path).locked():
        pass


def test_a_note_that_nobody_can_read_is_named(tmp_path: Path) -> None:
    with note(tmp_path).locked():
        (tmp_path / "vcpus/uuid-a/settling.json").write_text("{}")
    with pytest.raises(FleetError, match=r"settling\.json") as failure:
        note(tmp_path).read(7)
    assert failure.value.code == "bad_record"
