# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The exact search alone, without the fast ways that answer most questions before it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _placement
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.build import build
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.exact import EXHAUSTED, FOUND, LIMIT, Search
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.order import schedule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.problem import Problem
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.question import question_of
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.transfers import transfers
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.placement.fleet import fleet, host, vm

ENOUGH = 10**6


def problem_of(snapshot: dict[str, Any], request: dict[str, Any]) -> Problem:
    loaded = _placement.load(snapshot)
    return build(question_of(_placement.parse(request, loaded), loaded), loaded)[0]


def has_order(problem: Problem, targets: Mapping[int, int]) -> bool:
    return schedule(transfers(problem, targets), problem.ground.now, ENOUGH).steps is not None


def brute_force(problem: Problem) -> bool:
    numbers = range(len(problem.blocks))
    for targets in itertools.product(*(block.hosts for block in problem.blocks)):
        taken = [(problem.vms[one].name, targets[one]) for one in numbers]
        if len(set(taken)) == len(taken) and has_order(problem, dict(zip(numbers, targets, strict=True))):
            return True
    return False


@st.composite
def drains(draw: st.DrawFn) -> Problem:
    """Tight drains with many equal VMs and hosts, where the symmetry of the search matters."""
    room = draw(st.lists(st.sampled_from([5, 5, 7, 9, 10]), min_size=2, max_size=4))
    names = [f"hv{number}" for number in range(1, len(room) + 1)]
    some = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    other = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
    hosts = [host("hv0", memory_kib=99), host("hv9", memory_kib=99)]
    hosts += [host(name, memory_kib=kib) for name, kib in zip(names, room, strict=True)]
    vms: list[dict[str, Any]] = []
    for number in range(draw(st.integers(2, 7))):
        name = draw(st.sampled_from([f"vm{number}", f"vm{number}", "same"]))
        policy = {"hosts": draw(st.sampled_from([[], [], some, other]))}
        on, kib = draw(st.sampled_from(["hv0", "hv9"])), draw(st.sampled_from([1, 2, 3, 4, 5]))
        name = f"vm{number}" if (name, on) in [(each["name"], each["host"]) for each in vms] else name
        vms.append(vm(name, on, uuid=f"u{number}", memory_kib=kib, policy=policy))
    return problem_of(fleet(hosts, vms), {"question": "drain", "hosts": ["hv0", "hv9"]})


@st.composite
def exchanges(draw: st.DrawFn) -> Problem:
    """VMs on nearly full hosts that all have to change places, where the order of moves matters."""
    count = draw(st.integers(2, 4))
    sizes = draw(st.lists(st.sampled_from([2, 2, 2, 3]), min_size=2, max_size=5))
    on = [draw(st.integers(0, count - 1)) for _size in sizes]
    loads = [sum(size for size, where in zip(sizes, on, strict=True) if where == number) for number in range(count)]
    hosts = [host(f"hv{n}", memory_kib=load + draw(st.sampled_from([0, 1, 2, 4]))) for n, load in enumerate(loads)]
    vms = [vm(f"vm{n}", f"hv{on[n]}", memory_kib=size) for n, size in enumerate(sizes)]
    return problem_of(fleet(hosts, vms), {"question": "place", "vms": [item["name"] for item in vms]})


@st.composite
def namesakes(draw: st.DrawFn) -> Problem:
    """VMs of which some share a name, so that hosts with equal room are not alike."""
    room = draw(st.lists(st.sampled_from([4, 5, 6]), min_size=2, max_size=3))
    from_hosts = ["hv0", "hv8", "hv9"]
    hosts = [host(name, memory_kib=99) for name in from_hosts]
    hosts += [host(f"hv{number}", memory_kib=kib) for number, kib in enumerate(room, 1)]
    vms = []
    for number in range(draw(st.integers(3, 6))):
        shared = draw(st.sampled_from([None, "a", "b"])) if number < 3 else None
        on = from_hosts[number % 3]
        vms.append(vm(shared or f"vm{number}", on, uuid=f"u{number}", memory_kib=draw(st.sampled_from([1, 2, 2, 3]))))
    return problem_of(fleet(hosts, vms), {"question": "drain", "hosts": from_hosts})


@given(st.one_of(drains(), exchanges(), namesakes()))
@settings(max_examples=300, deadline=None)
def test_the_search_finds_a_plan_exactly_where_brute_force_finds_one(problem: Problem) -> None:
    search = Search(problem, ENOUGH, lambda targets: has_order(problem, targets))
    end = search.run()
    assert end == (FOUND if brute_force(problem) else EXHAUSTED)
    if end == FOUND:
        assert sorted(search.assignment) == list(range(len(problem.blocks)))
        assert all(target in problem.blocks[one].hosts for one, target in search.assignment.items())


def equal(vms: int, hosts: int) -> Problem:
    """Return VMs of 3 for hosts of 5, one VM too many."""
    there = [host(f"hv{number}", memory_kib=5) for number in range(1, hosts + 1)]
    away = [vm(f"vm{number}", "hv0", memory_kib=3) for number in range(vms)]
    return problem_of(fleet([host("hv0", memory_kib=999), *there], away), {"question": "drain", "hosts": ["hv0"]})


def test_equal_vms_and_hosts_do_not_multiply_the_effort() -> None:
    search = Search(equal(16, 15), ENOUGH, lambda targets: True)
    assert search.run() == EXHAUSTED
    assert search.nodes < 50


def test_the_effort_is_bounded() -> None:
    search = Search(equal(4, 4), 3, lambda targets: True)
    assert (search.run(), search.nodes) == (LIMIT, 3)


def test_effort_spent_on_orders_counts() -> None:
    problem = equal(1, 1)
    search = Search(problem, 10, lambda targets: search.spend(99) < 0)
    assert search.run() == LIMIT
