# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The optional exact solver alone: what it says is right, and nothing is said where it is not installed."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _placement
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement import exact_cp, solve
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.build import build, widened
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.problem import Problem
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.question import question_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.placement.fleet import drain, fleet, host, vm, where
from tests.unit.placement.tied import machine, tied


def wide_problem(snapshot: dict[str, Any]) -> Problem:
    loaded = _placement.load(snapshot)
    question = question_of(_placement.parse({"question": "drain", "hosts": ["hv0"]}, loaded), loaded)
    return widened(build(question, loaded)[0])


@st.composite
def drains(draw: st.DrawFn) -> dict[str, Any]:
    """Full hosts, where others have to make room; some VMs are kept apart."""
    hosts = [host("hv0", memory_kib=99), *(host(f"hv{n}", memory_kib=draw(st.integers(4, 9))) for n in (1, 2))]
    loads = {each["name"]: 0 for each in hosts}
    vms = []
    for number in range(draw(st.integers(2, 6))):
        on, size = draw(st.sampled_from(["hv0", "hv0", "hv1", "hv2"])), draw(st.integers(1, 4))
        loads[on] += size
        policy = {"keep_apart": draw(st.sampled_from([[], [], ["db"]]))}
        vms.append(vm(f"vm{number}", on, memory_kib=size, policy=policy))
    return fleet([{**each, "memory_kib": max(each["memory_kib"], loads[each["name"]])} for each in hosts], vms)


def fewest_moves(problem: Problem) -> int | None:
    """Return how many others have to move at least for a final state, by trying all of them."""
    best = None
    for targets in itertools.product(*(block.hosts for block in problem.blocks)):
        if is_allowed(problem, targets):
            moved = sum(block.at not in (None, target) for block, target in zip(problem.blocks, targets, strict=True))
            best = moved if best is None else min(best, moved)
    return best


def is_allowed(problem: Problem, targets: tuple[int, ...]) -> bool:
    for number, each in enumerate(problem.hosts):
        there = [block for block, target in zip(problem.blocks, targets, strict=True) if target == number]
        if sum(block.need[0] for block in there) > (each.memory_kib or 0):
            return False
        apart = [block for block in there if any(label == ("apart", "db") for label, _key in block.held)]
        # Those that share a host already may go on doing so.
        if len(apart) > 1 and any(block.at != number for block in apart):
            return False
    return True


@given(drains())
@settings(max_examples=80, deadline=None)
def test_the_fewest_others_move_and_nothing_is_found_where_nothing_exists(snapshot: dict[str, Any]) -> None:
    problem = wide_problem(snapshot)
    if len(problem.leaving) == 0:
        return
    found = exact_cp.assign(problem)
    fewest = fewest_moves(problem)
    if found is None:
        assert fewest is None
        return
    targets = tuple(found.get(number, block.at) for number, block in enumerate(problem.blocks))
    assert None not in targets
    assert is_allowed(problem, tuple(target for target in targets if target is not None))
    assert fewest == sum(problem.blocks[number].at is not None for number in found)


def test_it_is_asked_where_ejection_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solve, "RESTARTS", 0)
    monkeypatch.setattr(solve.Ejector, "place", lambda self, block: False)
    monkeypatch.setattr(solve, "is_small", lambda problem: False)
    hosts = [host("hv1", 8), host("hv2", 8), host("hv3", 8)]
    snapshot = fleet(hosts, [vm("big", "hv1", 6), vm("small", "hv2", 3), vm("other", "hv3", 4)])
    assert where(drain(snapshot, "hv1"))["big"] in ("hv2", "hv3")
    monkeypatch.setattr(exact_cp, "HAS_ORTOOLS", False)
    assert not drain(snapshot, "hv1")["feasible"]


def test_it_is_not_asked_where_cpus_have_owners() -> None:
    problem = wide_problem(fleet([machine("hv0"), machine("hv1")], [tied("db", "hv0", "1 2")]))
    assert exact_cp.assign(problem) is None
