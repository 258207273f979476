# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.placement.constraints.moments import final
from tests.unit.placement.fleet import ask, codes, drain, fleet, host, steps, vm, where


def member(name: str, on: str, *groups: str, gib: float = 1, apart: str = "", **fields: Any) -> dict[str, Any]:
    policy = {
        "keep_together": list(groups or ("app",)),
        "keep_apart": [apart] if apart else [],
        **fields.pop("policy", {}),
    }
    return vm(name, on, gib, policy=policy, **fields)


def hosts(*sizes: float) -> list[dict[str, Any]]:
    return [host(f"hv{number}", gib) for number, gib in enumerate(sizes, start=1)]


def test_a_group_goes_to_one_host_as_a_whole() -> None:
    vms = [member("a", "hv1", gib=4), member("b", "hv1", gib=4)]
    assert where(drain(fleet(hosts(8, 7, 7, 8), vms), "hv1")) == {"a": "hv4", "b": "hv4"}
    # Alone each of them would fit.
    assert not drain(fleet(hosts(8, 7, 7), vms), "hv1")["feasible"]
    assert drain(fleet(hosts(8, 7, 7), [vm("a", "hv1", 4), vm("b", "hv1", 4)]), "hv1")["feasible"]


def test_a_group_of_several_drained_hosts_goes_to_one_host() -> None:
    vms = [member("a", "hv1"), member("b", "hv2"), *(vm(f"old{number}", "hv3") for number in range(3))]
    answer = drain(fleet(hosts(16, 16, 16, 16), vms), "hv1", "hv2")
    assert len(set(where(answer).values())) == 1


def test_a_vm_joins_the_one_host_where_the_rest_of_its_group_is() -> None:
    vms = [member("a", "hv1"), member("b", "hv3")]
    assert where(drain(fleet(hosts(16, 64, 4, 64), vms), "hv1")) == {"a": "hv3"}


def test_a_vm_that_cannot_join_its_group_stays_and_says_so() -> None:
    there = [*hosts(16, 16), host("hv3", networks=[])]
    vms = [member("a", "hv1", networks=["br0"]), member("b", "hv3")]
    answer = drain(fleet(there, vms), "hv1")
    assert codes(answer, "a") == {(None, "keep_together"), ("hv3", "networks")}
    reason = answer["unplaced"][0]["reasons"][0]
    assert (reason["group"], reason["vms"]) == ("app", ["a"])
    assert "hv3" in reason["text"]


def test_where_the_rest_of_its_group_is_full_a_vm_stays() -> None:
    vms = [member("a", "hv1", gib=4), member("b", "hv2", gib=4)]
    answer = drain(fleet(hosts(16, 7, 16), vms), "hv1", max_extra_moves=0, best_effort=True)
    assert (answer["feasible"], where(answer)) == (False, {})
    assert ("hv2", "memory") in codes(answer, "a")


def test_others_make_room_for_a_vm_that_joins_its_group() -> None:
    vms = [member("a", "hv1", gib=4), member("b", "hv2", gib=4), vm("old", "hv2", 4)]
    assert where(drain(fleet(hosts(16, 8, 16), vms), "hv1")) == {"a": "hv2", "old": "hv3"}


def test_a_group_that_is_split_already_is_kept_together_no_more() -> None:
    vms = [member("a", "hv1", gib=4), member("b", "hv1", gib=4), member("c", "hv2", gib=5), member("d", "hv3", gib=5)]
    answer = drain(fleet(hosts(8, 9, 9), vms), "hv1")
    assert sorted(where(answer).values()) == ["hv2", "hv3"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"blockers": ["cannot migrate domain with 1 snapshots"]}, (None, "blockers")),
        ({"policy": {"migration": "pinned"}}, (None, "migration_pinned")),
        ({"state": "crashed"}, (None, "state")),
        ({"gib": 17}, ("hv2", "memory")),
        ({"policy": {"hosts": ["hv1"]}}, ("hv2", "allowed_hosts")),
    ],
)
def test_where_one_cannot_move_the_others_of_its_group_stay_too(
    fields: dict[str, Any], code: tuple[str | None, str]
) -> None:
    vms = [member("a", "hv1", **fields), member("b", "hv1"), member("c", "hv1"), vm("other", "hv1")]
    answer = drain(fleet(hosts(32, 16), vms), "hv1", best_effort=True)
    assert where(answer) == {"other": "hv2"}
    assert codes(answer, "a") == {code}
    assert codes(answer, "b") == codes(answer, "c") == {(None, "keep_together")}
    assert answer["unplaced"][1]["reasons"][0]["vms"] == ["b", "c"]


def test_a_stopped_vm_holds_nobody() -> None:
    vms = [member("a", "hv1"), member("b", "hv3", state="shutoff"), member("c", "hv1", state="shutoff")]
    assert where(drain(fleet(hosts(16, 64, 16), vms), "hv1")) == {"a": "hv2"}


def test_vms_that_share_a_member_are_one_group() -> None:
    vms = [member("a", "hv1", "x"), member("b", "hv1", "x", "y"), member("c", "hv1", "y"), member("d", "hv1", "z")]
    assert where(drain(fleet(hosts(16, 2, 3), vms), "hv1")) == {"a": "hv3", "b": "hv3", "c": "hv3", "d": "hv2"}


def test_a_group_goes_only_where_all_of_it_may_be() -> None:
    vms = [member("a", "hv1", policy={"hosts": ["hv2", "hv3"]}), member("b", "hv1", policy={"hosts": ["hv3", "hv4"]})]
    assert set(where(drain(fleet(hosts(16, 64, 16, 64), vms), "hv1")).values()) == {"hv3"}


def test_vms_that_are_to_be_together_and_apart_stay() -> None:
    vms = [member("a", "hv1", apart="db"), member("b", "hv1", apart="db")]
    answer = drain(fleet(hosts(16, 16), vms), "hv1")
    assert codes(answer, "a") == codes(answer, "b") == {(None, "keep_together")}


def test_whoever_keeps_one_of_a_group_away_keeps_all_of_it_away() -> None:
    vms = [member("a", "hv1", apart="db"), member("b", "hv1"), vm("old", "hv2", policy={"keep_apart": ["db"]})]
    assert set(where(drain(fleet(hosts(16, 64, 16), vms), "hv1")).values()) == {"hv3"}


def test_a_vm_that_is_placed_leaves_nobody_of_its_group_behind() -> None:
    snapshot = fleet(hosts(16, 16), [member("a", "hv1"), member("b", "hv1")])
    assert codes(ask(snapshot, "place", vms=["a"]), "a") == {(None, "keep_together")}
    answer = ask(snapshot, "place", vms=["a", "b"])
    assert where(answer) == {"a": "hv2", "b": "hv2"}
    assert [item["destinations"] for item in answer["candidates"]] == [["hv2"], ["hv2"]]


def test_a_group_comes_home_together_where_it_has_one_home_only() -> None:
    home = {"policy": {"home": "hv2"}}
    vms = [member("a", "hv1", **home), member("b", "hv1", **home)]
    assert where(ask(fleet(hosts(16, 2), vms), "refill", hosts=["hv2"])) == {"a": "hv2", "b": "hv2"}
    assert steps(ask(fleet(hosts(16, 1), vms), "refill", hosts=["hv2"])) == []
    astray = [vms[0], member("b", "hv1")]
    assert codes(ask(fleet(hosts(16, 2), astray), "refill", hosts=["hv2"]), "a") == {(None, "keep_together")}


def test_a_group_that_stays_apart_loosens_no_other() -> None:
    groups = {"vm1": ["x", "y"], "vm2": ["x", "y"], "vm3": ["x"]}
    places = {"vm1": "hv2", "vm2": "hv3", "vm3": "hv1"}
    vms = [vm(name, places[name], 1, policy={"keep_together": groups[name]}) for name in groups]
    assert where(drain(fleet(hosts(3, 3, 3), vms), "hv3", max_extra_moves=0)) == {"vm2": "hv2"}
    assert where(drain(fleet(hosts(3, 1, 3), vms), "hv3", max_extra_moves=0)) == {}


Case = tuple[dict[str, Any], list[str]]


@st.composite
def fleets(draw: st.DrawFn) -> Case:
    count = draw(st.integers(2, 4))
    names = [f"hv{number}" for number in range(1, count + 1)]
    vms = []
    for number in range(draw(st.integers(1, 5))):
        groups = draw(st.lists(st.sampled_from("xy"), max_size=2, unique=True))
        state = draw(st.sampled_from(["running"] * 8 + ["shutoff"]))
        allowed = draw(st.one_of(st.just([]), st.just([]), st.lists(st.sampled_from(names), unique=True)))
        on, gib = draw(st.sampled_from(names)), draw(st.integers(1, 3))
        vms.append(vm(f"vm{number}", on, gib, policy={"keep_together": groups, "hosts": allowed}, state=state))
    sizes = [draw(st.integers(3, 9)) for _name in names]
    drained = draw(st.lists(st.sampled_from(names), min_size=1, max_size=count - 1, unique=True))
    return fleet(hosts(*sizes), vms), drained


def companies(snapshot: dict[str, Any], drained: Sequence[str] = ()) -> list[list[dict[str, Any]]]:
    """Return the running VMs that are linked by groups, directly or over others.

    A group that stays apart on hosts that are not drained links nobody.
    """
    running = [item for item in snapshot["vms"] if item["state"] == "running"]
    places: dict[str, set[str]] = {"x": set(), "y": set()}
    for item in running:
        for group in item["policy"]["keep_together"] if item["host"] not in drained else ():
            places[group].add(item["host"])
    apart = {group for group, found_on in places.items() if drained and len(found_on) > 1}
    found: list[tuple[set[str], list[dict[str, Any]]]] = []
    for item in running:
        groups, members = set(item["policy"]["keep_together"]) - apart, [item]
        for linked in [each for each in found if each[0] & groups]:
            found.remove(linked)
            groups |= linked[0]
            members += linked[1]
        found.append((groups, members))
    return [members for _groups, members in found]


@given(fleets(), st.booleans(), st.sampled_from([None, 0]))
@settings(max_examples=100)
def test_whoever_moves_ends_where_all_of_the_group_is_unless_those_that_stay_are_apart(
    case: Case, best_effort: bool, extra: int | None
) -> None:
    snapshot, drained = case
    answer = drain(snapshot, *drained, best_effort=best_effort, max_extra_moves=extra)
    after, moved = final(snapshot, answer), where(answer)
    for members in companies(snapshot):
        staying = {item["host"] for item in members if item["name"] not in moved}
        if len(staying) < 2 and any(item["name"] in moved for item in members):
            assert len({after[item["name"]] for item in members}) == 1


def ways(snapshot: dict[str, Any], drained: list[str]) -> Iterator[dict[str, str]]:
    """Yield how the VMs of drained hosts could go to others, if nothing else moves."""
    free = {item["name"]: item["memory_kib"] for item in snapshot["hosts"]}
    parts: list[tuple[list[dict[str, Any]], set[str]]] = []
    for members in companies(snapshot, drained):
        staying = {item["host"] for item in members} - set(drained)
        asked = [item for item in members if item["host"] in drained]
        for item in members:
            free[item["host"]] -= item["memory_kib"]
        for part in [asked] if len(staying) < 2 else [[item] for item in asked]:
            wanted = staying if len(staying) == 1 else set(free)
            allowed = [set(item["policy"]["hosts"] or free) for item in part]
            if part:
                parts.append((part, wanted.intersection(*allowed) - set(drained)))
    for ends in itertools.product(*(targets for _part, targets in parts)):
        found = {item["name"]: end for (part, _targets), end in zip(parts, ends, strict=True) for item in part}
        need = Counter[str]()
        for item in snapshot["vms"]:
            need[found.get(item["name"], "")] += item["memory_kib"]
        if all(need[name] <= max(0, free[name]) for name in free):
            yield found


@given(fleets())
@settings(max_examples=100)
def test_where_nothing_else_may_move_a_drain_is_found_exactly_if_there_is_one(case: Case) -> None:
    snapshot, drained = case
    answer = drain(snapshot, *drained, max_extra_moves=0)
    possible = list(ways(snapshot, drained))
    assert answer["feasible"] == bool(possible)
    assert not answer["feasible"] or where(answer) in possible


def test_a_vm_does_not_make_room_where_one_of_its_group_stays() -> None:
    group = {"keep_together": ["app"]}
    hosts = [host("hv1", 8), host("hv2", 9), host("hv3", 9)]
    vms = [
        vm("mover", "hv1", 5, policy=group),
        vm("friend", "hv2", 3, policy=group),
        vm("pinned", "hv2", 2, policy={**group, "migration": "pinned"}),
        vm("full", "hv3", 5, policy={"migration": "pinned"}),
    ]
    assert not drain(fleet(hosts, vms), "hv1")["feasible"]
