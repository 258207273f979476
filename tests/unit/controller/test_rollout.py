# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which hosts of a maintenance come next, and what a failure means for the rest."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.virtops.kvm_fleet.plugins.filter.rollout import rollout_failure, rollout_next, rollout_rows
from hypothesis import given
from hypothesis import strategies as st

OUTCOMES = ("", "completed", "completed before", "failed", "skipped")


def host(name: str, outcome: str = "", pool: str = "", entered: bool = False) -> dict[str, Any]:
    return {"host": name, "outcome": outcome, "pool": pool, "entered": entered}


@pytest.mark.parametrize(
    ("states", "lost", "max_fail", "hosts", "question", "stopped"),
    [
        ([], [], 0, [], "rollout", []),
        ([host("a")], [], 0, ["a"], "drain", []),
        ([host("a"), host("b")], [], 0, ["a", "b"], "rollout", []),
        # What is done, and what is left out, is not done again.
        (
            [host("a", "completed"), host("b", "completed before"), host("c", "skipped"), host("d")],
            [],
            0,
            ["d"],
            "drain",
            [],
        ),
        # Hosts in maintenance first, all at once.
        ([host("a"), host("b", entered=True), host("c", entered=True)], [], 0, ["b", "c"], "drain", []),
        ([host("a", "completed", entered=True), host("b")], [], 0, ["b"], "drain", []),
        # A failed host stops its pool, and no other.
        ([host("a", "failed", "p"), host("b", pool="p"), host("c", pool="q")], [], 0, ["c"], "drain", ["p"]),
        ([host("a", "failed", "p"), host("b", pool="p"), host("c", pool="q")], [], 1, ["b", "c"], "rollout", []),
        ([host("a", "failed"), host("b", "failed"), host("c")], [], 1, [], "rollout", [""]),
        # So does one that is lost, unless it was through.
        ([host("a", pool="p"), host("b", pool="p")], ["a"], 0, [], "rollout", ["p"]),
        ([host("a", pool="p"), host("b", pool="p")], ["a"], 1, ["b"], "drain", []),
        ([host("a", "completed", "p"), host("b", pool="p")], ["a"], 0, ["b"], "drain", []),
        # A failed host that is lost counts once.
        ([host("a", "failed", "p"), host("b", pool="p")], ["a"], 1, ["b"], "drain", []),
    ],
)
def test_hosts_that_come_next(
    states: list[dict[str, Any]], lost: list[str], max_fail: int, hosts: list[str], question: str, stopped: list[str]
) -> None:
    assert rollout_next(states, lost, max_fail) == {"hosts": hosts, "question": question, "stopped_pools": stopped}


@pytest.mark.parametrize(
    ("phase", "broken", "lost", "replans", "failed", "stop", "again"),
    [
        ("hold", ["c"], [], 1, [], True, False),
        ("plan", ["a"], [], 1, [], True, False),
        # A destination may have died: plan anew while that is allowed.
        ("drain", ["a"], [], 1, [], False, True),
        ("drain", [], ["z"], 1, [], False, True),
        ("drain", ["a"], [], 0, ["a"], False, False),
        # A host of the wave that is gone cannot be drained by another plan.
        ("drain", ["a"], ["b"], 1, ["b"], False, True),
        # It failed at a host that was to make room: nobody of the wave is drained.
        ("drain", ["z"], [], 0, ["a", "b"], False, False),
        ("reconfigure", ["b"], [], 1, ["b"], False, False),
        ("reconfigure", [], ["a"], 1, ["a"], False, False),
        # Their maintenance is complete by then; the VMs run on elsewhere.
        ("refill", ["a"], [], 1, [], False, True),
        ("refill", ["a"], [], 0, [], False, False),
    ],
)
def test_what_a_failure_means(
    phase: str, broken: list[str], lost: list[str], replans: int, failed: list[str], stop: bool, again: bool
) -> None:
    found = rollout_failure(["a", "b"], phase, broken, lost, replans)
    assert found == {"failed": failed, "stop": stop, "again": again}


@given(
    st.lists(st.tuples(st.sampled_from("pq"), st.booleans(), st.booleans()), min_size=1, max_size=6),
    st.data(),
    st.integers(0, 2),
    st.integers(0, 2),
)
def test_every_course_comes_to_an_end(
    fleet: list[tuple[str, bool, bool]], data: st.DataObject, max_fail: int, replans: int
) -> None:
    states = [host(f"h{number}", "", pool, entered) for number, (pool, entered, _gone) in enumerate(fleet)]
    lost = [state["host"] for state, (_pool, _entered, gone) in zip(states, fleet, strict=True) if gone]
    waves, bound = 0, len(fleet) + replans
    while wave := rollout_next(states, lost, max_fail)["hosts"]:
        waves += 1
        assert waves <= bound
        phase = data.draw(st.sampled_from(["none", "drain", "reconfigure"]))
        failed: list[str] = []
        if phase != "none":
            broken = data.draw(st.lists(st.sampled_from([*wave, "elsewhere"]), max_size=3))
            found = rollout_failure(wave, phase, broken, [], replans)
            failed, again = found["failed"], found["again"]
            replans -= again
            if again:
                continue
        for state in states:
            if state["host"] in wave and (phase == "none" or state["host"] in failed):
                state["outcome"] = "failed" if state["host"] in failed else "completed"
    for state in states:
        failures = [other for other in states if other["pool"] == state["pool"] and is_failure(other, lost)]
        assert state["outcome"] or state["host"] in lost or len(failures) > max_fail


def is_failure(state: dict[str, Any], lost: list[str]) -> bool:
    return state["outcome"] == "failed" or (state["host"] in lost and not state["outcome"].startswith("completed"))


def test_rows_tell_what_became_of_each_host() -> None:
    states = [host("a", "completed", "p") | {"wave": 2}, host("b"), host("c"), host("d", "failed")]
    assert rollout_rows(states, ["c", "d"]) == [
        {"host": "a", "pool": "p", "outcome": "completed", "wave": 2},
        {"host": "b", "pool": None, "outcome": "not done", "wave": None},
        {"host": "c", "pool": None, "outcome": "unreachable", "wave": None},
        {"host": "d", "pool": None, "outcome": "failed", "wave": None},
    ]


@pytest.mark.parametrize(
    "call",
    [
        lambda: rollout_next([{}]),
        lambda: rollout_next(7),
        lambda: rollout_failure(["a"], "x"),
        lambda: rollout_rows([{}]),
    ],
)
def test_wrong_input_is_one_error_that_names_the_filter(call: Any) -> None:
    with pytest.raises(AnsibleFilterError, match=r"rollout_.* needs"):
        call()
