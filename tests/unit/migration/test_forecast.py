# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._migration import (
    POLICIES,
    Forecast,
    Schedule,
    forecast_move,
    schedule_from,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.estimate import move_seconds
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.model import Host, Vm
from hypothesis import given
from hypothesis import strategies as st

GIB = 1024 * 1024
MINIMAL = schedule_from("minimal_downtime")


def forecast(
    memory_kib: int, dirty_mib_s: float | None, speed_mib_s: float | None, schedule: Schedule = MINIMAL
) -> Forecast:
    return forecast_move("db1", memory_kib, schedule, dirty_mib_s, speed_mib_s)


@pytest.mark.parametrize(
    ("memory_kib", "dirty", "speed", "expected"),
    [
        # All of it once, and nothing is left.
        (4 * GIB, 0.0, 128.0, Forecast(32.0, 1, True)),
        # 4096, 1024, 256 MiB sent; 64 MiB fit into 500 ms at 128 MiB/s.
        (4 * GIB, 32.0, 128.0, Forecast(42.5, 3, True)),
        # The same with ten times both: only the shares and the speed matter.
        (40 * GIB, 320.0, 1280.0, Forecast(42.5, 3, True)),
        # It fits as a whole, so it does not matter how fast it writes.
        (40 * 1024, 1000.0, 100.0, Forecast(0.8, 1, True)),
        (0, 10.0, 100.0, Forecast(0.0, 1, True)),
    ],
)
def test_each_round_sends_what_was_written_in_the_one_before(
    memory_kib: int, dirty: float, speed: float, expected: Forecast
) -> None:
    assert forecast(memory_kib, dirty, speed) == expected


@pytest.mark.parametrize(("downtime_ms", "rounds"), [(60, 5), (300, 4), (600, 3), (5000, 2), (9000, 1)])
def test_a_longer_downtime_ends_it_after_fewer_rounds(downtime_ms: int, rounds: int) -> None:
    schedule = schedule_from("legacy", max_downtime_ms=downtime_ms)
    assert forecast(4 * GIB, 32.0, 128.0, schedule).rounds == rounds


def test_the_default_of_qemu_holds_where_the_schedule_sets_no_downtime() -> None:
    assert forecast(4 * GIB, 50.0, 128.0, schedule_from("legacy")) == forecast(
        4 * GIB, 50.0, 128.0, schedule_from("legacy", max_downtime_ms=300)
    )


@pytest.mark.parametrize(
    ("dirty", "speed", "seconds"), [(None, None, None), (40.0, None, None), (40.0, 0.0, None), (None, 128.0, 32.0)]
)
def test_what_is_not_known_is_not_guessed(dirty: float | None, speed: float | None, seconds: float | None) -> None:
    assert forecast(4 * GIB, dirty, speed) == Forecast(seconds, None, None, None)


@pytest.mark.parametrize(
    ("schedule", "then"),
    [
        (
            schedule_from("minimal_downtime"),
            "it is slowed down (auto-converge), and if that is not enough its migration is cancelled after 30 rounds",
        ),
        (
            schedule_from("post_copy"),
            "it is slowed down (auto-converge), and if that is not enough it runs on at its destination after 3 rounds "
            "while its memory follows (post-copy)",
        ),
        (
            schedule_from("suspend", auto_converge=False),
            "it is paused after 12 rounds until its memory is sent",
        ),
        (
            schedule_from("legacy", auto_converge=False),
            "its migration is cancelled when wait_timeout expires",
        ),
        (
            schedule_from("legacy", [{"after": 1, "action": "pause"}], auto_converge=False),
            "it is paused after 1 round until its memory is sent",
        ),
        (
            schedule_from("legacy", [{"after": 0, "action": "pause"}], auto_converge=False),
            "it is paused at once until its memory is sent",
        ),
    ],
)
def test_a_vm_that_writes_too_fast_is_named_with_what_will_be_done(schedule: Schedule, then: str) -> None:
    assert forecast(4 * GIB, 300.0, 110.0, schedule) == Forecast(
        None,
        None,
        False,
        "VM db1 writes 300 MiB/s, more than the 110 MiB/s at which its memory can be sent, "
        f"so it will not converge by itself; {then}.",
    )


@pytest.mark.parametrize(
    ("dirty", "words"),
    [
        (110.0, "writes 110 MiB/s, as much as the 110 MiB/s"),
        # Rounded they are the same.
        (110.04, "writes 110 MiB/s, as much as the 110 MiB/s"),
        (110.16, "writes 110.2 MiB/s, more than the 110 MiB/s"),
    ],
)
def test_rates_are_compared_as_they_are_shown(dirty: float, words: str) -> None:
    assert words in (forecast(4 * GIB, dirty, 110.0).warning or "")


def test_a_vm_that_needs_more_rounds_than_the_schedule_has_is_named_too() -> None:
    without = schedule_from("minimal_downtime", auto_converge=False)
    assert forecast(64 * GIB, 95.0, 100.0, without) == Forecast(
        13097.7,
        140,
        False,
        "VM db1 writes 95 MiB/s and its memory can be sent at 100 MiB/s, so it would take 140 rounds and 13098 seconds "
        "to converge by itself; its migration is cancelled after 30 rounds.",
    )


def test_without_a_last_resort_it_may_take_its_time() -> None:
    assert forecast(64 * GIB, 95.0, 100.0, schedule_from("legacy")).converges is True


@pytest.mark.parametrize(("abort", "converges"), [(10, False), (11, True), (15, True)])
def test_one_round_a_second_counts_at_most(abort: int, converges: bool) -> None:
    # 21 rounds in 12 seconds, the first of which took less than one.
    steps = [{"after": 1, "downtime_ms": 500}, {"after": abort, "action": "abort"}]
    quick = forecast(6 * GIB, 9900.0, 10000.0, schedule_from("legacy", steps))
    assert (quick.rounds, quick.seconds, quick.converges) == (21, 12.2, converges)


def test_what_is_done_at_once_leaves_no_time_to_converge() -> None:
    at_once = schedule_from("legacy", [{"after": 0, "action": "pause"}])
    assert forecast(1024, 1.0, 1000.0, at_once).converges is False


def simulated(memory_mib: float, dirty: float, speed: float, room_mib: float) -> tuple[float, int]:
    """Return seconds and rounds, round by round."""
    left, seconds, rounds = memory_mib, 0.0, 0
    while rounds == 0 or left > room_mib:
        took = left / speed
        seconds, rounds, left = seconds + took, rounds + 1, min(memory_mib, took * dirty)
    return seconds + left / speed, rounds


@given(
    st.sampled_from(list(POLICIES)),
    st.integers(1, 4096 * GIB),
    st.floats(0, 0.99),
    st.floats(1, 20000),
)
def test_it_is_what_a_simulation_round_by_round_gives(policy: str, memory_kib: int, share: float, speed: float) -> None:
    schedule = schedule_from(policy)
    room_mib = (schedule.final_downtime_ms or 300) / 1000 * speed
    got = forecast(memory_kib, share * speed, speed, schedule)
    # A rest that fits by a hair may fall either way.
    near = [simulated(memory_kib / 1024, share * speed, speed, room_mib * part) for part in (1 - 1e-9, 1, 1 + 1e-9)]
    assert got.rounds in [rounds for _seconds, rounds in near]
    assert got.seconds == pytest.approx(near[1][0], rel=1e-3, abs=0.1)


@given(
    st.sampled_from(list(POLICIES)),
    st.integers(0, 4096 * GIB),
    st.floats(0, 30000),
    st.floats(1, 20000),
    st.booleans(),
)
def test_there_is_a_warning_exactly_if_it_does_not_converge(
    policy: str, memory_kib: int, dirty: float, speed: float, slow: bool
) -> None:
    got = forecast(memory_kib, dirty, speed, schedule_from(policy, auto_converge=slow))
    assert got.converges is not None
    assert (got.warning is None) is got.converges
    assert ("slowed down" in (got.warning or "")) is (slow and not got.converges)
    assert (got.seconds is None) is (got.rounds is None)


@given(st.integers(1, 4096 * GIB), st.floats(0, 0.9), st.floats(1, 20000))
def test_the_estimate_of_the_planner_is_the_same_series_without_an_end(
    memory_kib: int, share: float, speed: float
) -> None:
    vm = Vm("u", "db1", "hv1", "running", memory_kib=memory_kib, dirty_mib_s=share * speed)
    hosts = [Host("hv1", link_mib_s=speed), Host("hv2", link_mib_s=speed)]
    expected = move_seconds(vm, *hosts)
    got = forecast(memory_kib, share * speed, speed).seconds
    assert got is not None
    # What is left out is less than the last downtime as often as it is written again.
    assert expected - 0.5 / (1 - share) - 0.2 <= got <= expected + 0.2
