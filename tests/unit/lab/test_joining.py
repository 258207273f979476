# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest that moved between machines has one log again, and nothing that went wrong is hidden by joining."""

from __future__ import annotations

from itertools import pairwise
from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.machine.joining import join
from tests.lab.verdict import read_log

CPU = "cpuid id=705ad538ef16735f vendor=GenuineIntel\r\n"
BOOT = "boot cpus=0-1 id={boot} at={at} flags= fpu vme\r\n"


def boot(name: str = "0000000a", at: int = 100) -> str:
    return BOOT.format(boot=name, at=at)


def ticks(*numbers: int, name: str = "0000000a") -> str:
    return "".join(f"tick {n} up={n}.05 cpus=0-1 id={name}\r\nmemory ok pass={n}\r\n{CPU}" for n in numbers)


WHOLE = boot() + ticks(*range(1, 13))


LATER = boot("0000000b", 200) + ticks(1, name="0000000b")
CORRUPT = "memory corrupt pass=1 words=1 page=2 found_pass=0 found_page=0\n"
OOPS = "[ 9.1] BUG: unable to handle page\r\n"


@pytest.mark.parametrize(
    ("name", "first", "second", "intact"),
    [
        ("stayed", WHOLE, "", True),
        ("moved", boot() + ticks(1, 2, 3), ticks(4, 5), True),
        ("moved and came back", boot() + ticks(1, 2, 6, 7), ticks(3, 4, 5), True),
        ("ran on two hosts", boot() + ticks(1, 2, 3, 4), ticks(3, 4), False),
        ("a tick is nowhere", boot() + ticks(1, 2), ticks(4, 5), False),
        ("went back in time on one host", boot() + ticks(1, 2, 3), ticks(4, 5, 4, 5, 6), False),
        ("went back in time across hosts", boot() + ticks(1, 2, 5), ticks(3, 4, 5), False),
        ("booted on both", boot() + ticks(1, 2), LATER, False),
        ("memory damaged elsewhere", WHOLE, CORRUPT, False),
        ("another CPU elsewhere", boot() + ticks(1, 2), CPU.replace("7", "8") + ticks(3), False),
        ("kernel complained", boot() + ticks(1), OOPS + ticks(2), False),
        ("nothing anywhere", "", "", False),
    ],
)
def test_what_the_joined_log_proves(name: str, first: str, second: str, intact: bool) -> None:
    assert read_log(join({"hv1": first, "hv2": second})).intact is intact, name
    assert read_log(join({"hv1": second, "hv2": first})).intact is intact, name


def test_the_joined_log_is_what_the_guest_wrote() -> None:
    parts = {"hv1": boot() + ticks(1, 2, 6), "hv2": ticks(3, 4, 5)}
    lines = [line for line in join(parts).split("\n") if line]
    assert lines == (boot() + ticks(1, 2, 3, 4, 5, 6)).replace("\r", "").split("\n")[:-1]


def test_boots_are_in_the_order_of_their_clocks_not_of_the_hosts() -> None:
    late = boot("0000000b", 200) + ticks(1, 2, name="0000000b")
    verdict = read_log(join({"hv1": late, "hv2": boot(at=100) + ticks(*range(1, 6))}))
    assert (verdict.boots, verdict.last_tick, verdict.ticks, verdict.gaps, verdict.repeats) == (2, 2, 7, 0, 0)


def test_the_end_of_a_line_is_not_taken_from_another_tick() -> None:
    """Half a tick here and half a tick there are no tick, unless they are the same line's."""
    parts = {"hv1": boot() + ticks(1) + "tick 2 up=2.0", "hv2": "memory ok pass=77\r\n" + ticks(3)}
    assert read_log(join(parts)).gaps == 1


@pytest.mark.parametrize("cut", range(len(ticks(6))))
def test_a_guest_may_move_in_the_middle_of_a_line(cut: int) -> None:
    place = WHOLE.index("tick 6 ") + cut
    joined = read_log(join({"hv1": WHOLE[:place], "hv2": WHOLE[place:]}))
    assert joined.intact
    assert (joined.ticks, joined.memory_ok, joined.cpu_checks) == (12, 12, 12)


ENDS = [place + 1 for place, letter in enumerate(WHOLE) if letter == "\n"]


@given(
    st.integers(len(boot()), len(WHOLE)), st.lists(st.sampled_from(ENDS), max_size=3, unique=True), st.integers(2, 4)
)
def test_a_guest_may_move_often_and_once_in_the_middle_of_a_line(cut: int, more: List[int], hosts: int) -> None:
    places = [0, *sorted({cut, *more}), len(WHOLE)]
    parts = {f"hv{number}": "" for number in range(hosts)}
    for number, (begin, end) in enumerate(pairwise(places)):
        parts[f"hv{number % hosts}"] += WHOLE[begin:end]
    joined = read_log(join(parts))
    assert (joined.ticks, joined.gaps, joined.repeats) == (12, 0, 0), parts


@given(st.sets(st.integers(2, 11), min_size=1, max_size=3), st.integers(2, 11))
def test_a_lost_tick_is_never_hidden(lost: set[int], move: int) -> None:
    parts = {
        "hv1": boot() + ticks(*(n for n in range(1, move) if n not in lost)),
        "hv2": ticks(*(n for n in range(move, 13) if n not in lost)),
    }
    assert read_log(join(parts)).gaps == len(lost)


@given(st.integers(1, 11), st.integers(1, 11))
def test_a_doubled_tick_is_never_hidden(move: int, doubled: int) -> None:
    parts = {"hv1": boot() + ticks(*range(1, move + 1)), "hv2": ticks(*range(move + 1, 13)), "hv3": ticks(doubled)}
    assert read_log(join(parts)).repeats == 1
