# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CPUs from /sys, those included that are offline."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.cpus import HostCpus, read_cpus
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import parse_cpuset


def write(root: Path, **sets: str) -> None:
    directory = root / "sys/devices/system/cpu"
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in sets.items():
        (directory / name).write_text(text + "\n")


def siblings(root: Path, cpu: int, text: str) -> None:
    directory = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    directory.mkdir(parents=True)
    (directory / "thread_siblings_list").write_text(text + "\n")


def test_all_sets_are_read(tmp_path: Path) -> None:
    write(tmp_path, possible="0-15", present="0-7", online="0-4,6-7", isolated="2-3", nohz_full="3")
    for cpu, text in {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3", 4: "4", 6: "6-7", 7: "6-7"}.items():
        siblings(tmp_path, cpu, text)
    assert read_cpus(tmp_path) == HostCpus(
        possible=frozenset(range(16)),
        present=frozenset(range(8)),
        online=parse_cpuset("0-4,6-7"),
        isolated=frozenset({2, 3}),
        nohz_full=frozenset({3}),
        cores=tuple(parse_cpuset(core) for core in ("0-1", "2-3", "4", "6-7")),
    )
    assert read_cpus(tmp_path).offline == {5}


@pytest.mark.parametrize(
    ("text", "expected"), [("", frozenset()), ("  (null)", frozenset()), ("1-2", frozenset({1, 2}))]
)
def test_nohz_full_of_a_kernel_that_was_not_asked_is_empty(tmp_path: Path, text: str, expected: frozenset[int]) -> None:
    write(tmp_path, present="0-3", online="0-3", nohz_full=text)
    assert read_cpus(tmp_path).nohz_full == expected


def test_a_kernel_without_these_files_has_what_is_online(tmp_path: Path) -> None:
    write(tmp_path, online="0-1")
    cores = (frozenset({0}), frozenset({1}))
    assert read_cpus(tmp_path) == HostCpus(frozenset({0, 1}), frozenset({0, 1}), frozenset({0, 1}), cores=cores)


def test_siblings_that_are_offline_belong_to_no_core(tmp_path: Path) -> None:
    write(tmp_path, present="0-3", online="0,2-3")
    siblings(tmp_path, 0, "0-1")
    siblings(tmp_path, 2, "2-3")
    siblings(tmp_path, 3, "2-3")
    assert read_cpus(tmp_path).cores == (frozenset({0}), frozenset({2, 3}))


def test_without_sys_nothing_is_guessed(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="Check that /sys is mounted") as caught:
        read_cpus(tmp_path)
    assert caught.value.code == "host_file"
