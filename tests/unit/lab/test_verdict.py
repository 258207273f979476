# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a log proves."""

from __future__ import annotations

import pytest

from tests.lab.verdict import Verdict, read_log


def cpu(number: int = 1) -> str:
    return f"cpuid id={number:016x} vendor=AuthenticAMD\n"


MEMORY = "memory ok pass=0\n"


def log(*ticks: int, boots: int = 1, more: str = MEMORY + cpu()) -> str:
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
        ("memory never checked", log(1, 2, more=cpu()), False),
        ("memory damaged", log(1) + "memory corrupt pass=1 words=3 page=7\n", False),
        ("CPU never checked", log(1, 2, more=MEMORY), False),
        ("CPU is the same again and again", log(1) + cpu() * 3, True),
        ("CPU changed", log(1) + cpu(2), False),
        ("CPU changed and changed back", log(1) + cpu(2) + cpu(), False),
        ("half a line about the CPU", log(1) + "cpuid id=00000000\n" + cpu(), True),
        ("kernel oops", log(1) + "[   3.1] BUG: unable to handle page fault\n", False),
        ("kernel that crashed while it booted, and booted again", "[    2.6] Oops: int3: 0000\n" + log(1, 2), True),
        ("a line is still being written", log(1, 2) + "tick 9", True),
    ],
)
def test_intact(name: str, text: str, intact: bool) -> None:
    assert read_log(text).intact is intact, name


def test_counts() -> None:
    verdict = read_log(log(1, 2, 5, 5) + log(1))
    expected = Verdict(
        boots=2,
        ticks=5,
        last_tick=1,
        gaps=2,
        repeats=1,
        memory_ok=2,
        cpu_checks=2,
        uptime_s=1.0,
        longest_pause_s=3.0,
        cpus="0-1",
        cpu_id="0000000000000001",
        cpu_vendor="AuthenticAMD",
    )
    assert verdict == expected


def test_what_a_kernel_complained_of_first_is_quoted() -> None:
    lines = [f"[ {number}.0] BUG: number {number}" for number in range(6)]
    verdict = read_log(log(1) + "\n".join(lines) + "\n")
    assert (verdict.oopses, verdict.trouble) == (6, tuple(lines[:4]))


def test_a_guest_may_have_another_cpu_after_a_reboot() -> None:
    verdict = read_log(log(1, more=MEMORY + cpu(1)) + log(1, more=MEMORY + cpu(2)))
    assert (verdict.cpu_changes, verdict.cpu_id) == (0, cpu(2)[9:25])


def test_every_check_after_a_change_counts() -> None:
    assert read_log(log(1) + cpu(2) + cpu(2) + cpu(1)).cpu_changes == 2
