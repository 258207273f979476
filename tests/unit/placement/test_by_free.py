# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.by_free import ByFree
from hypothesis import given
from hypothesis import strategies as st

AMOUNTS = st.integers(-3, 6)
HOSTS = st.lists(st.tuples(st.integers(0, 3), AMOUNTS), min_size=1, max_size=12)
CHANGES = st.lists(st.tuples(st.integers(0, 99), AMOUNTS), max_size=12)
KINDS = st.lists(st.integers(0, 4), unique=True)


def index_of(hosts: list[tuple[int, int]], changes: list[tuple[int, int]]) -> tuple[ByFree, list[int]]:
    """Return the index after the changes, and what the hosts have left then."""
    free = [amount for _kind, amount in hosts]
    index = ByFree([kind for kind, _amount in hosts], free)
    for number, after in changes:
        host = number % len(hosts)
        index.change(host, free[host], after)
        free[host] = after
    return index, free


@given(HOSTS, CHANGES, KINDS, AMOUNTS)
def test_hosts_of_some_kinds_that_have_an_amount_come_as_a_sort_would_bring_them(
    hosts: list[tuple[int, int]], changes: list[tuple[int, int]], kinds: list[int], amount: int
) -> None:
    index, free = index_of(hosts, changes)
    found = [host for host, (kind, _before) in enumerate(hosts) if kind in kinds and free[host] >= amount]
    assert list(index.with_least(kinds, amount)) == sorted(found, key=lambda host: (free[host], host))
    assert list(index.with_most(kinds, amount)) == sorted(found, key=lambda host: (-free[host], host))


@pytest.mark.parametrize(
    ("amount", "least", "most"),
    [(4, [1, 2, 4], [4, 1, 2]), (5, [4], [4]), (10, [], []), (-9, [3, 0, 1, 2, 4], [4, 1, 2, 0, 3])],
)
def test_of_hosts_that_have_the_same_the_first_comes_first(amount: int, least: list[int], most: list[int]) -> None:
    index = ByFree([0, 1, 0, 1, 0], [3, 4, 4, -1, 9])
    assert list(index.with_least((0, 1), amount)) == least
    assert list(index.with_most((0, 1), amount)) == most
