# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold for every fleet, tried on small random ones.

The referee that judges the plans shares no code with the planner.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _placement
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.placement.fleet import GIB, fleet, host, vm
from tests.unit.placement.referee import Fleet, Verdict, capacity, demand, is_active, judge, key_of, policy_of

Json = dict[str, Any]
Case = tuple[Json, Json]

QUESTIONS = ("drain", "place", "refill", "rollout", "rebalance")


class Dice:
    """Chance from a seed: what Hypothesis draws itself is mostly small and alike, and with that few VMs move."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def hits(self, share: float) -> bool:
        return self.random.random() < share

    def number(self, least: int, most: int) -> int:
        return self.random.randint(least, most)

    def one(self, *values: Any) -> Any:
        return self.random.choice(values)

    def some(self, values: list[str], most: int) -> list[str]:
        return self.random.sample(values, self.number(1, min(most, len(values))))


# What a fleet may have, each in some fleets only: all at once, little could ever move.
OF_VMS = ("vcpus", "apart", "together", "allowed", "modes", "blockers", "states", "names")
OF_HOSTS = ("pools", "maintenance", "reserved", "tight")


def a_fleet(dice: Dice) -> Json:
    names = [f"hv{number}" for number in range(1, dice.number(3, 4) + 1)]
    features = {feature for feature in (*OF_VMS, *OF_HOSTS) if dice.hits(0.25)}
    vms = [a_vm(dice, number, names, features) for number in range(dice.number(2, 6))]
    # Two domains of one name are never on one host.
    vms = list({(one["name"], one["host"]): one for one in vms}.values())
    return fleet([a_host(dice, name, vms, features) for name in names], vms)


def a_vm(dice: Dice, number: int, names: list[str], features: set[str]) -> Json:
    def has(feature: str, share: float) -> bool:
        return feature in features and dice.hits(share)

    policy = {
        "hosts": dice.some(names, 3) if has("allowed", 0.4) else [],
        "home": dice.one(None, *names),
        "priority": dice.number(0, 2),
        "migration": dice.one("manual", "pinned") if has("modes", 0.3) else "automatic",
        "keep_apart": ["apart"] if has("apart", 0.5) else [],
        "keep_together": ["together"] if has("together", 0.5) else [],
    }
    return vm(
        "vm0" if has("names", 0.4) else f"vm{number}",
        dice.one(*names),
        dice.number(1, 5),
        uuid=f"uuid-{number}",
        overhead_kib=GIB if has("reserved", 0.3) else 0,
        vcpus={"current": dice.number(1, 3)} if "vcpus" in features else {},
        state=dice.one("shutoff", "shutoff", "paused") if has("states", 0.3) else "running",
        blockers=["a device"] if has("blockers", 0.2) else [],
        policy=policy,
    )


def a_host(dice: Dice, name: str, vms: list[Json], features: set[str]) -> Json:
    loads = [demand(one) for one in vms if one["host"] == name and is_active(one)]
    memory, cpus = (sum(load[kind] for load in loads) for kind in range(2))
    reserved, slack = GIB if "reserved" in features else 0, dice.number(*((0, 3) if "tight" in features else (-1, 5)))
    fields: Json = {"pool": dice.one("gold", "gold", "silver")} if "pools" in features else {}
    if "vcpus" in features:
        last = max(0, int(cpus) + dice.number(-2, 3))
        fields |= {"cpu_overcommit": 1.0, "cells": [{"id": 0, "cpus": f"0-{last}" if last else "0"}]}
    return host(
        name,
        memory_kib=max(GIB, int(memory) + slack * GIB) + reserved,
        reserved={"memory_kib": reserved},
        maintenance="maintenance" in features and dice.hits(0.3),
        **fields,
    )


def a_question(dice: Dice, question: str) -> Case:
    snapshot = a_fleet(dice)
    names = [item["name"] for item in snapshot["hosts"]]
    options = {
        "best_effort": dice.hits(0.5),
        "stay_in_pool": dice.hits(0.7),
        "move_manual": dice.hits(0.7),
        "exclude_hosts": [dice.one(*names)] if dice.hits(0.1) else [],
        "service_s": dice.one(0, 60),
        **dice.one({}, {}, {"max_extra_moves": 0}, {"max_extra_moves": 1}),
        **dice.one({}, {"pinned": "shutdown"}, {"pinned": "skip"}),
    }
    request: Json = {"question": question, "hosts": dice.some(names, len(names)), "options": options}
    if question == "drain":
        request["hosts"] = request["hosts"][: dice.one(1, 1, 2)]
    if question == "place":
        vms = [item["uuid"] for item in snapshot["vms"]]
        request |= {"vms": dice.some(vms, 3), "hosts": request["hosts"] if dice.hits(0.3) else []}
    if question == "rollout":
        request["refill"] = dice.one("none", "leapfrog", "home")
        options |= dice.one({}, {"max_hosts_down": 1})
    if question == "rebalance":
        request |= {"max_moves": dice.number(0, 4), "hosts": names if dice.hits(0.7) else request["hosts"]}
    return snapshot, request


@st.composite
def questions(draw: st.DrawFn, *only: str) -> Case:
    question = draw(st.sampled_from(only or QUESTIONS))
    return a_question(Dice(draw(st.integers(0, 2**32 - 1))), question)


def asked(snapshot: Json, request: Json) -> set[str]:
    """Return the keys of the VMs of a question that have to move; a rebalance has none."""
    rules = Fleet(snapshot, request)
    names = [name for name in request["hosts"] if name not in rules.skipped()]
    if request["question"] == "place":
        return set(request["vms"])
    if request["question"] == "rebalance":
        return set()
    active = [one for one in snapshot["vms"] if is_active(one)]
    if request["question"] == "refill":
        return {
            key_of(one) for one in active if one["policy"]["home"] in names and one["policy"]["home"] != one["host"]
        }
    return {key_of(one) for one in active if one["host"] in names and not rules.may_be_shut_down(one)}


def moves_of(answer: Json) -> Iterator[Json]:
    for wave in answer["waves"]:
        for step in (*wave["steps"], *wave["refill_steps"]):
            yield from step["moves"]


def arrived(snapshot: Json, request: Json, verdict: Verdict) -> set[str]:
    """Return the VMs of a question that are where it wants them."""
    vms = {key_of(one): one for one in snapshot["vms"]}
    drained = set(request["hosts"]) - Fleet(snapshot, request).skipped()

    def is_there(key: str) -> bool:
        at, start = verdict.places[key], vms[key]["host"]
        if request["question"] == "drain":
            return at not in drained
        if request["question"] == "place":
            return at != start and (not request["hosts"] or at in request["hosts"])
        return bool(at == vms[key]["policy"]["home"])

    return {key for key in asked(snapshot, request) if is_there(key)}


def move(name: str, source: str, target: str, purpose: str = "asked") -> Json:
    return {"vm": name, "uuid": f"uuid-{name}", "source": source, "destination": target, "purpose": purpose}


def objections(machines: list[Json], vms: list[Json], *steps: list[Json], **fields: Any) -> list[str]:
    """Return what the referee says of a drain of hv1 with these steps."""
    wave = {"hosts": [], "steps": [{"moves": moves} for moves in steps], "refill_steps": []}
    verdict = judge(fleet(machines, vms), {"question": "drain", "hosts": ["hv1"]}, {"waves": [{**wave, **fields}]})
    return [text.split(": ", 1)[1] for text in verdict.violations]


TWO = [host("hv1"), host("hv2", 4)]
GO = move("db", "hv1", "hv2")


def one_db(gib: float = 1, on: str = "hv1", **fields: Any) -> list[Json]:
    return [vm("db", on, gib, **fields)]


@pytest.mark.parametrize(
    ("hosts", "vms", "steps", "text"),
    [
        (TWO, one_db(5), [[GO]], "memory when db comes"),
        (TWO, one_db(4, overhead_kib=1), [[GO]], "memory when db comes"),
        ([TWO[0], host("hv2", 4, reserved={"memory_kib": GIB})], one_db(4), [[GO]], "memory when db comes"),
        (
            [TWO[0], host("hv2", cells=[{"id": 0, "cpus": "0-2,4"}], cpu_overcommit=1, reserved={"cpus": "0"})],
            one_db(vcpus={"current": 4}),
            [[GO]],
            "of 3 vCPUs when db comes",
        ),
        # The one that leaves in the same step is still there.
        (
            [*TWO, host("hv3")],
            [*one_db(3), vm("web", "hv2", 3)],
            [[GO, move("web", "hv2", "hv3", "room")]],
            "memory when db comes",
        ),
        (TWO, [*one_db(), vm("db", "hv2", uuid="uuid-2", state="shutoff")], [[GO]], "has name db twice"),
        (
            TWO,
            [vm(name, on, policy={"keep_apart": ["a"]}) for name, on in (("db", "hv1"), ("web", "hv2"))],
            [[GO]],
            "has apart a twice",
        ),
        (TWO, [vm(name, "hv1", policy={"keep_together": ["a"]}) for name in ("db", "web")], [[GO]], "a is split"),
        (TWO, one_db(policy={"hosts": ["hv1"]}), [[GO]], "does not allow"),
        ([TWO[0], host("hv2", pool="gold")], one_db(), [[GO]], "leaves its pool"),
        ([TWO[0], host("hv2", maintenance=True)], one_db(), [[GO]], "in maintenance"),
        (TWO, one_db(on="hv2"), [[move("db", "hv2", "hv1", "room")]], "is to be empty"),
        (TWO, one_db(policy={"migration": "pinned"}), [[GO]], "is pinned"),
        (TWO, one_db(policy={"migration": "manual"}), [[{**GO, "purpose": "room"}]], "by hand only"),
        (TWO, one_db(blockers=["a device"]), [[GO]], "has blockers"),
        (TWO, one_db(state="shutoff"), [[GO]], "does not migrate"),
        (TWO, one_db(), [[GO], [GO]], "is not on hv1 but on hv2"),
        ([*TWO, host("hv3")], one_db(), [[GO, move("db", "hv1", "hv3")]], "moves twice"),
        (TWO, one_db(), [[move("ghost", "hv1", "hv2")]], "is unknown"),
        (TWO, one_db(), [[move("db", "hv1", "hv9")]], "is unknown"),
    ],
)
def test_the_referee_sees(hosts: list[Json], vms: list[Json], steps: list[list[Json]], text: str) -> None:
    assert [each for each in objections(hosts, vms, *steps) if text in each]


def test_the_referee_accepts_what_was_wrong_before_and_what_is_right() -> None:
    apart, together = ({"policy": {key: ["a"]}} for key in ("keep_apart", "keep_together"))
    hosts = [*TWO, host("hv3", 1)]
    assert objections(hosts, [*one_db(4), vm("web", "hv3", 9)], [GO]) == []
    assert objections(hosts, [*one_db(**apart), vm("web", "hv1", **apart)], [GO]) == []
    assert objections(hosts, [*one_db(**together), vm("web", "hv3", **together)], [GO]) == []
    assert objections(TWO, one_db(), hosts=["hv1"]) == ["hv1 is said to be empty but has db"]


@given(questions())
@settings(max_examples=1000)
def test_no_rule_is_broken_at_any_moment(case: Case) -> None:
    snapshot, request = case
    assert judge(snapshot, request, _placement.plan(request, snapshot)).violations == ()


@given(questions("drain", "place", "refill"))
@settings(max_examples=300)
def test_every_vm_of_the_question_gets_where_it_should_or_is_named_with_reasons(case: Case) -> None:
    snapshot, request = case
    answer = _placement.plan(request, snapshot)
    there = arrived(snapshot, request, judge(snapshot, request, answer))
    unplaced = [item["uuid"] for item in answer["unplaced"]]
    assert len(unplaced) == len(set(unplaced))
    assert all(item["reasons"] for item in answer["unplaced"])
    assert answer["feasible"] == (unplaced == [])
    if request["question"] == "drain" and unplaced and not request["options"]["best_effort"]:
        assert (answer["waves"], set(unplaced) - asked(snapshot, request)) == ([], set())
    else:
        assert sorted((*there, *unplaced)) == sorted(asked(snapshot, request))


@given(questions("rollout"))
@settings(max_examples=300)
def test_every_host_of_a_rollout_is_serviced_once_or_has_a_vm_that_is_named(case: Case) -> None:
    snapshot, request = case
    answer = _placement.plan(request, snapshot)
    done = [name for wave in answer["waves"] for name in wave["hosts"]]
    left = {item["host"] for item in answer["unplaced"]}
    assert len(done) == len(set(done))
    wanted = set(request["hosts"]) - {item["host"] for item in answer["skipped"]}
    assert wanted - set(done) <= left
    assert answer["feasible"] == (not left)
    # What could not come home is elsewhere; all others that have no place are where they were.
    assert request["refill"] == "home" or not set(done) & left
    if answer["feasible"]:
        assert set(done) == wanted
    if answer["feasible"] and request["refill"] == "home":
        assert judge(snapshot, request, answer).places == {key_of(one): one["host"] for one in snapshot["vms"]}


@given(questions())
@settings(max_examples=300)
def test_vms_that_nobody_asked_to_move_do_so_to_make_room_only_and_not_beyond_the_limit(case: Case) -> None:
    snapshot, request = case
    answer = _placement.plan(request, snapshot)
    most, question = request["options"].get("max_extra_moves"), request["question"]
    wanted, moves = asked(snapshot, request), list(moves_of(answer))
    last = {move["uuid"]: move for move in moves}
    strangers = [move for move in moves if move["uuid"] not in wanted]
    if question != "rebalance":
        # In a rollout, a VM that has made room on a host which is serviced later leaves it with the others.
        unasked = [move for move in strangers if question != "rollout" or move["source"] not in request["hosts"]]
        assert {move["purpose"] for move in unasked} <= {"room", "detour", "back"}
        assert question == "rollout" or "back" not in {move["purpose"] for move in moves}
        assert not [move for move in strangers if move["purpose"] == "detour" and last[move["uuid"]] is move]
        assert most != 0 or not strangers
    if question in ("drain", "place", "refill"):
        assert answer["totals"]["extra"] == len(moves) - len({move["uuid"] for move in moves} & wanted)
        assert most is None or answer["totals"]["extra"] <= most


class Brute:
    """All sequences of single moves of a drain: who moves, and what each state lets happen."""

    def __init__(self, snapshot: Json, request: Json) -> None:
        self.fleet = Fleet(snapshot, request)
        self.drained = set(request["hosts"]) - self.fleet.skipped()
        self.asked = sorted(asked(snapshot, request))
        vms = self.fleet.vms
        may = {key for key in set(vms) - set(self.asked) if self.fleet.cannot_move(vms[key], "room") is None}
        self.company = {key for key, one in vms.items() if is_active(one) and policy_of(one)["keep_together"]}
        # A group makes room as a whole, or not at all.
        if not self.company <= may or len({vms[key]["host"] for key in self.company}) > 1:
            may -= self.company
        extra = request["options"].get("max_extra_moves")
        self.most = None if extra is None else len(self.asked) + extra
        self.movers = [*self.asked, *sorted(may if extra != 0 else ())]

    def fewest_moves(self) -> int | None:
        """Return the length of the shortest sequence, ``None`` where there is none."""
        if any(self.fleet.cannot_move(self.fleet.vms[key], "asked") for key in self.asked):
            return None
        start = tuple(self.fleet.start[key] for key in self.movers)
        states, seen, count = [start], {start}, 0
        while states and (self.most is None or count <= self.most):
            if any(self.is_done(state) for state in states):
                return count
            following = {after for state in states for after in self.next(state)} - seen
            seen |= following
            states, count = sorted(following), count + 1
        return None

    def is_done(self, state: tuple[str, ...]) -> bool:
        if self.drained & set(state[: len(self.asked)]):
            return False
        places = {**self.fleet.start, **dict(zip(self.movers, state, strict=True))}
        moving = {places[key] for key in self.company if key in self.movers}
        staying = {places[key] for key in self.company if key not in self.movers}
        return not moving or len(staying) > 1 or len(moving | staying) == 1

    def next(self, state: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        places = {**self.fleet.start, **dict(zip(self.movers, state, strict=True))}
        for index, key in enumerate(self.movers):
            one = self.fleet.vms[key]
            for target in self.fleet.hosts:
                if not self.fleet.forbids(one, state[index], target, self.drained) and self.has_room(
                    places, one, target
                ):
                    yield (*state[:index], target, *state[index + 1 :])

    def has_room(self, places: dict[str, str], one: Json, target: str) -> bool:
        there = [self.fleet.vms[key] for key, at in places.items() if at == target]
        labels = {label for other in there for label in self.fleet.labels(other)}
        loads = [demand(other) for other in (*there, one) if is_active(other)]
        limits = capacity(self.fleet.hosts[target])
        fits = all(not demand(one)[kind] or sum(load[kind] for load in loads) <= limits[kind] for kind in range(2))
        return fits and not labels & self.fleet.labels(one)


@given(questions("drain"))
@settings(max_examples=800)
def test_a_drain_is_possible_exactly_where_a_sequence_of_single_moves_is(case: Case) -> None:
    snapshot, request = case
    fewest, answer = Brute(snapshot, request).fewest_moves(), _placement.plan(request, snapshot)
    assert answer["feasible"] == (fewest is not None)
    assert answer["search"] == ("found" if answer["feasible"] else "exhausted")
    if fewest is not None:
        # Where nobody has to make room or to wait aside, nobody does.
        direct = answer["bounds"]["moves"]
        assert direct <= fewest <= answer["totals"]["moves"]
        assert fewest > direct or answer["totals"]["moves"] == direct


@given(questions())
@settings(max_examples=300)
def test_no_plan_is_better_than_the_bounds(case: Case) -> None:
    snapshot, request = case
    answer = _placement.plan(request, snapshot)
    if answer["feasible"] or request["question"] == "rollout":
        for key, least in answer["bounds"].items():
            assert answer["totals"][key] >= least, key
    if answer["feasible"]:
        assert all(value >= 0 for value in answer["gap"].values())
    assert answer["totals"]["moves"] == len(list(moves_of(answer)))
    if request["question"] == "rollout":
        assert answer["totals"]["waves"] == len(answer["waves"])


@given(questions())
@settings(max_examples=150)
def test_the_same_input_in_any_order_gives_the_same_answer(case: Case) -> None:
    snapshot, request = case
    turned = {**snapshot, "hosts": snapshot["hosts"][::-1], "vms": snapshot["vms"][::-1]}
    again = {**request, "hosts": request["hosts"][::-1], "vms": request.get("vms", [])[::-1]}
    assert _placement.plan(request, snapshot) == _placement.plan(again, turned)


@given(questions())
@settings(max_examples=100)
def test_an_answer_is_the_same_after_it_was_written_and_read(case: Case) -> None:
    snapshot, request = case
    answer = _placement.plan(request, snapshot)
    assert json.loads(json.dumps(answer)) == answer


@given(questions())
@settings(max_examples=150)
def test_more_effort_never_loses_a_plan(case: Case) -> None:
    snapshot, request = case
    little = {**request, "options": {**request["options"], "node_limit": 3}}
    if _placement.plan(little, snapshot)["feasible"]:
        assert _placement.plan(request, snapshot)["feasible"]


@given(questions("rebalance"))
@settings(max_examples=200)
def test_a_rebalance_moves_each_vm_once_within_its_hosts_and_makes_no_extreme_worse(case: Case) -> None:
    snapshot, request = case
    answer = _placement.plan(request, snapshot)
    moves = list(moves_of(answer))
    assert len(moves) <= request["max_moves"]
    assert max(Counter(move["uuid"] for move in moves).values(), default=1) == 1
    assert {move[end] for move in moves for end in ("source", "destination")} <= set(request["hosts"])
    before, after = answer["balance"]["before"], answer["balance"]["after"]
    assert after["highest_percent"] <= before["highest_percent"]
    assert after["lowest_percent"] >= before["lowest_percent"]
