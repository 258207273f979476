# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import (
    MAX_CPUS,
    canonical_cpuset,
    format_cpuset,
    parse_cpuset,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("", set()),
        (" \n", set()),
        ("0", {0}),
        ("0,2-5,^4", {0, 2, 3, 5}),
        ("0,2,3,5", {0, 2, 3, 5}),
        ("1-3,5,6-8", {1, 2, 3, 5, 6, 7, 8}),
        (" 1 , 3-4 ", {1, 3, 4}),
        ("5,1,5", {1, 5}),
        ("007", {7}),
        ("^4", set()),
        ("^4,0-5", {0, 1, 2, 3, 4, 5}),
        ("3-3", {3}),
        (str(MAX_CPUS - 1), {MAX_CPUS - 1}),
    ],
)
def test_libvirt_notation_is_read(text: str, cpus: set[int]) -> None:
    assert parse_cpuset(text) == cpus


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "1,",
        ",1",
        "1--2",
        "5-2",
        "-1",
        "^2-4",
        "^",
        "1 2",
        "0x3",
        "1;2",
        "²",
        "16384",
        "0-99999999",
        "auto",
        "0-" + "9" * 5000,
    ],
)
def test_other_text_is_refused_by_name(text: str) -> None:
    with pytest.raises(FleetError) as caught:
        parse_cpuset(text)

    assert caught.value.code == "bad_cpuset"
    assert repr(text) in caught.value.msg
    assert caught.value.facts["cpuset"] == text


@pytest.mark.parametrize(
    ("cpus", "text"), [([], ""), ([3], "3"), ([1, 0], "0-1"), ([7, 0, 2, 1, 5, 5], "0-2,5,7"), (range(8), "0-7")]
)
def test_sets_are_printed_as_libvirt_does(cpus: list[int], text: str) -> None:
    assert format_cpuset(cpus) == text


SETS = st.frozensets(st.integers(0, MAX_CPUS - 1) | st.integers(0, 40))


@given(SETS)
def test_printing_and_reading_gives_the_same_set(cpus: frozenset[int]) -> None:
    assert parse_cpuset(format_cpuset(cpus)) == cpus


@given(SETS)
def test_a_set_has_one_canonical_spelling(cpus: frozenset[int]) -> None:
    spelled = ",".join(str(cpu) for cpu in sorted(cpus, reverse=True))

    assert canonical_cpuset(spelled) == format_cpuset(cpus)
    assert canonical_cpuset(format_cpuset(cpus)) == format_cpuset(cpus)


@given(st.text(alphabet="0123456789,-^ a", max_size=12))
def test_any_text_gives_a_set_or_our_error(text: str) -> None:
    with contextlib.suppress(FleetError):
        assert all(0 <= cpu < MAX_CPUS for cpu in parse_cpuset(text))
