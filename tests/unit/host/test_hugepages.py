# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Huge pages of cells: reserved now and at boot, taken back to what was, and never at the cost of a VM."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import files
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.hugepages import (
    CONF,
    CellPages,
    read_pages,
    require_possible,
    write_pages,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Key = tuple[int, int]
SMALL, LARGE = 2048, 1048576
NODE = "sys/devices/system/node/node{}/hugepages/hugepages-{}kB"


class Kernel:
    """Pages below a root directory. A cell has ``room_kib`` for all sizes together, and pages in use stay."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, room_kib: int = 4 * LARGE) -> None:
        self.root, self.room_kib = root, room_kib
        self.total: dict[Key, int] = {}
        self.used: dict[Key, int] = {}
        # Pages that are found by the second attempt only.
        self.late = 0
        self.writes = 0
        (root / "etc/tmpfiles.d").mkdir(parents=True)
        (root / "proc").mkdir()
        (root / "proc/meminfo").write_text("MemTotal: 1 kB\nHugepagesize:    2048 kB\n")
        monkeypatch.setattr(files, "put_text", self.put)

    def add(self, cell: int, size: int, total: int = 0, used: int = 0) -> Kernel:
        self.total[cell, size], self.used[cell, size] = total, used
        (self.root / NODE.format(cell, size)).mkdir(parents=True)
        self.show((cell, size))
        return self

    def show(self, key: Key) -> None:
        directory = self.root / NODE.format(*key)
        surplus = max(0, self.used[key] - self.total[key])
        (directory / "nr_hugepages").write_text(f"{self.total[key] + surplus}\n")
        (directory / "surplus_hugepages").write_text(f"{surplus}\n")
        (directory / "free_hugepages").write_text(f"{max(0, self.total[key] - self.used[key])}\n")

    def put(self, path: Path, text: str) -> None:
        self.writes += 1
        key = next(key for key in self.total if self.root / NODE.format(*key) == path.parent)
        others = sum(n * size for (cell, size), n in self.total.items() if cell == key[0] and size != key[1])
        room = (self.room_kib - others) // key[1]
        count = int(text)
        if count > self.total[key] and self.late:
            self.late, count = 0, max(self.total[key], count - self.late)
        self.total[key] = min(count, room)
        self.show(key)

    def boot(self) -> None:
        """Do what systemd-tmpfiles does with our file on a kernel that reserved nothing."""
        for key in self.total:
            self.total[key] = self.used[key] = 0
            self.show(key)
        text = files.read_text(self.root / CONF) or ""
        for line in text.splitlines():
            if line.startswith("w! "):
                self.put(self.root / line.split()[1].lstrip("/"), line.split()[6])


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(tmp_path, monkeypatch).add(0, SMALL).add(0, LARGE).add(1, SMALL, total=10, used=4).add(1, LARGE)


def test_every_cell_and_size_is_read(kernel: Kernel) -> None:
    state = read_pages(kernel.root)
    assert list(state.now) == [(0, LARGE), (0, SMALL), (1, LARGE), (1, SMALL)]
    assert state.now[1, SMALL] == CellPages(1, SMALL, 10, 4, "/" + NODE.format(1, SMALL) + "/nr_hugepages")
    assert (state.ours, state.before) == ({}, {})


def test_a_host_without_numa_has_cell_0(tmp_path: Path) -> None:
    directory = tmp_path / "sys/kernel/mm/hugepages/hugepages-2048kB"
    directory.mkdir(parents=True)
    (directory / "nr_hugepages").write_text("7\n")
    (directory / "free_hugepages").write_text("5\n")
    expected = CellPages(0, SMALL, 7, 2, "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
    assert read_pages(tmp_path).now == {(0, SMALL): expected}


def test_surplus_pages_are_no_reservation(kernel: Kernel) -> None:
    directory = kernel.root / NODE.format(1, SMALL)
    (directory / "surplus_hugepages").write_text("3\n")
    assert (read_pages(kernel.root).now[1, SMALL].total, read_pages(kernel.root).now[1, SMALL].used) == (7, 4)


def test_pages_are_reserved_now_and_at_boot(kernel: Kernel) -> None:
    wanted = {(0, LARGE): 2, (1, SMALL): 64}
    write_pages(kernel.root, wanted)
    assert kernel.total == {(0, SMALL): 0, (0, LARGE): 2, (1, SMALL): 64, (1, LARGE): 0}
    assert read_pages(kernel.root).ours == wanted
    assert read_pages(kernel.root).before == {(0, LARGE): 0, (1, SMALL): 10}
    kernel.boot()
    assert kernel.total == {(0, SMALL): 0, (0, LARGE): 2, (1, SMALL): 64, (1, LARGE): 0}


def test_the_file_is_one_for_systemd_tmpfiles(kernel: Kernel) -> None:
    write_pages(kernel.root, {(1, SMALL): 64})
    text = (kernel.root / CONF).read_text()
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        "w! /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages - - - - 64"
    ]


def test_a_second_time_nothing_is_written(kernel: Kernel) -> None:
    write_pages(kernel.root, {(1, SMALL): 64})
    kernel.writes = 0
    before = (kernel.root / CONF).stat().st_mtime_ns
    write_pages(kernel.root, {(1, SMALL): 64})
    assert (kernel.writes, (kernel.root / CONF).stat().st_mtime_ns) == (0, before)


def test_what_is_not_wanted_any_more_gets_back_what_it_had(kernel: Kernel) -> None:
    write_pages(kernel.root, {(0, LARGE): 2, (1, SMALL): 64})
    write_pages(kernel.root, {(0, LARGE): 1, (1, SMALL): 32})
    write_pages(kernel.root, {(0, LARGE): 1})
    assert (kernel.total[0, LARGE], kernel.total[1, SMALL]) == (1, 10)
    write_pages(kernel.root, {})
    assert kernel.total == {(0, SMALL): 0, (0, LARGE): 0, (1, SMALL): 10, (1, LARGE): 0}
    assert not (kernel.root / CONF).exists()


def test_pages_wait_for_room_that_another_size_gives_back(kernel: Kernel) -> None:
    write_pages(kernel.root, {(0, SMALL): 2048})
    write_pages(kernel.root, {(0, LARGE): 4})
    assert (kernel.total[0, SMALL], kernel.total[0, LARGE]) == (0, 4)


def test_the_kernel_is_asked_again_when_it_gives_too_few(kernel: Kernel) -> None:
    kernel.late = 5
    write_pages(kernel.root, {(0, SMALL): 64})
    assert kernel.total[0, SMALL] == 64


def test_too_little_memory_puts_everything_back(kernel: Kernel) -> None:
    write_pages(kernel.root, {(0, SMALL): 16})
    text, total = (kernel.root / CONF).read_text(), dict(kernel.total)
    with pytest.raises(FleetError, match="only 3 instead of 9 huge pages of 1048576 KiB in NUMA cell 0") as caught:
        write_pages(kernel.root, {(0, SMALL): 32, (1, SMALL): 20, (0, LARGE): 9})
    assert caught.value.code == "not_enough_memory"
    assert caught.value.facts == {"cell": 0, "size_kib": LARGE, "wanted": 9, "got": 3}
    assert ((kernel.root / CONF).read_text(), kernel.total) == (text, total)


def test_a_first_failure_leaves_no_file(kernel: Kernel) -> None:
    with pytest.raises(FleetError):
        write_pages(kernel.root, {(0, LARGE): 9})
    assert not (kernel.root / CONF).exists()


@pytest.mark.parametrize("wanted", [{(1, SMALL): 3}, {(1, SMALL): 0}])
def test_pages_in_use_are_not_taken(kernel: Kernel, wanted: Mapping[Key, int]) -> None:
    with pytest.raises(FleetError, match="2048 KiB in NUMA cell 1, because 4 are in use") as caught:
        write_pages(kernel.root, wanted)
    assert caught.value.code == "pages_in_use"
    assert (kernel.total[1, SMALL], kernel.writes) == (10, 0)


def test_pages_in_use_are_not_taken_by_a_removal(kernel: Kernel) -> None:
    write_pages(kernel.root, {(0, SMALL): 8})
    kernel.used[0, SMALL] = 2
    kernel.show((0, SMALL))
    with pytest.raises(FleetError, match="There cannot be 0 huge pages of 2048 KiB in NUMA cell 0") as caught:
        write_pages(kernel.root, {})
    assert (caught.value.code, kernel.total[0, SMALL]) == ("pages_in_use", 8)


def test_pages_that_the_kernel_keeps_for_a_promise_are_in_use(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "put_text", lambda path, text: None)
    with pytest.raises(FleetError, match="because 10 are in use or promised") as caught:
        write_pages(kernel.root, {(1, SMALL): 5})
    assert caught.value.code == "pages_in_use"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({(2, SMALL): 1}, "no huge pages of 2048 KiB in NUMA cell 2"),
        ({(0, 64): 1}, "no huge pages of 64 KiB in NUMA cell 0"),
        ({(0, SMALL): -1}, "below 0"),
    ],
)
def test_what_cannot_be_is_a_bad_option(kernel: Kernel, wanted: Mapping[Key, int], words: str) -> None:
    with pytest.raises(FleetError, match=words) as caught:
        require_possible(kernel.root, read_pages(kernel.root), wanted)
    assert caught.value.code == "bad_options"


OTHER_CELL = "w /sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages - - - - 9"
SAME = "w /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages - - - - 64"
DIFFERENT = "w+ /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages - - - - 9"
GLOB = "w! /sys/devices/system/node/node*/hugepages/hugepages-2048kB/nr_hugepages - - - - 9"
WHOLE = "w /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages - - - - 64"
WHOLE_LARGE = "w /sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages - - - - 64"


@pytest.mark.parametrize(
    ("path", "line", "conflict"),
    [
        ("etc/tmpfiles.d/a.conf", OTHER_CELL, False),
        ("etc/tmpfiles.d/a.conf", SAME, False),
        ("etc/tmpfiles.d/a.conf", "# " + DIFFERENT, False),
        ("etc/tmpfiles.d/a.conf", DIFFERENT, True),
        ("usr/lib/tmpfiles.d/a.conf", GLOB, True),
        ("run/tmpfiles.d/a.conf", WHOLE, True),
        ("etc/tmpfiles.d/a.conf", WHOLE_LARGE, False),
        ("etc/tmpfiles.d/a.conf", "w /proc/sys/vm/nr_hugepages - - - - 9", True),
        ("etc/sysctl.d/a.conf", "vm.nr_hugepages = 9", True),
        ("etc/sysctl.conf", "-vm/nr_hugepages=9", True),
        ("etc/sysctl.d/a.conf", "; vm.nr_hugepages = 9", False),
        ("etc/sysctl.d/a.conf", "vm.nr_overcommit_hugepages = 9", False),
    ],
)
def test_other_numbers_set_by_somebody_else_are_a_conflict(
    kernel: Kernel, path: str, line: str, conflict: bool
) -> None:
    (kernel.root / path).parent.mkdir(parents=True, exist_ok=True)
    (kernel.root / path).write_text(line + "\n")
    if not conflict:
        write_pages(kernel.root, {(1, SMALL): 64})
        return
    with pytest.raises(FleetError, match=f"/{path} sets ") as caught:
        write_pages(kernel.root, {(1, SMALL): 64})
    assert (caught.value.code, kernel.writes) == ("conflict", 0)


def test_a_hidden_file_is_no_conflict(kernel: Kernel) -> None:
    (kernel.root / "usr/lib/tmpfiles.d").mkdir(parents=True)
    (kernel.root / "usr/lib/tmpfiles.d/a.conf").write_text(DIFFERENT)
    (kernel.root / "etc/tmpfiles.d/a.conf").symlink_to("/dev/null")
    write_pages(kernel.root, {(1, SMALL): 64})


def test_a_sysctl_is_about_the_default_size(kernel: Kernel) -> None:
    (kernel.root / "etc/sysctl.conf").write_text("vm.nr_hugepages=9\n")
    write_pages(kernel.root, {(1, LARGE): 1})


def test_a_file_that_was_edited_is_not_guessed_at(kernel: Kernel) -> None:
    write_pages(kernel.root, {(1, SMALL): 64})
    with (kernel.root / CONF).open("a") as stream:
        stream.write("w! /sys/foo - - - - 1\n")
    with pytest.raises(FleetError) as caught:
        read_pages(kernel.root)
    assert caught.value.code == "bad_record"


def test_a_run_that_was_cut_off_before_the_kernel_was_asked_is_continued(kernel: Kernel) -> None:
    write_pages(kernel.root, {(1, SMALL): 64})
    kernel.total[1, SMALL] = 10
    kernel.show((1, SMALL))
    write_pages(kernel.root, {(1, SMALL): 64})
    assert kernel.total[1, SMALL] == 64
    assert read_pages(kernel.root).before == {(1, SMALL): 10}


KEYS = [(0, SMALL), (0, LARGE), (1, SMALL), (1, LARGE)]


@given(steps=st.lists(st.dictionaries(st.sampled_from(KEYS), st.integers(0, 5)), max_size=4))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_any_steps_a_removal_restores_what_was(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, steps: list[dict[Key, int]]
) -> None:
    kernel = Kernel(tmp_path_factory.mktemp("root"), monkeypatch, room_kib=8 * LARGE)
    for key in KEYS:
        kernel.add(*key, total=key[0])
    before = dict(kernel.total)
    for step in steps:
        write_pages(kernel.root, step)
        assert kernel.total == {**before, **step}
    write_pages(kernel.root, {})
    assert kernel.total == before
    assert not (kernel.root / CONF).exists()
