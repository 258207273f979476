# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.command import NOT_FOUND, Ran
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.paths import HostPaths
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.vcpu_hooks import run_hooks

ARGUMENTS = ["web1", "uuid", "live", "2", "4"]


class Commands:
    """Notes what is run and answers with one end for all."""

    def __init__(self, answer: Ran) -> None:
        self.answer = answer
        self.ran: list[list[str]] = []

    def __call__(self, argv: Sequence[str]) -> Ran:
        self.ran.append(list(argv))
        return self.answer


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostPaths:
    """A host whose files are root's, whoever runs the test."""
    found = HostPaths(tmp_path)
    found.vcpu_hooks("before").mkdir(parents=True, mode=0o755)
    own = os.getuid()
    real = Path.stat

    def stat(path: Path, **more: bool) -> os.stat_result:
        info = real(path, **more)
        return os.stat_result([*info[:4], 0 if info.st_uid == own else 1, *info[5:10]])

    monkeypatch.setattr(Path, "stat", stat)
    return found


def put(paths: HostPaths, name: str, mode: int = 0o755) -> Path:
    path = paths.vcpu_hooks("before") / name
    path.write_text("#!/bin/sh\n")
    path.chmod(mode)
    return path


def test_executables_run_in_the_order_of_their_names_with_what_they_are_told(paths: HostPaths) -> None:
    second, first = put(paths, "20-second"), put(paths, "10-first")
    put(paths, "README", 0o644)
    commands = Commands(Ran(0))
    run_hooks(commands, "before", ARGUMENTS, paths)
    assert commands.ran == [["timeout", "60", str(path), *ARGUMENTS] for path in (first, second)]


def test_a_host_without_hooks_runs_none(paths: HostPaths) -> None:
    commands = Commands(Ran(1))
    run_hooks(commands, "after", ARGUMENTS, paths)
    run_hooks(commands, "before", ARGUMENTS, paths)
    assert commands.ran == []


@pytest.mark.parametrize(
    ("ran", "words"),
    [
        (Ran(3, "", "no\nlicence left\n"), "ended with 3: no / licence left"),
        (Ran(1), "ended with 1: it said nothing"),
        (Ran(124), "did not end within 60 seconds"),
        (Ran(NOT_FOUND), "no program timeout"),
    ],
)
def test_the_first_that_fails_ends_it_with_its_words(paths: HostPaths, ran: Ran, words: str) -> None:
    first = put(paths, "1")
    put(paths, "2")
    commands = Commands(ran)
    with pytest.raises(FleetError, match=words) as failure:
        run_hooks(commands, "before", ARGUMENTS, paths)
    assert (failure.value.code, failure.value.facts["hook"]) == ("hook_failed", str(first))
    assert len(commands.ran) == 1


@pytest.mark.parametrize("place", ["hook", "directory"])
def test_what_others_may_write_is_not_run(paths: HostPaths, place: str) -> None:
    path = put(paths, "1", 0o775 if place == "hook" else 0o755)
    if place == "directory":
        paths.vcpu_hooks("before").chmod(0o777)
    commands = Commands(Ran(0))
    with pytest.raises(FleetError) as failure:
        run_hooks(commands, "before", ARGUMENTS, paths)
    assert (failure.value.code, failure.value.facts["hook"]) == ("hook_unsafe", str(path))
    assert commands.ran == []
