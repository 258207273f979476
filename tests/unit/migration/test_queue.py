# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._migration import Limits, Waiting, startable
from hypothesis import given
from hypothesis import strategies as st


def move(number: int, destination: str = "hv2", link: str | None = None, size_kib: int = 100) -> Waiting:
    return Waiting(number, destination, link, size_kib)


def next_of(waiting: list[Waiting], running: list[Waiting], limits: Limits) -> int | None:
    found = startable(waiting, running, limits)
    return None if found is None else found.number


def test_the_largest_is_next() -> None:
    assert next_of([move(0, size_kib=10), move(1, size_kib=30), move(2, size_kib=20)], [], Limits(2)) == 1


def test_of_the_same_size_the_first_given_is_next() -> None:
    assert next_of([move(2), move(0), move(1)], [], Limits(2)) == 0


def test_with_nothing_that_waits_nothing_begins() -> None:
    assert next_of([], [], Limits(2)) is None


@pytest.mark.parametrize(("running", "expected"), [(0, 9), (1, 9), (2, None), (3, None)])
def test_the_source_has_a_limit(running: int, expected: int | None) -> None:
    assert next_of([move(9)], [move(number, f"hv{number}") for number in range(running)], Limits(2)) == expected


def test_a_full_destination_holds_up_nobody_else() -> None:
    waiting = [move(1, "hv2", size_kib=900), move(2, "hv3", size_kib=1)]
    assert next_of(waiting, [move(0, "hv2")], Limits(4, destination=1)) == 2
    assert next_of(waiting, [move(0, "hv2")], Limits(4, destination=2)) == 1


def test_a_full_link_holds_up_nobody_else() -> None:
    waiting = [move(1, "hv3", "a", size_kib=900), move(2, "hv2", "b", size_kib=1)]
    assert next_of(waiting, [move(0, "hv2", "a")], Limits(4, link=1)) == 2
    assert next_of(waiting, [move(0, "hv2", "a")], Limits(4, link=2)) == 1


def test_links_that_nobody_knows_are_not_one_link() -> None:
    assert next_of([move(1, "hv3", None)], [move(0, "hv2", None)], Limits(4, link=1)) == 1


def test_without_limits_only_that_of_the_source_holds() -> None:
    running = [move(number, "hv2", "a") for number in range(3)]
    assert next_of([move(9, "hv2", "a")], running, Limits(4)) == 9


moves = st.lists(
    st.tuples(st.sampled_from(["hv2", "hv3", "hv4"]), st.sampled_from([None, "a", "b"]), st.integers(0, 4)), max_size=12
).map(lambda rows: [Waiting(number, *row) for number, row in enumerate(rows)])
limit = st.one_of(st.none(), st.integers(1, 3))
some_limits = st.builds(Limits, st.integers(1, 5), limit, limit)


def breaks(running: list[Waiting], limits: Limits) -> bool:
    """Whether moves that run at once exceed a limit."""
    into = Counter(each.destination for each in running)
    over = Counter(each.link for each in running if each.link is not None)
    return (
        len(running) > limits.source
        or max(into.values(), default=0) > (limits.destination or 99)
        or max(over.values(), default=0) > (limits.link or 99)
    )


@given(moves, some_limits, st.randoms(use_true_random=False))
def test_a_whole_run_keeps_the_limits_never_idles_and_does_all_moves(
    given_moves: list[Waiting], limits: Limits, chance: Random
) -> None:
    waiting, running, done = list(given_moves), list[Waiting](), list[Waiting]()
    while waiting or running:
        while (found := startable(waiting, running, limits)) is not None:
            could = [each for each in waiting if not breaks([*running, each], limits)]
            assert found in could
            assert all((each.size_kib, -each.number) <= (found.size_kib, -found.number) for each in could)
            waiting.remove(found)
            running.append(found)
            assert not breaks(running, limits)
        # Nothing waits that could run, and so something runs.
        assert all(breaks([*running, each], limits) for each in waiting)
        assert running
        done.append(running.pop(chance.randrange(len(running))))
    assert sorted(each.number for each in done) == [each.number for each in given_moves]


@given(moves, moves, some_limits, st.randoms(use_true_random=False))
def test_the_order_in_which_moves_are_listed_does_not_matter(
    waiting: list[Waiting], running: list[Waiting], limits: Limits, chance: Random
) -> None:
    mixed = list(waiting)
    chance.shuffle(mixed)
    assert startable(mixed, running, limits) == startable(waiting, running, limits)
