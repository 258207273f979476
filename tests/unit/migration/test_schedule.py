# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._migration import (
    ACTIONS,
    POLICIES,
    Schedule,
    Step,
    schedule_from,
)
from hypothesis import given
from hypothesis import strategies as st

Json = dict[str, Any]

# What the policies do, as (after, downtime in ms or action).
EXPECTED = {
    "minimal_downtime": [(1, 150), (2, 200), (3, 300), (4, 400), (6, 500), (30, "abort")],
    "post_copy": [(1, 150), (2, 200), (3, "post_copy"), (30, "abort")],
    "suspend": [(1, 150), (2, 200), (3, 300), (4, 400), (6, 500), (8, 5000), (12, "pause")],
    "legacy": [],
}


def brief(schedule: Schedule) -> list[tuple[int, int | str]]:
    return [(step.after, step.downtime_ms or step.action) for step in schedule.steps]


def down(after: int, downtime_ms: int) -> Json:
    return {"after": after, "action": None, "downtime_ms": downtime_ms}


def act(after: int, action: str) -> Json:
    return {"after": after, "action": action, "downtime_ms": None}


def refusal(*steps: Json) -> str:
    with pytest.raises(FleetError) as failure:
        schedule_from("legacy", steps)
    assert failure.value.code == "bad_input"
    return failure.value.msg


@pytest.mark.parametrize("policy", EXPECTED)
def test_a_policy_is_a_schedule(policy: str) -> None:
    schedule = schedule_from(policy)
    assert brief(schedule) == EXPECTED[policy]
    assert schedule.name == policy


def test_every_policy_is_known() -> None:
    assert list(POLICIES) == list(EXPECTED)


def test_all_policies_but_legacy_begin_with_a_downtime_of_their_own() -> None:
    downtimes = {name: schedule_from(name).initial_downtime_ms for name in POLICIES}
    assert downtimes == {"minimal_downtime": 100, "post_copy": 100, "suspend": 100, "legacy": None}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("given", "expected"), [(None, True), (True, True), (False, False)])
def test_auto_converge_is_on_unless_the_user_turns_it_off(policy: str, given: bool | None, expected: bool) -> None:
    assert schedule_from(policy, auto_converge=given).auto_converge is expected


def test_only_a_schedule_with_the_step_uses_post_copy() -> None:
    assert [name for name in POLICIES if schedule_from(name).uses_post_copy] == ["post_copy"]
    assert schedule_from("legacy", [act(2, "post_copy")]).uses_post_copy


@pytest.mark.parametrize(
    ("policy", "final", "last_resort"),
    [
        ("minimal_downtime", 500, "abort"),
        ("post_copy", 200, "post_copy"),
        ("suspend", 5000, "pause"),
        ("legacy", None, None),
    ],
)
def test_a_schedule_knows_its_last_downtime_and_its_last_resort(
    policy: str, final: int | None, last_resort: str | None
) -> None:
    schedule = schedule_from(policy)
    assert schedule.final_downtime_ms == final
    assert (schedule.last_resort.action if schedule.last_resort else None) == last_resort


def test_without_a_step_that_sets_it_the_initial_downtime_is_the_last() -> None:
    assert schedule_from("suspend", [act(2, "pause")]).final_downtime_ms == 100


def test_own_steps_replace_those_of_the_policy_and_leave_its_initial_downtime() -> None:
    own = schedule_from("post_copy", [down(1, 250), {"after": 4, "action": "pause"}, act(9, "abort")])
    assert brief(own) == [(1, 250), (4, "pause"), (9, "abort")]
    assert (own.name, own.initial_downtime_ms, own.auto_converge) == ("own", 100, True)
    assert own.steps[0] == Step(1, "downtime", 250)


def test_no_own_steps_leave_those_of_the_policy() -> None:
    assert schedule_from("suspend", []) == POLICIES["suspend"]


def test_the_first_own_step_may_be_shorter_than_the_initial_downtime() -> None:
    assert brief(schedule_from("suspend", [down(0, 50), down(1, 100)])) == [(0, 50), (1, 100)]


@pytest.mark.parametrize(
    ("policy", "cap", "initial", "steps"),
    [
        ("minimal_downtime", 250, 100, [(1, 150), (2, 200), (3, 250), (30, "abort")]),
        ("minimal_downtime", 100, 100, [(30, "abort")]),
        ("minimal_downtime", 50, 50, [(30, "abort")]),
        ("minimal_downtime", 9000, 100, EXPECTED["minimal_downtime"]),
        ("post_copy", 180, 100, [(1, 150), (2, 180), (3, "post_copy"), (30, "abort")]),
        ("suspend", 500, 100, [(1, 150), (2, 200), (3, 300), (4, 400), (6, 500), (12, "pause")]),
        ("legacy", 800, 800, []),
        ("legacy", 20, 20, []),
    ],
)
def test_no_downtime_exceeds_the_cap_and_what_it_makes_equal_drops_out(
    policy: str, cap: int, initial: int, steps: list[tuple[int, int | str]]
) -> None:
    schedule = schedule_from(policy, max_downtime_ms=cap)
    assert (schedule.initial_downtime_ms, brief(schedule)) == (initial, steps)


@pytest.mark.parametrize(
    ("steps", "cap", "initial", "expected"),
    [
        # QEMU's default of 300 ms is below the cap, so it stays until the first step.
        ([down(2, 400), down(3, 900)], 600, None, [(2, 400), (3, 600)]),
        ([down(2, 400), down(3, 900)], 300, None, [(2, 300)]),
        # It is above the cap.
        ([down(2, 400), down(3, 900)], 200, 200, []),
        ([down(2, 150), down(3, 900)], 200, 200, [(2, 150), (3, 200)]),
        ([act(2, "pause")], 600, 600, [(2, "pause")]),
    ],
)
def test_where_nothing_is_set_at_first_the_cap_holds_for_the_default_of_qemu(
    steps: list[Json], cap: int, initial: int | None, expected: list[tuple[int, int | str]]
) -> None:
    schedule = schedule_from("legacy", steps, max_downtime_ms=cap)
    assert (schedule.initial_downtime_ms, brief(schedule)) == (initial, expected)


def test_an_unknown_policy_is_refused_with_those_there_are() -> None:
    with pytest.raises(FleetError, match=r"'fast' is unknown.*minimal_downtime, post_copy, suspend, legacy") as failure:
        schedule_from("fast")
    assert failure.value.code == "bad_input"


@pytest.mark.parametrize("cap", [0, -1, 2_000_001])
def test_a_cap_that_qemu_does_not_take_is_refused(cap: int) -> None:
    with pytest.raises(FleetError, match=rf"max_downtime_ms must be from 1 to 2000000, not {cap}\.") as failure:
        schedule_from("legacy", max_downtime_ms=cap)
    assert failure.value.code == "bad_input"


def test_the_limits_of_qemu_are_taken() -> None:
    assert brief(schedule_from("legacy", [down(0, 1), down(1, 2_000_000)])) == [(0, 1), (1, 2_000_000)]
    assert schedule_from("legacy", max_downtime_ms=1).initial_downtime_ms == 1


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([down(-1, 100)], "[0]: after must be a number of rounds, 0 or more, not -1."),
        ([{"action": "abort"}], "[0]: after must be a number of rounds, 0 or more, not None."),
        ([{"after": 1}], "[0]: it does nothing."),
        ([act(1, "resume")], "[0]: the action 'resume' is unknown. Use one of: downtime, post_copy, pause, abort."),
        ([act(1, "downtime")], "[0]: the action downtime needs a downtime_ms."),
        ([{"after": 1, "action": "pause", "downtime_ms": 5}], "[0]: downtime_ms means nothing to the action pause."),
        ([down(1, 0)], "[0]: downtime_ms must be from 1 to 2000000, not 0."),
        ([down(1, 2_000_001)], "[0]: downtime_ms must be from 1 to 2000000, not 2000001."),
        ([down(1, 100), down(1, 200)], "[1]: after is 1, not more than the 1 of the step before."),
        ([down(1, 100), down(5, 200), act(3, "abort")], "[2]: after is 3, not more than the 5 of the step before."),
        ([down(1, 200), down(2, 100)], "[1]: downtime_ms is 100, not more than the 200 of the step before."),
        ([down(1, 200), down(2, 200)], "[1]: downtime_ms is 200, not more than the 200 of the step before."),
        ([act(1, "abort"), act(2, "abort")], "[1]: nothing is left to do after the action abort."),
        ([act(1, "abort"), down(2, 100)], "[1]: nothing is left to do after the action abort."),
        ([down(1, 9), act(2, "post_copy"), down(3, 100)], "[2]: only abort makes sense after the action post_copy"),
        ([act(1, "post_copy"), act(3, "pause")], "[1]: only abort makes sense after the action post_copy, not pause."),
        ([act(1, "post_copy"), act(3, "post_copy")], "[1]: only abort makes sense after the action post_copy"),
        ([act(1, "pause"), down(3, 100)], "[1]: only abort makes sense after the action pause, not downtime."),
        ([act(1, "pause"), act(3, "post_copy")], "[1]: only abort makes sense after the action pause"),
    ],
)
def test_a_step_that_makes_no_sense_is_refused_by_its_index(steps: list[Json], problem: str) -> None:
    assert refusal(*steps).startswith(f"convergence_steps{problem}")


entries = st.fixed_dictionaries(
    {},
    optional={
        "after": st.one_of(st.none(), st.integers(-1, 6)),
        "action": st.one_of(st.none(), st.sampled_from([*ACTIONS, "resume"])),
        "downtime_ms": st.one_of(st.none(), st.integers(0, 900)),
    },
)


@given(st.lists(entries, max_size=3), st.sampled_from(list(POLICIES)), st.one_of(st.none(), st.integers(1, 1000)))
def test_whatever_is_given_there_is_a_schedule_that_can_be_carried_out_or_a_refusal(
    steps: list[Json], policy: str, cap: int | None
) -> None:
    refused = ""
    try:
        check(schedule_from(policy, steps, cap), cap)
    except FleetError as error:
        refused = f"{error.code} {error.msg}"
    assert refused == "" or refused.startswith("bad_input convergence_steps[")


@st.composite
def growing(draw: st.DrawFn) -> list[Json]:
    """Steps as they should be."""
    afters = sorted(draw(st.sets(st.integers(0, 40), max_size=8)))
    downtimes = sorted(draw(st.sets(st.integers(1, 3000), min_size=len(afters), max_size=len(afters))))
    steps = [down(after, downtime) for after, downtime in zip(afters, downtimes, strict=True)]
    ends = draw(st.sampled_from([[], ["abort"], ["pause"], ["post_copy"], ["post_copy", "abort"], ["pause", "abort"]]))
    return [*steps, *(act(50 + number, action) for number, action in enumerate(ends))]


@given(growing(), st.sampled_from(list(POLICIES)), st.one_of(st.none(), st.integers(1, 4000)))
def test_growing_steps_are_taken_and_only_repeats_drop_out(steps: list[Json], policy: str, cap: int | None) -> None:
    schedule = schedule_from(policy, steps, cap)
    check(schedule, cap)
    wanted = steps or [vars(step) for step in POLICIES[policy].steps]
    # At every moment the downtime is the one asked for, or the cap.
    for rounds in range(60):
        given_ms = [step["downtime_ms"] for step in wanted if step["downtime_ms"] and step["after"] <= rounds]
        now_ms = [step.downtime_ms for step in schedule.steps if step.downtime_ms and step.after <= rounds]
        expected = min(given_ms[-1], cap or given_ms[-1]) if given_ms else schedule.initial_downtime_ms
        assert (now_ms[-1] if now_ms else schedule.initial_downtime_ms) == expected
    others = [(step["after"], step["action"]) for step in wanted if not step["downtime_ms"]]
    assert [(step.after, step.action) for step in schedule.steps if not step.downtime_ms] == others


def check(schedule: Schedule, cap: int | None) -> None:
    """Check what holds for every schedule."""
    afters = [step.after for step in schedule.steps]
    downtimes = [step.downtime_ms for step in schedule.steps if step.action == "downtime"]
    all_ms = [each for each in (schedule.initial_downtime_ms, *downtimes) if each is not None]
    assert afters == sorted(set(afters))
    assert downtimes == sorted(set(downtimes))
    assert downtimes[:1] != [schedule.initial_downtime_ms]
    assert all(each <= (cap or each) for each in all_ms)
    assert all((step.action == "downtime") == (step.downtime_ms is not None) for step in schedule.steps)
    ends = [step.action for step in schedule.steps if step.action != "downtime"]
    assert len(ends) < 2 or (len(ends) == 2 and ends[1] == "abort")
    assert [step.action for step in schedule.steps][len(downtimes) :] == ends
