# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules by which systemd finds and reads the files of a unit."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.unit_files import (
    add_up,
    section_of,
    settings,
    unit_files,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import format_cpuset, parse_cpuset
from hypothesis import given
from hypothesis import strategies as st


def write(root: Path, path: str, text: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def names(root: Path, unit: str) -> list[str]:
    return [str(path.relative_to(root)) for path in unit_files(root, unit)]


def test_drop_ins_are_read_after_the_unit_and_by_name_wherever_they_lie(tmp_path: Path) -> None:
    for path in (
        "etc/systemd/system/machine.slice.d/30-a.conf",
        "usr/lib/systemd/system/machine.slice.d/10-b.conf",
        "run/systemd/system.control/machine.slice.d/50-AllowedCPUs.conf",
        "usr/lib/systemd/system/slice.d/20-c.conf",
        "usr/lib/systemd/system/machine.slice",
        "etc/systemd/system/machine.slice.d/no-drop-in.txt",
        "etc/systemd/system/system.slice.d/10-other.conf",
    ):
        write(tmp_path, path)
    assert names(tmp_path, "machine.slice") == [
        "usr/lib/systemd/system/machine.slice",
        "usr/lib/systemd/system/machine.slice.d/10-b.conf",
        "usr/lib/systemd/system/slice.d/20-c.conf",
        "etc/systemd/system/machine.slice.d/30-a.conf",
        "run/systemd/system.control/machine.slice.d/50-AllowedCPUs.conf",
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("etc/systemd/system.control", "run/systemd/system.control"),
        ("run/systemd/system.control", "etc/systemd/system"),
        ("etc/systemd/system", "run/systemd/system"),
        ("run/systemd/system", "usr/lib/systemd/system"),
        ("usr/local/lib/systemd/system", "usr/lib/systemd/system"),
    ],
)
def test_a_file_hides_those_of_its_name_in_lesser_directories(tmp_path: Path, first: str, second: str) -> None:
    for directory in (first, second):
        write(tmp_path, f"{directory}/init.scope")
        write(tmp_path, f"{directory}/init.scope.d/10-x.conf")
    assert names(tmp_path, "init.scope") == [f"{first}/init.scope", f"{first}/init.scope.d/10-x.conf"]


def test_a_drop_in_of_the_unit_hides_that_of_its_type(tmp_path: Path) -> None:
    write(tmp_path, "etc/systemd/system/scope.d/10-x.conf")
    write(tmp_path, "usr/lib/systemd/system/init.scope.d/10-x.conf")
    assert names(tmp_path, "init.scope") == ["usr/lib/systemd/system/init.scope.d/10-x.conf"]


def test_a_unit_without_files_has_none(tmp_path: Path) -> None:
    assert unit_files(tmp_path, "init.scope") == []


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[Slice]\nAllowedCPUs=0-1\n", ["0-1"]),
        ("[Slice]\nAllowedCPUs=\nAllowedCPUs = 0-1 \n", ["", "0-1"]),
        ("[Slice]\n# AllowedCPUs=0\n; AllowedCPUs=1\n", []),
        ("[Scope]\nAllowedCPUs=0\n", []),
        ("AllowedCPUs=0\n", []),
        ("[Slice]\nStartupAllowedCPUs=0\nCPUWeight=10\n", []),
        ("[Slice]\nAllowedCPUs=0 \\\n  2-3\n[Install]\nAllowedCPUs=9\n", ["0    2-3"]),
        ("", []),
    ],
)
def test_assignments_are_those_of_the_section(tmp_path: Path, text: str, values: list[str]) -> None:
    write(tmp_path, "x.conf", text)
    assert settings(tmp_path / "x.conf", "Slice", "AllowedCPUs") == values


def test_a_link_that_masks_a_drop_in_sets_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.conf").symlink_to("/dev/null")
    assert settings(tmp_path / "x.conf", "Slice", "AllowedCPUs") == []


@pytest.mark.parametrize(
    ("values", "cpus"),
    [
        ([], None),
        ([""], None),
        (["0-1"], "0-1"),
        (["0-1", "4"], "0-1,4"),
        (["0-1", "", "4"], "4"),
        (["0-1", ""], None),
        (["0 2,3  5-6"], "0,2-3,5-6"),
        (["all", "1"], "1"),
    ],
)
def test_lists_add_up_and_an_empty_one_takes_all_back(values: list[str], cpus: str | None) -> None:
    found = add_up(values)
    assert (None if found is None else format_cpuset(found)) == cpus


@given(st.lists(st.sampled_from(["", "0", "1-2", "2,5", "3 4"])))
def test_only_what_follows_the_last_empty_value_counts(values: list[str]) -> None:
    after = values[len(values) - values[::-1].index("") :] if "" in values else values
    expected = frozenset().union(*(parse_cpuset(value.replace(" ", ",")) for value in after)) if after else None
    assert add_up(values) == expected


@pytest.mark.parametrize(("unit", "section"), [("machine.slice", "Slice"), ("init.scope", "Scope")])
def test_the_section_follows_from_the_type(unit: str, section: str) -> None:
    assert section_of(unit) == section
