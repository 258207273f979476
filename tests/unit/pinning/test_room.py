# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host can give a VM."""

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pin_rules import HostCpus
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import (
    Others,
    Room,
    ThreadPin,
    room_of,
    without_vm,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import (
    Cell,
    PageSize,
    format_cpuset,
    parse_cpuset,
)

from tests.unit.pinning.small import cells, claim

HOST = cells("0,4 1,5 | 2,6 3,7")


def room(others: Others | None = None, **sets: str) -> Room:
    cpus = HostCpus(**{name: parse_cpuset(text) for name, text in sets.items()})
    return room_of(HOST, cpus, others or Others())


def shown(found: Room) -> tuple[str, str]:
    return format_cpuset(found.dedicated), format_cpuset(found.shared)


@pytest.mark.parametrize(
    ("sets", "dedicated", "shared"),
    [
        ({}, "0-7", "0-7"),
        ({"reserved": "0,4"}, "1-3,5-7", "0-7"),
        ({"offline": "3"}, "0-2,4-7", "0-2,4-7"),
        ({"isolated": "2-3,6-7"}, "2-3,6-7", "0-1,4-5"),
        ({"isolated": "2-3,6-7", "reserved": "3"}, "2,6-7", "0-1,4-5"),
        ({"isolated": "2-3", "offline": "2-3"}, "0-1,4-7", "0-1,4-7"),
        ({"machine": "2-3,6-7"}, "2-3,6-7", "2-3,6-7"),
        ({"isolated": "2-3,6-7", "machine": "1-2,5-7"}, "2,6-7", "1,5"),
        ({"isolated": "0-7"}, "0-7", ""),
    ],
)
def test_own_cpus_come_from_the_isolated_ones_if_there_are_any(
    sets: dict[str, str], dedicated: str, shared: str
) -> None:
    assert shown(room(**sets)) == (dedicated, shared)


def test_what_others_own_or_are_pinned_to_is_not_to_be_had() -> None:
    pin = ThreadPin("web", "u2", False, "vCPU", 0, frozenset({7}))

    found = room(Others((claim("1,5"), claim("2", "log")), (pin,)))

    assert shown(found) == ("0,3-4,6", "0,3-4,6-7")
    assert found.owners == {1: "other", 5: "other", 2: "log"}


@pytest.mark.parametrize(
    ("claimed", "sets", "dedicated"),
    [
        ("", {}, "0-1,3-7"),
        ("2", {}, "0-1,3-5,7"),
        ("", {"reserved": "3"}, "0-2,4-7"),
        ("", {"isolated": "2,6"}, "2,6"),
        ("2-3,6-7", {}, "0-1,4-5"),
    ],
    ids=["nothing else", "a broken core", "reserved", "not isolated", "too late"],
)
def test_a_vm_that_shares_the_cpus_of_a_cell_keeps_one(claimed: str, sets: dict[str, str], dedicated: str) -> None:
    claims = (claim(claimed),) if claimed else ()
    assert format_cpuset(room(Others(claims, bound=frozenset({1})), **sets).dedicated) == dedicated


def test_cores_hold_the_threads_that_run() -> None:
    found = room(offline="5,3,7")
    assert [[format_cpuset(core) for core in cell.cores] for cell in found.cells] == [["0,4", "1"], ["2,6"]]


def test_memory_is_what_is_free_or_what_huge_pages_leave() -> None:
    pages = (PageSize(4, 900, 800), PageSize(2048, 3, 2), PageSize(1048576, 1))
    known = Cell(0, frozenset({0}), 2000000, pages=pages, free_kib=5000)
    unknown = Cell(1, frozenset({1}), 2000000, pages=pages)
    none = Cell(2, frozenset({2}), 0)

    found = room_of([known, unknown, none], HostCpus(), Others())

    assert [(cell.memory_kib, cell.has_memory) for cell in found.cells] == [
        (5000, True),
        (2000000 - 3 * 2048 - 1048576, True),
        (0, False),
    ]
    assert found.cells[0].pages == {2048: 2, 1048576: 1}
    assert [found.cells[0].memory(size) for size in (None, 2048, 64)] == [5000, 2, 0]


def test_what_a_vm_holds_itself_is_free_for_it() -> None:
    cell = Cell(0, frozenset({0}), 9000, pages=(PageSize(2048, 4, 1), PageSize(1048576, 1)), free_kib=5000)

    (plain,) = without_vm([cell], {0: 700, 1: 100})
    (huge,) = without_vm([cell], {0: 4096}, 2048)

    assert (plain.free_kib, plain.pages) == (5700, cell.pages)
    assert (huge.free_kib, huge.pages) == (5000, (PageSize(2048, 4, 3), PageSize(1048576, 1)))
