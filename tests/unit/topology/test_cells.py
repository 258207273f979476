# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""NUMA cells as a fleet snapshot has them, odd ones included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import (
    Cell,
    cells_from_data,
    distances_between,
    format_cpuset,
    from_capabilities,
    parse_cpuset,
)
from hypothesis import given
from hypothesis import strategies as st

FIXTURES = Path(__file__).parent / "fixtures"


def cell(number: int, cpus: str, *siblings: str, memory_kib: int = 1024) -> Cell:
    return Cell(number, parse_cpuset(cpus), memory_kib, siblings=tuple(parse_cpuset(core) for core in siblings))


@pytest.mark.parametrize("name", ["capabilities.xml", "odd_cells.xml"])
def test_what_a_snapshot_says_of_cells_is_read_back(name: str) -> None:
    cells = from_capabilities((FIXTURES / name).read_text(encoding="utf-8")).cells

    assert cells_from_data([each.as_dict() for each in cells]) == cells


def test_free_memory_and_pages_are_read_too() -> None:
    data = {"id": 3, "memory_kib": 9, "free_kib": 7, "pages": [{"size_kib": 2048, "total": 4, "free": 1}]}

    (found,) = cells_from_data([data])

    assert found.free_kib == 7
    assert found.pages[0].free == 1
    assert found.as_dict() == {"cpus": "", "distances": [], "siblings": [], **data}


def test_a_cell_that_says_nothing_has_its_position_as_number() -> None:
    assert cells_from_data([{}, {}]) == (Cell(0, frozenset(), 0), Cell(1, frozenset(), 0))
    assert cells_from_data(None) == ()


def test_cells_in_any_order_keep_their_distances() -> None:
    data = [{"id": 7, "distances": [10, 21, 32]}, {"id": 4, "distances": [21, 10, 43]}, {"id": 70, "distances": [1]}]

    cells = cells_from_data(data)

    assert [each.id for each in cells] == [4, 7, 70]
    assert distances_between(cells) == {
        4: {4: 10, 7: 21, 70: 43},
        7: {4: 21, 7: 10, 70: 32},
        # What does not say how far it is from all of them says nothing.
        70: {4: 20, 7: 20, 70: 10},
    }


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("0-3", "cells must be a list, not '0-3'."),
        (["0-3"], "cells must be a list of mappings, not ['0-3']."),
        ([{"id": "0"}], "cells[0]: id must be a whole number, not '0'."),
        ([{}, {"cpus": 3}], "cells[1]: cpus must be a set such as '0-3,8', not 3."),
        ([{"cpus": "3-1"}], "cells[0]: cpus must be a set such as '0-3,8', not '3-1'."),
        ([{"siblings": "0,1"}], "cells[0]: siblings must be a list, not '0,1'."),
        ([{"siblings": [1]}], "cells[0]: siblings must be a set such as '0-3,8', not 1."),
        ([{"memory_kib": -1}], "cells[0]: memory_kib must be a whole number, not -1."),
        ([{"free_kib": True}], "cells[0]: free_kib must be a whole number, not True."),
        ([{"distances": ["x"]}], "cells[0]: distances must be a whole number, not 'x'."),
        ([{"pages": [4]}], "cells[0]: pages must be a list of mappings, not [4]."),
        ([{"id": 1}, {"id": 1}], "cells must be a list of cells with different ids, not [1, 1]."),
    ],
)
def test_a_wrong_field_is_named_with_its_cell(data: Any, message: str) -> None:
    with pytest.raises(FleetError) as caught:
        cells_from_data(data)
    assert (caught.value.code, caught.value.msg) == ("bad_cells", message)


@pytest.mark.parametrize(
    ("given", "cores"),
    [
        (cell(0, "0-3", "0,2", "1,3"), ["0,2", "1,3"]),
        (cell(0, "0-3"), ["0", "1", "2", "3"]),
        (cell(0, "0-5", "4", "0-1", "2-3", "5"), ["0-1", "2-3", "4", "5"]),
        (cell(0, "0-2", "0-1"), ["0-1", "2"]),
        (cell(0, "0-2", "0-1", "2-3"), ["0-1", "2"]),
        (cell(0, "0-2", "0-1", "1-2"), ["0-1", "2"]),
        (cell(0, "64,190,700", "64,190", "700"), ["64,190", "700"]),
        (cell(4, ""), []),
    ],
    ids=["threads", "no siblings", "hybrid", "some siblings", "offline sibling", "overlap", "many CPUs", "memory only"],
)
def test_every_cpu_is_in_one_core(given: Cell, cores: list[str]) -> None:
    assert [format_cpuset(core) for core in given.cores] == cores


SETS = st.frozensets(st.integers(0, 9))


@given(SETS, st.lists(SETS, max_size=5))
def test_cores_divide_the_cpus_whatever_siblings_say(cpus: frozenset[int], siblings: list[frozenset[int]]) -> None:
    cores = Cell(0, cpus, 0, siblings=tuple(siblings)).cores

    assert sum(len(core) for core in cores) == len(cpus)
    assert frozenset().union(*cores) == cpus
    assert all(cores)
