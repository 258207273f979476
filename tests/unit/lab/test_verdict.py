# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a serial log proves."""

from __future__ import annotations

import pytest

from tests.lab.verdict import Verdict, read_log


def log(*ticks: int, boots: int = 1, more: str = "memory ok pass=0\n") -> str:
    head = "boot cpus=0 flags=fpu\n" * boots
    return head + "".join(f"tick {n} up={n}.00 cpus=0-1\n" for n in ticks) + more


@pytest.mark.parametrize(
    ("name", "text", "intact"),
    [
        ("ran on", log(1, 2, 3), True),
        ("nothing", "", False),
        ("a tick is lost", log(1, 2, 4), False),
        ("two copies wrote", log(1, 2, 2, 3), False),
        ("rebooted", log(1, 2) + log(1, 2), False),
        ("memory never checked", log(1, 2, more=""), False),
        ("memory damaged", log(1, more="memory ok pass=0\nmemory corrupt pass=1 words=3 page=7\n"), False),
        ("kernel oops", log(1) + "[   3.1] BUG: unable to handle page fault\n", False),
        ("a line is still being written", log(1, 2) + "tick 9", True),
    ],
)
def test_intact(name: str, text: str, intact: bool) -> None:
    assert read_log(text).intact is intact, name


def test_counts() -> None:
    verdict = read_log(log(1, 2, 5, 5) + log(1))
    expected = Verdict(
        boots=2, ticks=5, last_tick=1, gaps=2, repeats=1, memory_ok=2, uptime_s=1.0, longest_pause_s=3.0, cpus="0-1"
    )
    assert verdict == expected
