# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold for every fleet, tried on small random ones."""

from __future__ import annotations

import itertools
from typing import Any

from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _placement
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.placement.fleet import fleet, host, steps, vm

Loads = dict[str, int]

SMALL = st.integers(min_value=1, max_value=6)


@st.composite
def fleets(draw: st.DrawFn, most_vms: int = 5) -> dict[str, Any]:
    count = draw(st.integers(min_value=2, max_value=4))
    names = [f"hv{number}" for number in range(1, count + 1)]
    vms = []
    loads = dict.fromkeys(names, 0)
    for number in range(draw(st.integers(min_value=1, max_value=most_vms))):
        on, size = draw(st.sampled_from(names)), draw(SMALL)
        allowed = draw(st.lists(st.sampled_from(names), max_size=3, unique=True))
        loads[on] += size
        policy = {"hosts": allowed, "home": draw(st.sampled_from([None, *names]))}
        vms.append(vm(f"vm{number}", on, memory_kib=size, policy=policy))
    hosts = [
        host(
            name,
            memory_kib=loads[name] + draw(st.integers(min_value=-2, max_value=6)) if loads[name] > 2 else 6,
            maintenance=draw(st.integers(0, 9)) == 0,
        )
        for name in names
    ]
    return fleet(hosts, vms)


@st.composite
def questions(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    snapshot = draw(fleets())
    names = [item["name"] for item in snapshot["hosts"]]
    some = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    question = draw(st.sampled_from(["drain", "refill", "place"]))
    if question == "place":
        vms = [item["name"] for item in snapshot["vms"]]
        return snapshot, {"question": question, "vms": draw(st.lists(st.sampled_from(vms), min_size=1, unique=True))}
    return snapshot, {"question": question, "hosts": some, "options": {"best_effort": draw(st.booleans())}}


def sizes(snapshot: dict[str, Any]) -> dict[str, int]:
    return {item["name"]: item["memory_kib"] for item in snapshot["vms"]}


def used(snapshot: dict[str, Any]) -> Loads:
    loads = {item["name"]: 0 for item in snapshot["hosts"]}
    for item in snapshot["vms"]:
        loads[item["host"]] += item["memory_kib"]
    return loads


def forbidden(snapshot: dict[str, Any], request: dict[str, Any], item: dict[str, Any], target: str) -> bool:
    """Whether the rules forbid a destination, worked out without the planner."""
    fields = {one["name"]: one for one in snapshot["hosts"]}[target]
    allowed = item["policy"]["hosts"]
    if target == item["host"] or fields.get("maintenance") or (allowed and target not in allowed):
        return True
    if request["question"] == "refill":
        return bool(item["policy"]["home"] != target)
    return request["question"] == "drain" and target in request["hosts"]


def moving(snapshot: dict[str, Any], request: dict[str, Any]) -> list[dict[str, Any]]:
    vms = snapshot["vms"]
    if request["question"] == "place":
        return [item for item in vms if item["name"] in request["vms"]]
    if request["question"] == "drain":
        return [item for item in vms if item["host"] in request["hosts"]]
    return [
        item for item in vms if item["policy"]["home"] in request["hosts"] and item["policy"]["home"] != item["host"]
    ]


@given(questions())
@settings(max_examples=200, deadline=None)
def test_every_state_in_every_order_within_a_step_stays_within_capacity(case: tuple[dict[str, Any], Any]) -> None:
    snapshot, request = case
    limit = {item["name"]: item["memory_kib"] for item in snapshot["hosts"]}
    loads, size = used(snapshot), sizes(snapshot)
    for step in steps(_placement.plan(request, snapshot)):
        # The worst moment of a step: everything has started and nothing has ended.
        for move in step:
            loads[move["destination"]] += size[move["vm"]]
        for move in step:
            assert loads[move["destination"]] <= limit[move["destination"]]
        for move in step:
            loads[move["source"]] -= size[move["vm"]]


@given(questions())
@settings(max_examples=200, deadline=None)
def test_no_vm_goes_to_a_forbidden_host_and_every_vm_is_answered_for_once(case: tuple[dict[str, Any], Any]) -> None:
    snapshot, request = case
    answer = _placement.plan(request, snapshot)
    moved = [move for step in steps(answer) for move in step]
    vms = {item["name"]: item for item in snapshot["vms"]}
    assert not [move for move in moved if forbidden(snapshot, request, vms[move["vm"]], move["destination"])]
    wanted = {item["name"] for item in moving(snapshot, request)}
    unplaced = [item["vm"] for item in answer["unplaced"]]
    assert len(moved) == len({move["vm"] for move in moved})
    assert not {move["vm"] for move in moved} & set(unplaced)
    if answer["waves"] or request["question"] != "drain":
        assert {move["vm"] for move in moved} | set(unplaced) == wanted
    assert answer["feasible"] == (unplaced == [])
    assert all(item["reasons"] for item in answer["unplaced"] if len(snapshot["hosts"]) > 1)


def reachable(snapshot: dict[str, Any], request: dict[str, Any]) -> bool:
    """Whether some assignment has some order of moves one after the other, by trying all."""
    vms = moving(snapshot, request)
    names = [item["name"] for item in snapshot["hosts"]]
    choices = [[name for name in names if not forbidden(snapshot, request, item, name)] for item in vms]
    return any(has_order(snapshot, vms, targets) for targets in itertools.product(*choices))


def has_order(snapshot: dict[str, Any], vms: list[dict[str, Any]], targets: tuple[str, ...]) -> bool:
    limit = {item["name"]: item["memory_kib"] for item in snapshot["hosts"]}
    for order in itertools.permutations(range(len(vms))):
        loads = used(snapshot)
        for index in order:
            loads[targets[index]] += vms[index]["memory_kib"]
            if loads[targets[index]] > limit[targets[index]]:
                break
            loads[vms[index]["host"]] -= vms[index]["memory_kib"]
        else:
            return True
    return False


@given(questions())
@settings(max_examples=200, deadline=None)
def test_a_plan_is_found_exactly_where_brute_force_finds_one(case: tuple[dict[str, Any], Any]) -> None:
    snapshot, request = case
    answer = _placement.plan(request, snapshot)
    assert answer["feasible"] == reachable(snapshot, request)
    assert answer["search"] == ("found" if answer["feasible"] else "exhausted")


@given(questions())
@settings(max_examples=100, deadline=None)
def test_the_same_input_in_any_order_gives_the_same_answer(case: tuple[dict[str, Any], Any]) -> None:
    snapshot, request = case
    turned = {**snapshot, "hosts": snapshot["hosts"][::-1], "vms": snapshot["vms"][::-1]}
    assert _placement.plan(request, snapshot) == _placement.plan(request, turned)


@given(questions())
@settings(max_examples=100, deadline=None)
def test_more_effort_never_loses_a_plan(case: tuple[dict[str, Any], Any]) -> None:
    snapshot, request = case
    little = {**request, "options": {**request.get("options", {}), "node_limit": 3}}
    if _placement.plan(little, snapshot)["feasible"]:
        assert _placement.plan(request, snapshot)["feasible"]
