# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.placement.fleet import ask, codes, drain, fleet, host, vm, where
from tests.unit.placement.referee import judge
from tests.unit.placement.test_rollout import down, moved, rollout, uniform
from tests.unit.placement.tied import machine, tied

Json = dict[str, Any]

PINNED = {"policy": {"migration": "pinned"}}
BLOCKED = {"blockers": ["cannot migrate a domain with <hostdev mode='subsystem' type='pci'>"]}


def pinned(name: str, on: str, gib: float = 1, **policy: Any) -> Json:
    return vm(name, on, gib, policy={"migration": "pinned", **policy})


def asleep(answer: Json) -> list[list[tuple[str, str]]]:
    """Return VM and host of those that are shut down in each wave."""
    return [[(item["vm"], item["host"]) for item in wave["shutdowns"]] for wave in answer["waves"]]


def checked(snapshot: Json, question: str, **request: Any) -> Json:
    answer = ask(snapshot, question, **request)
    assert judge(snapshot, {"question": question, **request}, answer).violations == ()
    return answer


TWO = [host("hv1"), host("hv2")]


@pytest.mark.parametrize("why", [PINNED, BLOCKED], ids=["pinned", "blockers"])
@pytest.mark.parametrize(
    ("option", "feasible", "waves", "skipped"),
    [
        (None, False, [], []),
        ("fail", False, [], []),
        ("shutdown", True, [["hv1"]], []),
        ("skip", True, [], ["hv1"]),
    ],
)
def test_what_becomes_of_a_vm_that_cannot_move_is_for_the_request_to_say(
    why: Json, option: str | None, feasible: bool, waves: list[list[str]], skipped: list[str]
) -> None:
    options = {} if option is None else {"pinned": option}
    snapshot = fleet(TWO, [vm("db", "hv1", **why), vm("web", "hv1")])
    answer = checked(snapshot, "drain", hosts=["hv1"], options=options)
    assert (answer["feasible"], down(answer), [item["host"] for item in answer["skipped"]]) == (
        feasible,
        waves,
        skipped,
    )
    assert where(answer) == ({"web": "hv2"} if option == "shutdown" else {})
    assert asleep(answer) == ([[("db", "hv1")]] if option == "shutdown" else [])


def test_a_vm_that_is_shut_down_is_named_with_its_host_priority_and_reasons() -> None:
    snapshot = fleet(TWO, [pinned("db", "hv1", priority=3)])
    (wave,) = drain(snapshot, "hv1", pinned="shutdown")["waves"]
    text = "the policy of db is migration: pinned. Shut it down, or change its policy."
    reason = {"host": None, "code": "migration_pinned", "text": text}
    assert wave["shutdowns"] == [
        {"vm": "db", "uuid": "uuid-db", "host": "hv1", "priority": 3, "reasons": [reason]},
    ]


def test_vms_are_listed_in_the_order_in_which_they_start_again() -> None:
    hosts = [*TWO, host("hv3")]
    vms = [pinned("a", "hv1"), pinned("z", "hv2", priority=5), pinned("b", "hv1", priority=-1), pinned("m", "hv1")]
    answer = checked(fleet(hosts, vms), "drain", hosts=["hv1", "hv2"], options={"pinned": "shutdown"})
    assert asleep(answer) == [[("z", "hv2"), ("a", "hv1"), ("m", "hv1"), ("b", "hv1")]]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"state": "paused"}, "migration_pinned"),
        ({"state": "pmsuspended"}, "migration_pinned"),
        ({"state": "crashed"}, "state"),
        ({"job": "migration_out"}, "in_transit"),
    ],
)
def test_a_vm_that_could_not_react_or_has_another_obstacle_is_not_shut_down(fields: Json, code: str) -> None:
    answer = drain(fleet(TWO, [vm("db", "hv1", **PINNED, **fields)]), "hv1", pinned="shutdown")
    assert not answer["feasible"]
    assert (None, code) in codes(answer, "db")


def test_a_vm_that_moves_by_hand_only_is_neither_shut_down_nor_skipped() -> None:
    snapshot = fleet(TWO, [vm("db", "hv1", policy={"migration": "manual"})])
    for option in ("shutdown", "skip"):
        answer = drain(snapshot, "hv1", pinned=option, move_manual=False)
        assert (answer["feasible"], answer["skipped"]) == (False, [])
        assert (None, "migration_manual") in codes(answer, "db")


def test_stopped_vms_are_none_of_it() -> None:
    snapshot = fleet(TWO, [vm("db", "hv1", state="shutoff", **PINNED)])
    for option in ("shutdown", "skip"):
        answer = checked(snapshot, "drain", hosts=["hv1"], options={"pinned": option})
        assert (down(answer), asleep(answer), answer["skipped"]) == ([["hv1"]], [[]], [])


def test_nothing_is_shut_down_on_a_host_that_cannot_be_emptied_all_the_same() -> None:
    vms = [pinned("db", "hv1"), vm("big", "hv1", 99), pinned("other", "hv2"), vm("web", "hv2")]
    answer = checked(
        fleet([*TWO, host("hv3")], vms),
        "drain",
        hosts=["hv1", "hv2"],
        options={"pinned": "shutdown", "best_effort": True},
    )
    assert (down(answer), asleep(answer)) == ([["hv2"]], [[("other", "hv2")]])
    assert [item["vm"] for item in answer["unplaced"]] == ["big"]


def test_the_questions_that_take_no_host_out_of_service_do_not_mind() -> None:
    snapshot = fleet(TWO, [pinned("db", "hv1", home="hv2"), vm("web", "hv1", policy={"home": "hv2"})])
    for option in ("shutdown", "skip"):
        answer = checked(snapshot, "refill", hosts=["hv2"], options={"pinned": option})
        assert (where(answer), answer["skipped"], asleep(answer)) == ({"web": "hv2"}, [], [[]])
        assert [item["vm"] for item in answer["unplaced"]] == ["db"]


def test_a_skipped_host_is_a_destination_like_others() -> None:
    hosts = [host("hv1"), host("hv2"), host("hv3", 0.5)]
    vms = [vm("web", "hv1"), pinned("db", "hv2")]
    answer = checked(fleet(hosts, vms), "drain", hosts=["hv1", "hv2"], options={"pinned": "skip"})
    assert (down(answer), where(answer)) == ([["hv1"]], {"web": "hv2"})
    text = "the policy of db is migration: pinned. Shut it down, or change its policy."
    reason = {"host": None, "code": "migration_pinned", "text": text}
    assert answer["skipped"] == [{"host": "hv2", "vms": [{"vm": "db", "uuid": "uuid-db", "reasons": [reason]}]}]


@pytest.mark.parametrize("question", ["drain", "rollout"])
def test_where_all_hosts_are_skipped_there_is_nothing_to_do(question: str) -> None:
    snapshot = fleet(TWO, [pinned("db", "hv1"), pinned("web", "hv2")])
    answer = checked(snapshot, question, hosts=["hv1", "hv2"], options={"pinned": "skip"})
    assert (answer["feasible"], answer["search"], answer["waves"]) == (True, "found", [])
    assert [item["host"] for item in answer["skipped"]] == ["hv1", "hv2"]
    assert (answer["bounds"], answer["gap"]) == (
        {"moves": 0, "waves": 0, "seconds": 0.0},
        {"moves": 0, "waves": 0, "seconds": 0.0},
    )


def half_pinned(count: int) -> Json:
    """Give hosts of 4 GiB with 3 GiB that stay where they are and 1 GiB that moves on each."""
    snapshot = uniform(count, 1)
    staying = [pinned(f"{item['name']}-db", item["name"], 3) for item in snapshot["hosts"]]
    return {**snapshot, "vms": [*snapshot["vms"], *staying]}


@pytest.mark.parametrize("refill", ["none", "leapfrog", "home"])
def test_a_vm_that_is_shut_down_takes_its_room_when_its_host_is_back(refill: str) -> None:
    # The spare host has room for what moves of one host; what starts again on the first leaves none there but that.
    spare = host("spare", 1, link_mib_s=1024)
    snapshot = half_pinned(3)
    snapshot = {**snapshot, "hosts": [*snapshot["hosts"], spare]}
    answer = rollout(snapshot, "hv1", "hv2", "hv3", refill=refill, options={"pinned": "shutdown"})
    assert down(answer) == [["hv1"], ["hv2"], ["hv3"]]
    assert asleep(answer) == [[("hv1-db", "hv1")], [("hv2-db", "hv2")], [("hv3-db", "hv3")]]
    assert (answer["feasible"], answer["gap"]["waves"], answer["gap"]["moves"]) == (True, 0, 0)


@pytest.mark.parametrize("refill", ["none", "leapfrog", "home"])
def test_waves_are_as_large_as_what_has_to_move_lets(refill: str) -> None:
    # Half of each host is shut down with it; of four hosts with a quarter to move, two others take that of two.
    snapshot = uniform(4, 1)
    staying = [pinned(f"{item['name']}-db", item["name"], 2) for item in snapshot["hosts"]]
    snapshot = {**snapshot, "vms": [*snapshot["vms"], *staying]}
    answer = rollout(snapshot, refill=refill, options={"pinned": "shutdown"})
    assert ([len(hosts) for hosts in down(answer)], answer["bounds"]["waves"]) == ([2, 2], 2)


def test_a_host_that_is_not_serviced_after_all_has_no_room_where_its_vms_run_on() -> None:
    hosts = [host(f"hv{n}", 4) for n in range(1, 4)]
    stays = vm("stays", "hv3", 0, policy={"hosts": ["hv3"]})
    snapshot = fleet(hosts, [vm("a", "hv1"), vm("b", "hv2"), pinned("db", "hv3", 4), stays])
    answer = rollout(snapshot, refill="none", options={"pinned": "shutdown"})
    assert (sorted(down(answer)), [item["vm"] for item in answer["unplaced"]]) == ([["hv1"], ["hv2"]], ["stays"])
    assert (answer["totals"]["moves"], answer["bounds"]["moves"], asleep(answer)) == (3, 3, [[], []])


def test_hosts_of_which_everything_is_shut_down_are_serviced_at_once() -> None:
    snapshot = fleet([host(f"hv{n}", 4) for n in range(1, 4)], [pinned(f"db{n}", f"hv{n}", 4) for n in range(1, 4)])
    answer = rollout(snapshot, options={"pinned": "shutdown"})
    assert (down(answer), moved(answer)) == ([["hv1", "hv2", "hv3"]], [[]])
    assert (answer["bounds"]["waves"], answer["bounds"]["moves"]) == (1, 0)
    assert asleep(answer) == [[("db1", "hv1"), ("db2", "hv2"), ("db3", "hv3")]]


def test_vms_that_are_kept_apart_and_shut_down_need_no_other_host() -> None:
    apart = {"keep_apart": ["db"]}
    hosts = [host(f"hv{n}", 4) for n in range(1, 4)]
    snapshot = fleet(hosts, [pinned(f"db{n}", f"hv{n}", **apart) for n in range(1, 4)])
    assert down(rollout(snapshot, options={"pinned": "shutdown"})) == [["hv1", "hv2", "hv3"]]


def test_names_groups_and_cpus_of_a_vm_that_is_shut_down_stay_taken() -> None:
    hosts = [machine(f"hv{n}", "0-3", reserved={"cpus": "0"}) for n in (1, 2, 3)]
    still = tied("db", "hv1", "1 2 3", policy_fields={"migration": "pinned", "keep_apart": ["a"]})
    vms = [still, tied("web", "hv2", "1"), vm("app", "hv2", policy={"keep_apart": ["a"]}), vm("db", "hv2", uuid="2")]
    question = {"hosts": ["hv1", "hv2"], "refill": "none", "options": {"pinned": "shutdown"}}
    answer = checked(fleet(hosts, vms), "rollout", **question)
    assert asleep(answer)[0] == [("db", "hv1")]
    ends = {move["destination"] for wave in answer["waves"] for step in wave["steps"] for move in step["moves"]}
    assert (answer["feasible"], ends) == (True, {"hv3"})


def test_what_is_kept_together_with_a_vm_that_is_shut_down_does_not_leave_it() -> None:
    together = {"keep_together": ["shop"]}
    vms = [pinned("db", "hv1", **together), vm("web", "hv1", policy=together)]
    answer = checked(fleet(TWO, vms), "drain", hosts=["hv1"], options={"pinned": "shutdown"})
    assert (answer["feasible"], answer["waves"]) == (False, [])
    assert (None, "keep_together") in codes(answer, "web")
    both = [vms[0], pinned("web", "hv1", **together)]
    answer = checked(fleet(TWO, both), "drain", hosts=["hv1"], options={"pinned": "shutdown"})
    assert asleep(answer) == [[("db", "hv1"), ("web", "hv1")]]


def test_pools_side_by_side_list_their_shutdowns_in_one_order() -> None:
    hosts = [host("hv1", pool="a"), host("hv2", pool="b")]
    vms = [pinned("z", "hv1", priority=1), pinned("a", "hv2"), pinned("b", "hv1")]
    answer = rollout(fleet(hosts, vms), options={"pinned": "shutdown"})
    assert asleep(answer) == [[("z", "hv1"), ("a", "hv2"), ("b", "hv1")]]


def test_a_pool_of_which_hosts_are_skipped_is_planned_as_if_they_had_not_been_asked_for() -> None:
    snapshot = uniform(4, 2)
    more = {**snapshot, "vms": [*snapshot["vms"], pinned("db", "hv4", 0)]}
    left = rollout(more, "hv1", "hv2", "hv3", "hv4", options={"pinned": "skip"})
    assert [item["host"] for item in left["skipped"]] == ["hv4"]
    assert {**left, "skipped": []} == rollout(more, "hv1", "hv2", "hv3")
