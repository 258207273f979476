# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections import Counter

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.timing import Flow, seconds
from hypothesis import given
from hypothesis import strategies as st

# Hosts 0 to 3 and their links in MiB/s.
LINKS = {0: 100.0, 1: 100.0, 2: 100.0, 3: 50.0}

# What a result may be off: it is rounded.
ROUNDED = 0.05 + 1e-6


def took(*flows: Flow, concurrency: int = 2, links: dict[int, float] | None = None) -> float:
    return seconds([flows], links or LINKS, concurrency)


def test_no_moves_take_no_time() -> None:
    assert seconds([], LINKS, 2) == 0.0
    assert took() == 0.0


@pytest.mark.parametrize(
    ("flow", "expected"),
    [
        (Flow(0, 1, 1000), 10.0),
        (Flow(0, 3, 1000), 20.0),
        (Flow(3, 0, 1000), 20.0),
        (Flow(0, 1, 0), 0.0),
        # Pre-copy sends what is dirtied meanwhile again.
        (Flow(0, 1, 1000, 60), 25.0),
        (Flow(0, 1, 1000, 90), 100.0),
        # Beyond that the last stop decides, and a longer estimate would be fiction.
        (Flow(0, 1, 1000, 500), 100.0),
    ],
)
def test_one_move_takes_its_memory_over_the_slower_link(flow: Flow, expected: float) -> None:
    assert took(flow) == expected


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        (Flow(0, 2, 1000), 20.0),
        (Flow(2, 1, 1000), 20.0),
        (Flow(1, 2, 1000), 20.0),
        (Flow(2, 3, 1000), 20.0),
    ],
)
def test_two_moves_share_a_link_at_either_end(second: Flow, expected: float) -> None:
    assert took(Flow(0, 1, 1000), second) == expected


def test_moves_without_a_common_host_do_not_wait_for_each_other() -> None:
    assert took(Flow(0, 1, 1000), Flow(2, 3, 500)) == 10.0


def test_the_rest_of_a_move_has_the_link_that_another_leaves() -> None:
    # 500 MiB of each until 10 s, then the other 500 MiB at full speed.
    assert took(Flow(0, 1, 500), Flow(0, 2, 1000)) == 15.0


def test_a_slow_destination_slows_only_its_own_move() -> None:
    # Host 0 gives each 50 MiB/s, which is all that host 3 takes.
    assert took(Flow(0, 3, 500), Flow(0, 1, 500)) == 10.0


@pytest.mark.parametrize(("concurrency", "expected"), [(1, 25.0), (2, 33.3)])
def test_dirtying_costs_more_when_links_are_shared(concurrency: int, expected: float) -> None:
    # Alone 100 - 20 MiB/s are useful, twice; of half the link 50 - 20 are.
    assert took(Flow(0, 1, 1000, 20), Flow(0, 2, 1000, 20), concurrency=concurrency) == expected


@pytest.mark.parametrize(("concurrency", "expected"), [(1, 4), (2, 2), (3, 2), (4, 1)])
def test_not_more_moves_than_allowed_have_a_host_at_one_end(concurrency: int, expected: int) -> None:
    # The link of host 0 is wide, so that each move is as slow as its destination and rounds can be counted.
    links = {0: 10000.0, **dict.fromkeys(range(1, 5), 100.0)}
    flows = [Flow(0, number, 1000) for number in range(1, 5)]
    assert took(*flows, concurrency=concurrency, links=links) == 10.0 * expected


def test_the_largest_move_begins_first() -> None:
    # The other way round the small ones would be over long before.
    links = {0: 10000.0, 1: 100.0, 2: 100.0, 3: 100.0}
    flows = [Flow(0, 1, 500), Flow(0, 2, 500), Flow(0, 3, 1000)]
    assert took(*flows, links=links) == 10.0


def test_a_step_begins_when_the_one_before_has_ended() -> None:
    first, second = [Flow(0, 1, 1000), Flow(2, 3, 500)], [Flow(2, 1, 300)]
    assert seconds([first, second], LINKS, 2) == 13.0


def flows(dirty: float = 0.0) -> st.SearchStrategy[list[Flow]]:
    pairs = st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(lambda pair: pair[0] != pair[1])
    return st.lists(
        st.builds(lambda pair, mib, rate: Flow(*pair, mib, rate), pairs, st.integers(0, 5000), st.floats(0, dirty)),
        max_size=8,
    )


LINK = st.floats(10, 1000)


@given(flows(dirty=200), st.tuples(LINK, LINK, LINK, LINK), st.integers(1, 4))
def test_no_host_sends_or_receives_faster_than_its_link(
    moves: list[Flow], speeds: tuple[float, ...], concurrency: int
) -> None:
    links = dict(enumerate(speeds))
    sent, received = Counter[int](), Counter[int]()
    for move in moves:
        sent[move.source] += int(move.mib)
        received[move.destination] += int(move.mib)
    found = seconds([moves], links, concurrency)
    for host, speed in links.items():
        # A link carries both directions of a host's moves.
        assert found >= (sent[host] + received[host]) / speed - ROUNDED


@given(flows(), st.tuples(LINK, LINK, LINK, LINK), st.integers(1, 4))
def test_moves_at_once_take_no_longer_than_one_after_the_other(
    moves: list[Flow], speeds: tuple[float, ...], concurrency: int
) -> None:
    links = dict(enumerate(speeds))
    one_by_one = sum(move.mib / min(links[move.source], links[move.destination]) for move in moves)
    assert seconds([moves], links, concurrency) <= one_by_one + ROUNDED


@given(flows(dirty=200), st.tuples(LINK, LINK, LINK, LINK))
def test_with_one_move_at_a_time_dirtying_costs_no_more_than_one_after_the_other(
    moves: list[Flow], speeds: tuple[float, ...]
) -> None:
    links = dict(enumerate(speeds))
    alone = sum(seconds([[move]], links, 1) for move in moves)
    assert seconds([moves], links, 1) <= alone + ROUNDED * (1 + len(moves))
