# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement import Vm, load, parse
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.build import build, widened
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.problem import Problem
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.question import question_of
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.room import Room
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.unit.placement.fleet import GIB, fleet, host, vm
from tests.unit.placement.tied import machine, tied

NAMES = ["hv1", "hv2", "hv3", "hv4"]


def problem_of(snapshot: dict[str, Any], *drained: str) -> Problem:
    """Return the problem of a drain, with all VMs that may make room."""
    loaded = load(snapshot)
    request = parse({"question": "drain", "hosts": list(drained)}, loaded)
    return widened(build(question_of(request, loaded), loaded)[0])


@st.composite
def amounts(draw: st.DrawFn) -> Problem:
    """Fleets in which amounts and labels matter."""
    hosts = []
    for name in NAMES[: draw(st.integers(2, 4))]:
        limit = {"cells": [{"id": 0, "cpus": "0-3"}], "cpu_overcommit": draw(st.sampled_from([None, 0.5, 1, 2]))}
        hosts.append(host(name, draw(st.integers(2, 9)), **limit, pool=draw(st.sampled_from(["x", "x", "x", "y"]))))
    vms = []
    for number in range(draw(st.integers(1, 6))):
        on = draw(st.sampled_from(hosts))["name"]
        policy = {
            "keep_apart": draw(st.lists(st.sampled_from("ab"), max_size=1)),
            "keep_together": draw(st.lists(st.sampled_from("cd"), max_size=1)),
            "hosts": draw(st.sampled_from([[], [], [], ["hv2", "hv3"]])),
        }
        uuid = f"uuid-vm{number}"
        taken = {(item["host"], item["name"]) for item in vms}
        name = "twin" if draw(st.booleans()) and (on, "twin") not in taken else f"vm{number}"
        vcpus = {"current": draw(st.integers(1, 3))}
        vms.append(vm(name, on, draw(st.integers(1, 4)), uuid=uuid, policy=policy, vcpus=vcpus))
    return problem_of(fleet(hosts, vms), "hv1")


@st.composite
def cpus(draw: st.DrawFn) -> Problem:
    """Fleets in which nothing matters but how many CPUs VMs have for themselves."""
    hosts = [machine(name, f"0-{draw(st.integers(2, 6))}", gib=999, reserved={"cpus": "0"}) for name in NAMES[:3]]
    free = {item["name"]: list(range(1, int(item["cells"][0]["cpus"][2:]) + 1)) for item in hosts}
    vms = []
    for number in range(draw(st.integers(1, 6))):
        on, count = draw(st.sampled_from(hosts))["name"], draw(st.integers(1, 3))
        own = [free[on].pop() for _each in range(min(count, len(free[on])))]
        if own:
            together = draw(st.lists(st.sampled_from("cd"), max_size=1))
            policy = {"migration": "automatic", "keep_together": together}
            vms.append(tied(f"vm{number}", on, " ".join(map(str, own)), policy_fields=policy))
    return problem_of(fleet(hosts, vms), "hv1")


def there(room: Room, number: int) -> list[Vm]:
    """Return who is on a host, counted anew."""
    problem = room.problem
    movers = {one.key for one in problem.vms}
    name = problem.hosts[number].name
    found = [one for one in problem.ground.snapshot.vms if one.host == name and one.key not in movers]
    return found + [one for block, at in enumerate(room.at) if at == number for one in problem.members(block)]


def has_room(room: Room, block: int, number: int) -> bool:
    """Whether the amounts fit and no label is there twice, counted anew."""
    target, come, residents = room.problem.hosts[number], room.problem.members(block), there(room, number)
    memory = sum(one.memory_kib or 0 for one in (*come, *residents))
    vcpus = sum(one.vcpus or 0 for one in (*come, *residents))
    most = target.cpu_overcommit if target.cpu_overcommit is None else int(4 * target.cpu_overcommit)
    clash = any(one.name == other.name or one.keep_apart & other.keep_apart for one in come for other in residents)
    return memory <= (target.memory_kib or 0) and (most is None or vcpus <= most) and not clash


def has_cpus(room: Room, block: int, number: int) -> bool:
    """Whether each VM can have CPUs for itself besides the first one of the host, counted anew."""
    vms = (*room.problem.members(block), *there(room, number))
    return sum(one.vcpus or 0 for one in vms) < len(room.problem.hosts[number].cpus or ())


KINDS = pytest.mark.parametrize(("problems", "recount"), [(amounts(), has_room), (cpus(), has_cpus)])

Recount = Callable[[Room, int, int], bool]


def move_about(room: Room, luck: random.Random, count: int = 12) -> None:
    """Give blocks to hosts that take them and take others away."""
    for _try in range(count):
        block = luck.randrange(len(room.at))
        if room.at[block] is not None:
            room.take_away(block)
        fitting = [number for number in room.problem.blocks[block].hosts if room.takes(block, number)]
        if fitting and luck.random() < 0.8:
            room.put(block, luck.choice(fitting))


def state(room: Room) -> dict[str, Any]:
    """Return all that can be asked of a room."""
    numbers, blocks = range(len(room.problem.hosts)), range(len(room.at))
    return {
        "at": room.at,
        "on": {number: on for number, on in room.on.items() if on},
        "free": room.floor.free,
        "holders": [{label: sorted(keys) for label, keys in room.floor.holders(n).items() if keys} for n in numbers],
        "moved": room.moved(),
        "takes": {
            (block, number): room.takes(block, number)
            for block in blocks
            for number in numbers
            if room.at[block] is None
        },
        "fullest": [list(room.fullest(block)) for block in blocks],
        "emptiest": [list(room.emptiest(block)) for block in blocks],
    }


@KINDS
@given(data=st.data(), luck=st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_only_who_is_where_matters_and_not_who_came_and_left_before(
    problems: st.SearchStrategy[Problem], recount: Recount, data: st.DataObject, luck: random.Random
) -> None:
    problem = data.draw(problems)
    if not problem.blocks:
        return
    room, fresh, before = Room(problem), Room(problem), state(Room(problem))
    move_about(room, luck)
    blocks = list(range(len(problem.blocks)))
    other = [block for block in blocks if room.at[block] != problem.blocks[block].at]
    event(f"{len(other)} blocks are elsewhere")
    luck.shuffle(other)
    for block in (each for each in other if problem.blocks[each].at is not None):
        fresh.take_away(block)
    for block in other:
        if room.at[block] is not None:
            fresh.put(block, room.at[block] or 0)
    assert state(room) == state(fresh)
    for block in (each for each in other if room.at[each] is not None):
        room.take_away(block)
    luck.shuffle(other)
    for block in other:
        if problem.blocks[block].at is not None:
            room.put(block, problem.blocks[block].at or 0)
    assert state(room) == before


@KINDS
@given(data=st.data(), luck=st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_a_host_takes_a_block_exactly_where_it_has_all_for_it_beside_those_that_are_there(
    problems: st.SearchStrategy[Problem], recount: Recount, data: st.DataObject, luck: random.Random
) -> None:
    room = Room(data.draw(problems))
    if room.at:
        move_about(room, luck)
    for block in [each for each, at in enumerate(room.at) if at is None]:
        for number in range(len(room.problem.hosts)):
            assert room.takes(block, number) == recount(room, block, number)
            event(f"takes: {room.takes(block, number)}")


@given(data=st.data(), luck=st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_hosts_come_by_the_memory_they_have_left(data: st.DataObject, luck: random.Random) -> None:
    room = Room(data.draw(amounts()))
    if room.at:
        move_about(room, luck)
    for number, block in enumerate(room.problem.blocks):
        left = {each: room.floor.free[each][0] for each in block.hosts if each != block.at}
        enough = [each for each, free in left.items() if free >= block.need[0]]
        # A VM that may stay is asked about its own host before.
        full = [each for each in room.fullest(number) if each != block.at]
        empty = [each for each in room.emptiest(number) if each != block.at]
        assert full == sorted(enough, key=lambda each: (left[each], each))
        assert empty == sorted(enough, key=lambda each: (-left[each], each))
        every = [each for each in room.emptiest(number, 0) if each != block.at]
        assert every == sorted(left, key=lambda each: (-left[each], each))


def test_the_tightest_host_is_the_one_where_the_least_remains_of_what_is_scarce() -> None:
    limit = {"cells": [{"id": 0, "cpus": "0-9"}], "cpu_overcommit": 1}
    hosts = [host("hv1"), host("hv2", 8, **limit), host("hv3", 9, **{**limit, "reserved": {"cpus": "0-6"}})]
    by_vcpus = Room(problem_of(fleet(hosts, [vm("db1", "hv1", 4, vcpus={"current": 3})]), "hv1"))
    assert (list(by_vcpus.fullest(0)), by_vcpus.tightest(0)) == ([1, 2], 2)
    by_memory = Room(problem_of(fleet(hosts, [vm("db1", "hv1", 4)]), "hv1"))
    assert by_memory.tightest(0) == 1
    assert by_memory.floor.free[1][0] == 8 * GIB


def test_a_block_that_is_on_no_host_cannot_be_taken_away() -> None:
    room = Room(problem_of(fleet([host("hv1"), host("hv2")], [vm("db1", "hv1")]), "hv1"))
    with pytest.raises(ValueError, match="block 0 is on no host"):
        room.take_away(0)
