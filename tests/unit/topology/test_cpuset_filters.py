# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.virtops.kvm_fleet.plugins.filter.cpuset import FilterModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import MAX_CPUS
from hypothesis import given
from hypothesis import strategies as st

FILTERS = FilterModule().filters()
cpuset_to_list, list_to_cpuset = FILTERS["cpuset_to_list"], FILTERS["list_to_cpuset"]


@pytest.mark.parametrize(
    ("cpuset", "numbers"),
    [("0-3,8,^2", [0, 1, 3, 8]), ("8,0-3,^2", [0, 1, 3, 8]), ("", []), (5, [5]), (str(MAX_CPUS - 1), [MAX_CPUS - 1])],
)
def test_a_set_becomes_its_numbers_in_ascending_order(cpuset: Any, numbers: list[int]) -> None:
    assert cpuset_to_list(cpuset) == numbers


@pytest.mark.parametrize(
    ("numbers", "cpuset"),
    [
        ([0, 1, 3, 8], "0-1,3,8"),
        ([8, 3, 1, 0, 1], "0-1,3,8"),
        ({4, 5, 6}, "4-6"),
        ([], ""),
        # What a template made of numbers
        (["1", "02"], "1-2"),
        ([MAX_CPUS - 1], str(MAX_CPUS - 1)),
    ],
)
def test_numbers_become_a_set_as_libvirt_prints_it(numbers: Any, cpuset: str) -> None:
    assert list_to_cpuset(numbers) == cpuset


@given(st.frozensets(st.integers(0, MAX_CPUS - 1)))
def test_there_and_back_is_the_same_set(numbers: frozenset[int]) -> None:
    assert cpuset_to_list(list_to_cpuset(numbers)) == sorted(numbers)


@pytest.mark.parametrize(
    ("cpuset", "named"),
    [
        ("0-x", "'0-x'"),
        ("5-2", "'5-2'"),
        ("^1-2", "'^1-2'"),
        (f"0-{MAX_CPUS}", str(MAX_CPUS)),
        ("0-99999999999", "0-99999999999"),
        (-1, "'-1'"),
        ([0, 1], "[0, 1]"),
        (None, "None"),
        (True, "True"),
        (1.5, "1.5"),
    ],
)
def test_what_is_no_set_is_named(cpuset: Any, named: str) -> None:
    with pytest.raises(AnsibleFilterError, match="cpuset_to_list") as caught:
        cpuset_to_list(cpuset)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("numbers", "named"),
    [
        ("0-3", "'0-3'"),
        (7, "7"),
        (None, "None"),
        ({"a": 1}, "'a'"),
        ([0, -1], "-1"),
        ([MAX_CPUS], str(MAX_CPUS)),
        (["9" * 5000], "99999"),
        ([1.5], "1.5"),
        ([True], "True"),
        (["0-3"], "'0-3'"),
        (["²"], "'²'"),
        ([[1]], "[1]"),
        ([None], "None"),
    ],
)
def test_what_is_no_list_of_numbers_is_named(numbers: Any, named: str) -> None:
    with pytest.raises(AnsibleFilterError, match="list_to_cpuset") as caught:
        list_to_cpuset(numbers)
    assert named in str(caught.value)
