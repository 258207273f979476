# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host knows of migrations that a killed run began."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.journal import Begun, CopiedDisk, Journal
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.paths import HostPaths

UUID = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    (tmp_path / "var/lib").mkdir(parents=True)
    return HostPaths(tmp_path)


def begun(defined_there: bool = False, uuid: str = UUID, **more: Any) -> Begun:
    move = {"vm": "db1", "uuid": uuid, "destination": "hv2", "destination_uuid": "u2", "uri": "qemu+ssh://hv2/system"}
    return Begun({**move, **more}, defined_there)


def test_a_host_without_migrations_has_none(paths: HostPaths) -> None:
    assert Journal(paths).entries() == []
    assert Journal(paths).find(UUID) is None
    Journal(paths).end(UUID)


def test_what_began_is_known_until_it_ends(paths: HostPaths) -> None:
    other = begun(True, "99999999-2222-4333-8444-555555555555", vm="web1", pins={"vcpus": []})
    Journal(paths).begin(begun())
    Journal(paths).begin(other)
    assert Journal(paths).entries() == [begun(), other]
    Journal(paths).end(UUID)
    assert Journal(paths).entries() == [other]


def test_nobody_else_reads_it(paths: HostPaths) -> None:
    Journal(paths).begin(begun())
    assert paths.migrations.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("first", "second"), [(False, True), (True, False)])
def test_what_an_earlier_try_left_stays_its_own(paths: HostPaths, first: bool, second: bool) -> None:
    Journal(paths).begin(begun(first))
    Journal(paths).begin(begun(second))
    assert Journal(paths).find(UUID) == begun(first)


def test_another_destination_is_asked_anew(paths: HostPaths) -> None:
    Journal(paths).begin(begun(defined_there=False))
    elsewhere = begun(True, destination="hv3", destination_uuid="u3", uri="qemu+ssh://hv3/system")
    Journal(paths).begin(elsewhere)
    assert Journal(paths).find(UUID) == elsewhere


DISK = CopiedDisk("images", "db1", "/var/images/db1", "/srv/db1", made=True)


def test_the_disks_that_are_made_are_known_with_the_migration(paths: HostPaths) -> None:
    Journal(paths).note_disks(UUID, [DISK], 7)
    assert Journal(paths).entries() == []
    Journal(paths).begin(begun())
    Journal(paths).note_disks(UUID, [DISK], 7)
    assert Journal(paths).find(UUID) == replace(begun(), disks=(DISK,), runtime_id=7)


def test_disks_of_an_earlier_try_stay_its_own_only_at_the_same_destination(paths: HostPaths) -> None:
    Journal(paths).begin(begun())
    Journal(paths).note_disks(UUID, [DISK], 7)
    Journal(paths).begin(begun(pins={"vcpus": []}))
    assert Journal(paths).find(UUID) == replace(begun(pins={"vcpus": []}), disks=(DISK,), runtime_id=7)
    elsewhere = begun(destination="hv3", destination_uuid="u3", uri="qemu+ssh://hv3/system")
    Journal(paths).begin(elsewhere)
    assert Journal(paths).find(UUID) == elsewhere


BROKEN = {
    "no JSON": "{",
    "another version": json.dumps({"version": 2, "defined_there": False, "move": begun().move}),
    "no move": json.dumps({"version": 1, "defined_there": False}),
    "a move that says too little": json.dumps(
        {"version": 1, "defined_there": False, "move": {"vm": "db1", "uuid": UUID}}
    ),
    "nothing of the definition": json.dumps({"version": 1, "move": begun().move}),
    "disks that are none": json.dumps({"version": 1, "defined_there": False, "move": begun().move, "disks": ["db1"]}),
    "a disk that says too little": json.dumps(
        {"version": 1, "defined_there": False, "move": begun().move, "disks": [{"pool": "images", "made": True}]}
    ),
    "another VM": json.dumps({"version": 1, "defined_there": False, "move": begun(uuid="other").move}),
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_record_that_nobody_can_read_is_never_ignored(paths: HostPaths, text: str) -> None:
    Journal(paths).begin(begun())
    paths.migration(UUID).write_text(text)
    for read in (lambda: Journal(paths).entries(), lambda: Journal(paths).find(UUID)):
        with pytest.raises(FleetError, match="cannot be used") as caught:
            read()
        assert caught.value.code == "bad_record"
        assert str(paths.migration(UUID)) in caught.value.msg
