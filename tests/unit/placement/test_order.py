# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement import order
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.floor import Floor
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.order import Schedule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.traffic import Traffic, Transfer
from hypothesis import given, settings
from hypothesis import strategies as st

Case = tuple[list[Transfer], list[tuple[int, int]]]


NAME = ("name", "web")


def schedule(
    moves: list[Transfer], free: list[tuple[int, int]], limit: int, labels: Any = None, **more: Any
) -> Schedule:
    return order.schedule(moves, lambda: Floor(free, labels or {}), limit, **more)


def numbers(found: Schedule) -> tuple[tuple[int, ...], ...] | None:
    return None if found.steps is None else tuple(tuple(move.vm for move in step) for step in found.steps)


def anywhere(hosts: int) -> order.Parking:
    def parking(move: Transfer, traffic: Traffic) -> list[int]:
        return [host for host in range(hosts) if traffic.has_room(replace(move, destination=host))]

    return parking


def transfers(*moves: tuple[int, int, int]) -> list[Transfer]:
    """Return moves from (source, destination, memory)."""
    return [Transfer(number, source, target, (size, 0)) for number, (source, target, size) in enumerate(moves)]


def test_the_first_ready_move_is_not_taken_where_it_leads_into_a_dead_end() -> None:
    # Host 1 has room for one of two arrivals, and only after the second has come can its own VM leave to make room.
    moves = transfers((0, 1, 4), (2, 1, 4), (1, 2, 4))
    assert numbers(schedule(moves, [(0, 0), (4, 0), (0, 0)], 100)) == ((1,), (2,), (0,))


def test_moves_that_do_not_wait_for_each_other_share_a_step() -> None:
    moves = transfers((0, 1, 4), (2, 1, 4), (1, 2, 4), (0, 3, 2), (3, 0, 2))
    steps = numbers(schedule(moves, [(0, 0), (4, 0), (0, 0), (9, 0)], 100))
    assert steps is not None
    assert len(steps) == 3


def test_a_search_cut_short_is_no_proof() -> None:
    moves = transfers((0, 1, 4), (2, 1, 4), (1, 2, 4))
    assert schedule(moves, [(0, 0), (4, 0), (0, 0)], 0) == Schedule(None, 1, True)


def test_a_ring_without_room_has_no_order() -> None:
    assert schedule(transfers((0, 1, 4), (1, 0, 4)), [(3, 0), (3, 0)], 100) == Schedule(None, 1)


def test_a_ring_is_broken_by_a_vm_that_waits_on_a_third_host() -> None:
    found = schedule(transfers((0, 1, 4), (1, 0, 3)), [(0, 0), (1, 0), (3, 0)], 100, parking=anywhere(3))
    assert (numbers(found), found.parked) == (((1,), (0,), (1,)), (1,))
    assert found.steps is not None
    assert [(move.source, move.destination) for step in found.steps for move in step] == [(1, 2), (0, 1), (2, 0)]


def test_nobody_waits_aside_where_an_order_without_that_exists() -> None:
    moves = transfers((0, 1, 4), (2, 1, 4), (1, 2, 4))
    found = schedule(moves, [(0, 0), (4, 0), (0, 0), (9, 0)], 100, parking=anywhere(4))
    assert (numbers(found), found.parked) == (((1,), (2,), (0,)), ())


def test_two_rings_take_one_detour_each() -> None:
    moves = transfers((0, 1, 4), (1, 0, 4), (2, 3, 4), (3, 2, 4))
    found = schedule(moves, [(0, 0)] * 4 + [(4, 0)], 100, parking=anywhere(5))
    assert len(found.parked) == 2
    assert sum(len(step) for step in found.steps or ()) == 6


def named(moves: list[Transfer], *vms: int) -> list[Transfer]:
    return [replace(move, held=frozenset({(NAME, str(move.vm))})) if move.vm in vms else move for move in moves]


def test_a_label_is_free_only_when_the_vm_that_has_it_has_gone() -> None:
    moves = named(transfers((0, 1, 1), (1, 2, 1)), 0, 1)
    labels = {0: [(NAME, "0")], 1: [(NAME, "1")]}
    assert numbers(schedule(moves, [(9, 0)] * 3, 100, labels=labels)) == ((1,), (0,))


def test_vms_with_one_label_that_change_places_wait_for_each_other_for_ever() -> None:
    moves = named(transfers((0, 1, 1), (1, 0, 1)), 0, 1)
    labels = {0: [(NAME, "0")], 1: [(NAME, "1")]}
    assert numbers(schedule(moves, [(9, 0)] * 2, 100, labels=labels)) is None


@st.composite
def cases(draw: st.DrawFn) -> Case:
    hosts = draw(st.integers(min_value=2, max_value=4))
    count = draw(st.integers(min_value=2, max_value=6))
    moves = []
    for number in range(count):
        source, target = draw(st.permutations(range(hosts)))[:2]
        moves.append(Transfer(number, source, target, (draw(st.integers(1, 3)), draw(st.integers(0, 1)))))
    return moves, [(draw(st.integers(-1, 4)), draw(st.integers(0, 3))) for _host in range(hosts)]


def is_safe(steps: tuple[tuple[int, ...], ...], moves: list[Transfer], free: list[tuple[int, int]]) -> bool:
    left = [list(amounts) for amounts in free]
    for step in steps:
        for vm in step:
            for kind, amount in enumerate(moves[vm].demand):
                left[moves[vm].destination][kind] -= amount
        for vm in step:
            target = left[moves[vm].destination]
            if any(amount and target[kind] < 0 for kind, amount in enumerate(moves[vm].demand)):
                return False
        for vm in step:
            for kind, amount in enumerate(moves[vm].demand):
                left[moves[vm].source][kind] += amount
    return True


@given(cases())
@settings(max_examples=400, deadline=None)
def test_an_order_is_found_exactly_where_one_exists_and_its_steps_are_safe(case: Case) -> None:
    moves, free = case
    found = schedule(moves, free, 10**6)
    orders = itertools.permutations(range(len(moves)))
    exists = any(is_safe(tuple((vm,) for vm in each), moves, free) for each in orders)
    assert not found.limited
    assert (found.steps is not None) == exists
    steps = numbers(found)
    if steps is not None:
        assert sorted(vm for step in steps for vm in step) == list(range(len(moves)))
        assert is_safe(steps, moves, free)
