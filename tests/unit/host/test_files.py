# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rules of the host's files: whole or not at all, and every error names the file."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import files


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_record_is_read_back_as_written(tmp_path: Path) -> None:
    files.write_record(tmp_path / "r.json", {"b": 1, "a": "ü\n"})
    assert files.read_record(tmp_path / "r.json") == {"b": 1, "a": "ü\n"}


def test_a_record_has_one_key_on_a_line_in_the_given_order_and_is_readable_by_all(tmp_path: Path) -> None:
    files.write_record(tmp_path / "r.json", {"b": 1, "a": "ü\n"})
    assert (tmp_path / "r.json").read_text().splitlines() == ["{", '  "b": 1,', '  "a": "\\u00fc\\n"', "}"]
    assert mode(tmp_path / "r.json") == 0o644


def test_the_mode_is_exact_whatever_the_umask_is(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        files.write_text(tmp_path / "t", "x", mode=0o755)
        files.make_directory(tmp_path / "d")
    finally:
        os.umask(before)
    assert (mode(tmp_path / "t"), mode(tmp_path / "d")) == (0o755, 0o755)


def test_an_existing_directory_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    files.make_directory(tmp_path / "d")
    assert mode(tmp_path / "d") == 0o700


def test_a_write_that_fails_leaves_the_old_content_and_no_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t").write_text("old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FleetError, match=r"Cannot write .*/t: No space left on device") as caught:
        files.write_text(tmp_path / "t", "new", mode=0o644)
    assert caught.value.code == "host_file"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("t", "old")]


def test_the_new_content_is_complete_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t").write_text("old")
    seen = []
    rename = Path.rename

    def watch(self: Path, target: Path) -> Path:
        seen.append((self.read_text(), mode(self), target.read_text()))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watch)
    files.write_text(tmp_path / "t", "new", mode=0o640)
    assert seen == [("new", 0o640, "old")]


def test_the_temporary_file_can_be_in_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hooks.d").mkdir()
    places = []
    rename = Path.rename

    def watch(self: Path, target: Path) -> Path:
        places.append(self.parent)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", watch)
    files.write_text(tmp_path / "hooks.d/t", "x", mode=0o755, scratch=tmp_path)
    assert places == [tmp_path]


def test_a_missing_file_is_none_and_can_be_removed(tmp_path: Path) -> None:
    assert files.read_text(tmp_path / "none") is None
    assert files.read_record(tmp_path / "no/such/directory") is None
    files.remove(tmp_path / "none")


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "not JSON"),
        (b'{"version": 1', "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_record_nobody_can_read_is_named_with_the_next_step(tmp_path: Path, content: bytes, cause: str) -> None:
    (tmp_path / "r.json").write_bytes(content)
    with pytest.raises(FleetError) as caught:
        files.read_record(tmp_path / "r.json")
    assert caught.value.code == "bad_record"
    assert str(tmp_path / "r.json") in caught.value.msg
    assert cause in caught.value.msg
    assert "Restore the file, or remove it" in caught.value.msg


def test_what_cannot_be_read_is_an_error_and_not_missing(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="Cannot read") as caught:
        files.read_record(tmp_path)
    assert caught.value.code == "host_file"


def test_a_module_without_root_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(FleetError, match=r"must run as root; set become: true") as caught:
        files.require_root()
    assert caught.value.code == "not_root"


def hold(directory: Path, ready: Any, done: Any) -> None:
    with files.locked(directory):
        ready.set()
        done.wait(10)


def test_a_lock_is_waited_for_and_the_wait_is_bounded(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready, done))
    other.start()
    try:
        assert ready.wait(10)
        with pytest.raises(FleetError, match="locked by another process") as caught, files.locked(tmp_path, 0.1):
            pass
        assert caught.value.code == "busy"
        done.set()
        with files.locked(tmp_path, 10):
            pass
    finally:
        done.set()
        other.join(10)
