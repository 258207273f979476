# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import math

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._migration import (
    POLICIES,
    Course,
    Schedule,
    Step,
    schedule_from,
)
from hypothesis import given
from hypothesis import strategies as st

# Long enough that every round counts.
LONG_S = 60.0


def brief(steps: tuple[Step, ...]) -> list[int | str]:
    return [step.downtime_ms or step.action for step in steps]


def taken(schedule: Schedule, *iterations: int) -> list[list[int | str]]:
    """Return what is due at each reading, one every minute."""
    course = Course(schedule)
    return [brief(course.due(iteration, number * LONG_S)) for number, iteration in enumerate(iterations)]


def test_each_step_is_due_once_when_its_rounds_are_complete() -> None:
    # libvirt's count is 1 in the first round.
    assert taken(schedule_from("minimal_downtime"), 0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 30, 31, 32) == [
        [],
        [],
        [],
        [150],
        [200],
        [300],
        [],
        [400],
        [],
        [500],
        [],
        ["abort"],
        [],
    ]


def test_a_step_after_no_rounds_is_due_when_the_first_begins() -> None:
    assert taken(schedule_from("legacy", [{"after": 0, "action": "pause"}]), 0, 1) == [[], ["pause"]]


def test_of_several_downtimes_that_are_due_only_the_last_matters() -> None:
    assert taken(schedule_from("minimal_downtime"), 1, 5, 40) == [[], [400], [500, "abort"]]


def test_what_follows_a_last_resort_waits_for_the_next_reading() -> None:
    assert taken(schedule_from("post_copy"), 1, 40, 40, 40) == [[], [200, "post_copy"], ["abort"], []]


@pytest.mark.parametrize("before", [1, 7, 1000])
def test_rounds_of_migrations_that_were_cancelled_do_not_count(before: int) -> None:
    assert taken(schedule_from("post_copy"), 0, before, before + 1, before + 2, before + 3) == [
        [],
        [],
        [150],
        [200],
        ["post_copy"],
    ]


def test_a_count_that_starts_anew_is_counted_from_there() -> None:
    assert taken(schedule_from("post_copy"), 40, 0, 1, 2, 3, 4) == [[], [], [], [150], [200], ["post_copy"]]


def test_the_rounds_are_those_after_the_first_one_of_this_migration() -> None:
    # 0 while it is set up, and what is left of a cancelled one before that; the first round is 1, or goes on counting.
    for readings, expected in (((0,), 0), ((0, 1), 0), ((0, 1, 3), 2), ((40, 0, 1, 3), 2), ((0, 7, 9), 2)):
        course = Course(schedule_from("legacy"))
        for number, iteration in enumerate(readings):
            course.due(iteration, number / 10)
        assert course.rounds == expected, readings


def test_one_round_a_second_counts_at_most() -> None:
    # Thirty rounds in two seconds are no reason to give up.
    course = Course(schedule_from("minimal_downtime"))
    assert course.due(1, 5.0) == ()
    assert course.due(15, 5.9) == ()
    assert brief(course.due(31, 7.0)) == [200]
    assert brief(course.due(500, 34.9)) == [500]
    assert course.due(501, 35.8) == ()
    assert brief(course.due(502, 36.0)) == ["abort"]


def test_a_long_round_lends_nothing_to_the_short_ones_after_it() -> None:
    course = Course(schedule_from("minimal_downtime"))
    course.due(1, 0.0)
    assert brief(course.due(2, 28.0)) == [150]
    assert course.due(5, 28.5) == ()
    assert brief(course.due(9, 29.0)) == [200]
    assert brief(course.due(10, 32.0)) == [300]


def test_time_alone_is_no_round() -> None:
    course = Course(schedule_from("minimal_downtime"))
    course.due(1, 0.0)
    assert course.due(1, 3600.0) == ()
    assert brief(course.due(2, 3601.0)) == [150]


def test_nothing_is_due_any_more_once_post_copy_runs() -> None:
    course = Course(schedule_from("post_copy"))
    course.due(1, 0.0)
    assert brief(course.due(4, LONG_S)) == [200, "post_copy"]
    assert course.due(40, 2 * LONG_S, post_copy=True) == ()
    # Whatever a later reading says.
    assert course.due(41, 3 * LONG_S) == ()


def test_a_post_copy_that_was_refused_is_not_tried_again_and_the_next_step_goes_on() -> None:
    assert taken(schedule_from("post_copy"), 1, 4, 5, 30, 31, 32) == [
        [],
        [200, "post_copy"],
        [],
        [],
        ["abort"],
        [],
    ]


def test_a_migration_that_is_tried_again_has_all_steps_before_it() -> None:
    schedule = schedule_from("minimal_downtime")
    assert taken(schedule, 1, 31) == taken(schedule, 31, 61)


def test_a_schedule_without_steps_has_nothing_due() -> None:
    assert taken(schedule_from("legacy"), 0, 1, 1000) == [[], [], []]


readings = st.lists(st.tuples(st.integers(0, 12), st.floats(0, 20)), max_size=40)


@given(st.sampled_from(list(POLICIES)), st.integers(1, 50), readings)
def test_whatever_is_read_each_step_comes_once_in_order_and_never_early(
    policy: str, first: int, growth: list[tuple[int, float]]
) -> None:
    schedule = schedule_from(policy)
    course = Course(schedule)
    iteration, elapsed, seen = first, 0.0, list(course.due(first, 0.0))
    count, begun = 0, (first, 0.0)
    for rounds, seconds in growth:
        iteration, elapsed = iteration + rounds, elapsed + seconds
        due = course.due(iteration, elapsed)
        if iteration > begun[0] and elapsed - begun[1] >= 1:
            count += min(iteration - begun[0], math.floor(elapsed - begun[1]))
            begun = (iteration, elapsed)
        assert [step.action for step in due[:-1]] in ([], ["downtime"])
        assert all(step.after <= count for step in due)
        seen += due
        passed = [step for step in schedule.steps if step.after <= count]
        # What is late are last resorts that waited for a reading; downtimes left out were followed by longer ones.
        assert [step for step in passed if step in seen] == seen
        assert all(step.action == "downtime" or step == passed[-1] for step in passed if step not in seen)
    downtimes = [step.downtime_ms for step in seen if step.downtime_ms]
    reached = [step.downtime_ms for step in schedule.steps if step.downtime_ms and step.after <= count]
    assert downtimes[-1:] == reached[-1:]
