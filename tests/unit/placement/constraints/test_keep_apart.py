# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _placement
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.placement.constraints.moments import crowds
from tests.unit.placement.fleet import ask, codes, drain, fleet, host, steps, vm, where

Case = tuple[dict[str, Any], dict[str, Any]]


def hosts(count: int) -> list[dict[str, Any]]:
    return [host(f"hv{number}") for number in range(1, count + 1)]


def member(name: str, on: str, *groups: str, home: str | None = None, **fields: Any) -> dict[str, Any]:
    return vm(name, on, policy={"keep_apart": list(groups or ("db",)), "home": home}, **fields)


def test_a_vm_goes_to_no_host_that_has_another_of_its_group() -> None:
    vms = [member("a", "hv1"), member("b", "hv2"), member("c", "hv3"), member("other", "hv4", "web")]
    assert where(drain(fleet(hosts(4), vms), "hv1")) == {"a": "hv4"}
    # With other VMs that make room it would be a question of the order of moves.
    answer = drain(fleet(hosts(3), vms[:3]), "hv1", max_extra_moves=0)
    assert codes(answer, "a") == {("hv2", "keep_apart"), ("hv3", "keep_apart")}
    reason = answer["unplaced"][0]["reasons"][0]
    assert (reason["group"], reason["others"]) == ("db", ["uuid-b"])


def test_a_vm_of_several_groups_keeps_away_from_all_of_them() -> None:
    vms = [member("a", "hv1", "db", "web"), member("b", "hv2", "db"), member("c", "hv3", "web", "app")]
    assert where(drain(fleet(hosts(4), vms), "hv1")) == {"a": "hv4"}
    answer = drain(fleet(hosts(3), vms), "hv1", max_extra_moves=0)
    groups = {reason["group"] for reason in answer["unplaced"][0]["reasons"] if reason["code"] == "keep_apart"}
    assert groups == {"db", "web"}


def test_a_stopped_vm_has_no_place_in_its_group() -> None:
    vms = [member("a", "hv1"), member("b", "hv2", state="shutoff")]
    assert where(drain(fleet(hosts(2), vms), "hv1")) == {"a": "hv2"}


@pytest.mark.parametrize("state", ["paused", "crashed"])
def test_a_vm_that_does_not_execute_but_could_has_its_place(state: str) -> None:
    vms = [member("a", "hv1"), member("b", "hv2", state=state)]
    assert ("hv2", "keep_apart") in codes(drain(fleet(hosts(2), vms), "hv1"), "a")


def test_two_members_of_one_drained_host_never_land_together() -> None:
    vms = [member("a", "hv1"), member("b", "hv1")]
    assert sorted(where(drain(fleet(hosts(3), vms), "hv1")).values()) == ["hv2", "hv3"]
    answer = drain(fleet(hosts(2), vms), "hv1", best_effort=True)
    assert (answer["feasible"], len(where(answer)), answer["search"]) == (False, 1, "exhausted")


def test_members_of_several_drained_hosts_never_land_together() -> None:
    vms = [member("a", "hv1"), member("b", "hv2"), member("c", "hv3")]
    assert sorted(where(drain(fleet(hosts(6), vms), "hv1", "hv2", "hv3")).values()) == ["hv4", "hv5", "hv6"]
    assert not drain(fleet(hosts(5), vms), "hv1", "hv2", "hv3")["feasible"]


def test_a_vm_comes_in_a_later_step_than_the_other_of_its_group_leaves() -> None:
    vms = [member("a", "hv1", home="hv2"), member("b", "hv2", home="hv3"), member("c", "hv3", home="hv4")]
    answer = ask(fleet(hosts(4), vms), "refill", hosts=["hv2", "hv3", "hv4"])
    assert [[move["vm"] for move in step] for step in steps(answer)] == [["c"], ["b"], ["a"]]


def test_vms_of_different_groups_do_not_wait_for_each_other() -> None:
    vms = [member("a", "hv1", "db", home="hv2"), member("b", "hv2", "web", home="hv1")]
    assert len(steps(ask(fleet(hosts(2), vms), "refill", hosts=["hv1", "hv2"]))) == 1


def test_two_of_a_group_change_places_over_a_third_host_or_not_at_all() -> None:
    vms = [member("a", "hv1", home="hv2"), member("b", "hv2", home="hv1")]
    moves = [move for step in steps(ask(fleet(hosts(3), vms), "refill", hosts=["hv1", "hv2"])) for move in step]
    assert [move["purpose"] for move in moves] == ["detour", "asked", "asked"]
    alone = ask(fleet(hosts(2), vms), "refill", hosts=["hv1", "hv2"])
    assert (alone["feasible"], steps(alone)) == (False, [])
    taken = ask(fleet(hosts(3), [*vms, member("c", "hv3")]), "refill", hosts=["hv1", "hv2"])
    assert (taken["feasible"], steps(taken)) == (False, [])


def test_another_of_the_group_makes_room_where_that_helps() -> None:
    vms = [member("a", "hv1"), member("b", "hv2")]
    small = [host("hv1", 8), host("hv2", 8), host("hv3", 1)]
    answer = drain(fleet(small, [{**vms[0], "memory_kib": 2 << 20}, vms[1]]), "hv1")
    assert [[(move["vm"], move["destination"]) for move in step] for step in steps(answer)] == [
        [("b", "hv3")],
        [("a", "hv2")],
    ]


def test_a_group_that_is_together_already_is_left_alone_but_gets_no_third_member() -> None:
    there = [member("a", "hv2"), member("b", "hv2")]
    answer = drain(fleet(hosts(3), [*there, vm("other", "hv1"), member("c", "hv1")]), "hv1")
    assert where(answer)["c"] == "hv3"
    assert set(where(answer)) == {"other", "c"}
    refused = drain(fleet(hosts(2), [*there, member("c", "hv1")]), "hv1")
    assert ("hv2", "keep_apart") in codes(refused, "c")


def test_a_group_that_is_together_already_comes_apart_when_its_host_is_drained() -> None:
    vms = [member("a", "hv1"), member("b", "hv1"), member("c", "hv1")]
    assert len(set(where(drain(fleet(hosts(4), vms), "hv1")).values())) == 3


@st.composite
def fleets(draw: st.DrawFn, gib: st.SearchStrategy[float | None]) -> Case:
    """Fleets in which groups matter, and a question about them."""
    names = [f"hv{number}" for number in range(1, draw(st.integers(2, 4)) + 1)]
    vms = []
    for number in range(draw(st.integers(1, 4))):
        groups = draw(st.lists(st.sampled_from(["db", "web"]), max_size=2, unique=True))
        policy = {
            "keep_apart": groups,
            "home": draw(st.sampled_from(names)),
            "hosts": draw(st.one_of(st.just([]), st.lists(st.sampled_from(names), unique=True, max_size=2))),
        }
        state = draw(st.sampled_from(["running"] * 5 + ["shutoff"]))
        vms.append(vm(f"vm{number}", draw(st.sampled_from(names)), policy=policy, state=state))
    some = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    request: dict[str, Any] = {"question": draw(st.sampled_from(["drain", "refill", "place"]))}
    if request["question"] == "place":
        request["vms"] = [item["name"] for item in vms[:2]]
    else:
        request["hosts"] = some
    request["options"] = {"best_effort": draw(st.booleans())} if request["question"] == "drain" else {}
    return fleet([host(name, draw(gib)) for name in names], vms), request


def groups_of(snapshot: dict[str, Any]) -> dict[str, set[str]]:
    return {item["name"]: set(item["policy"]["keep_apart"]) for item in snapshot["vms"]}


@given(fleets(st.sampled_from([1, 2, 3, None])))
@settings(max_examples=200)
def test_at_no_moment_has_a_vm_come_to_another_of_its_group(case: Case) -> None:
    snapshot, request = case
    groups = groups_of(snapshot)
    answer = _placement.plan(request, snapshot)
    for before, after in itertools.pairwise(crowds(snapshot, answer)):
        for name, there in after.items():
            come = there - before[name]
            for one, other in itertools.product(come, there):
                assert one == other or not groups[one] & groups[other], (name, one, other)


def finds_a_way(snapshot: dict[str, Any], request: dict[str, Any]) -> bool:
    """Whether single moves, one after the other, empty the hosts; every VM may move as often as it likes."""
    groups, emptied = groups_of(snapshot), set(request["hosts"])
    running = [item for item in snapshot["vms"] if item["state"] == "running"]
    allowed = [set(item["policy"]["hosts"]) for item in running]
    targets = [item["name"] for item in snapshot["hosts"] if item["name"] not in emptied]
    names = [item["name"] for item in running]
    start = tuple(item["host"] for item in running)
    seen, waiting = {start}, [start]
    while waiting:
        at = waiting.pop()
        if not emptied & set(at):
            return True
        for index, name in itertools.product(range(len(at)), targets):
            others = [names[other] for other, place in enumerate(at) if place == name and other != index]
            clash = any(groups[names[index]] & groups[other] for other in others)
            after = (*at[:index], name, *at[index + 1 :])
            if not clash and after not in seen and (not allowed[index] or name in allowed[index]):
                seen.add(after)
                waiting.append(after)
    return False


@given(fleets(st.none()))
@settings(max_examples=200)
def test_a_drain_is_found_exactly_where_trying_everything_finds_one(case: Case) -> None:
    snapshot, request = case
    if request["question"] != "drain":
        request = {"question": "drain", "hosts": ["hv1"]}
    answer = _placement.plan(request, snapshot)
    assert answer["feasible"] == finds_a_way(snapshot, request)
    assert answer["search"] == ("found" if answer["feasible"] else "exhausted")
