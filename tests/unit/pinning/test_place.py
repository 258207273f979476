# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pins that a policy gives a VM on a host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    IothreadPin,
    MemNode,
    NumaMemory,
    Pinning,
    PinningPolicy,
    VcpuPin,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pin_rules import HostCpus
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import (
    Guest,
    GuestCell,
    Misfit,
    Others,
    Placement,
    Room,
    ThreadPin,
    place,
    room_of,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import Cell, format_cpuset

from tests.unit.pinning.small import cells, claim, dedicated, guest, placed, refused, room, spots

NUMA = PinningPolicy("numa")
SMT2 = "0,4 1,5 2,6 3,7"
PAIRS = "0,1 2,3 4,5 6,7"
TWO = "0,4 1,5 | 2,6 3,7"


def one_cell(vcpus: int) -> Guest:
    return guest((vcpus, 1))


def cpus(found: Placement) -> str:
    """Give the CPUs in the order of the vCPUs; those of the emulator after a bar."""
    own = " ".join(format_cpuset(pin) for vcpu, pin in sorted(spots(found).items()))
    return f"{own} | {found.pinning.emulator}"


# nova/tests/unit/virt/test_hardware.py: whether it fits; which CPUs it gets is nova's own affair.
@pytest.mark.parametrize(
    ("host", "taken", "vcpus", "policy", "expected"),
    [
        ("0 1 2 3", "1", 3, dedicated(emulator="share"), None),
        ("0 1 2 3 4", "1", 3, dedicated(emulator="share"), "0 2 3 | 4"),
        ("0,1 2,3", "", 4, dedicated(), None),
        ("0,1 2,3 4", "", 4, dedicated(), "0 1 2 3 | 4"),
        ("0-3 4-7 8", "1,2,5,6", 4, dedicated(), "0 3 4 8 | 7"),
        ("0-3 4-7", "", 4, dedicated(emulator="share"), "0 1 2 3 | 4-7"),
        ("0 1 2 3 4 5 6 7", "", 4, dedicated("require", "share"), None),
        (SMT2, "0,1,2", 4, dedicated("require", "share"), None),
        (SMT2, "0,1", 4, dedicated("require", "share"), "2 6 3 7 | 4-5"),
        (PAIRS, "", 5, dedicated("prefer", "share"), "0 1 2 3 4 | 5-7"),
        (PAIRS, "0,2,5,6", 4, dedicated("prefer", "share"), None),
        (PAIRS + " 8", "0,2,5,6", 4, dedicated("prefer", "share"), "1 3 4 8 | 7"),
        ("0,1 2,3", "1", 2, dedicated("isolate", "share"), None),
        (SMT2, "0,1", 2, dedicated("isolate", "share"), "2 3 | 4-5"),
        ("0 1 2", "", 4, dedicated("prefer", "share"), None),
        ("0 1 2", "1", 3, dedicated("prefer", "share"), None),
        ("0,1", "", 1, dedicated(), "0 | 1"),
    ],
    ids=[
        "usage without threads: the last CPU is shared",
        "usage without threads",
        "all CPUs and no emulator's",
        "all CPUs and one for the emulator",
        "four threads with usage",
        "four threads, one core",
        "require without threads",
        "require with too few threads",
        "require with usage",
        "odd number",
        "orphans only: the last CPU is shared",
        "orphans",
        "isolate without enough free cores",
        "isolate with usage",
        "too large",
        "not available",
        "emulator on the sibling",
    ],
)
def test_what_nova_can_place_can_be_placed(
    host: str, taken: str, vcpus: int, policy: PinningPolicy, expected: str | None
) -> None:
    found = place(one_cell(vcpus), policy, room(cells(host), taken))
    assert (cpus(found) if isinstance(found, Placement) else None) == expected


# The rows of nova in which every CPU of the host is taken: there the emulator floats on CPUs that are nobody's.
@pytest.mark.parametrize(
    ("host", "taken", "vcpus", "threads", "fits"),
    [
        ("0 1 2 3", "1", 3, "prefer", True),
        ("0,1 2,3", "", 4, "prefer", True),
        ("0-3 4-7", "1,2,5,6", 4, "prefer", True),
        ("0-3 4-7", "", 4, "prefer", True),
        ("0 1 2 3 4 5 6 7", "", 4, "require", False),
        (SMT2, "0,1,2", 4, "require", False),
        (SMT2, "0,1", 4, "require", True),
        (PAIRS, "", 5, "prefer", True),
        (PAIRS, "0,2,5,6", 4, "prefer", True),
        ("0,1 2,3", "1", 2, "isolate", False),
        (SMT2, "0,1", 2, "isolate", True),
        ("0 1 2", "", 4, "prefer", False),
        ("0 1 2", "1", 3, "prefer", False),
    ],
)
def test_where_other_cpus_keep_house_the_verdict_is_novas(
    host: str, taken: str, vcpus: int, threads: str, fits: bool
) -> None:
    whole = cells(f"{host} 90")
    isolated = format_cpuset(whole[0].cpus - {90})
    found = place(one_cell(vcpus), dedicated(threads, "share"), room(whole, taken, isolated=isolated))
    assert isinstance(found, Placement) == fits
    assert not isinstance(found, Placement) or found.pinning.emulator == "90"


def test_an_isolated_emulator_is_in_the_host_cell_of_the_first_cell_of_the_guest() -> None:
    found = placed(guest((1, 1), (1, 1)), dedicated(), room(cells("0 1 | 2 3"), reserved="3"))
    assert cpus(found) == "0 2 | 1"
    assert cpus(placed(guest((2, 1), (1, 1)), dedicated(), room(cells("0 1 | 2 3 4")))) == "2 3 0 | 4"


@pytest.mark.parametrize(
    ("host", "taken", "vcpus", "threads", "policy", "expected"),
    [
        (SMT2, "", 2, 1, dedicated("isolate", "share"), "0 1 | 2-3,6-7"),
        (SMT2, "0", 2, 1, dedicated("isolate"), "1 2 | 4"),
        (SMT2, "", 3, 1, dedicated("isolate"), "0 1 2 | 3"),
        ("0,1 2 3 4,5", "", 2, 1, dedicated("isolate"), "2 3 | 0"),
        (SMT2, "", 3, 1, dedicated(), "0 4 1 | 5"),
        (SMT2, "6", 3, 1, dedicated(), "0 4 2 | 1"),
        (SMT2, "6", 4, 2, dedicated(), "0 4 1 5 | 2"),
        ("0-2 3-5 6", "2,5", 4, 2, dedicated(), "0 1 3 4 | 6"),
        ("0-2 3-5 6", "2,5", 4, 1, dedicated(), "0 1 3 6 | 4"),
        ("0-3 4-7", "", 4, 2, dedicated("require"), "0 1 2 3 | 4"),
        ("0-2 3,4 5,6", "", 4, 1, dedicated("require"), "0 1 3 4 | 2"),
        (SMT2, "", 3, 1, dedicated("require"), "0 4 1 | 5"),
        ("0 1 2 3,4", "", 2, 2, dedicated("prefer", "share"), "3 4 | 0-2"),
    ],
)
def test_threads_of_a_core_are_what_the_policy_says(
    host: str, taken: str, vcpus: int, threads: int, policy: PinningPolicy, expected: str
) -> None:
    found = placed(guest((vcpus, 1), threads=threads), policy, room(cells(host), taken))
    assert cpus(found) == expected


def test_isolate_keeps_the_siblings_empty() -> None:
    found = placed(one_cell(2), dedicated("isolate"), room(cells(SMT2)))

    assert (sorted(found.cpus), sorted(found.blocked)) == ([0, 1, 2], [4, 5])
    assert found.pinning.cpuset == "3,6-7"


def test_pins_of_a_guest_without_cells() -> None:
    vm = replace(guest((3, 8)), iothreads=(1, 4))
    found = placed(vm, dedicated(emulator="share"), room(cells("0 1 2 3 | 4 5 6 7", memory=(9, 10)), reserved="0"))

    assert found == Placement(
        Pinning(
            policy="dedicated",
            vcpus=(VcpuPin(0, "1"), VcpuPin(1, "2"), VcpuPin(2, "3")),
            emulator="0",
            iothreads=(IothreadPin(1, "0"), IothreadPin(4, "0")),
            cpuset="0",
            memory=NumaMemory("strict", "0"),
        ),
        cells=(0,),
        cpus=frozenset({1, 2, 3}),
    )


def test_pins_of_a_guest_with_cells() -> None:
    vm = replace(guest((1, 8), (1, 9), pages=None), iothreads=(1,))
    found = placed(vm, PinningPolicy("numa", memory_mode="restrictive"), room(cells(TWO, memory=(9, 10))))

    assert found == Placement(
        Pinning(
            policy="numa",
            vcpus=(VcpuPin(0, "0-1,4-5"), VcpuPin(1, "2-3,6-7")),
            emulator="0-7",
            iothreads=(IothreadPin(1, "0-7"),),
            cpuset="0-7",
            memory=NumaMemory("restrictive", "0-1"),
            cells=(MemNode(0, "restrictive", "0"), MemNode(1, "restrictive", "1")),
        ),
        cells=(0, 1),
    )


@pytest.mark.parametrize(
    ("host", "vm", "policy", "used"),
    [
        (cells("0 1 | 2 3 4"), guest((3, 1)), NUMA, (1,)),
        (cells("0 1 | 2 3 4"), guest((2, 1)), NUMA, (0,)),
        (cells("0 1 2 | 3 4"), guest((2, 1)), NUMA, (1,)),
        (cells("0 1 | 2 3 4"), guest((2, 1)), PinningPolicy("numa", host_cells=frozenset({1})), (1,)),
        (cells("0 1 | 2 3", memory=(1, 4)), guest((2, 3)), NUMA, (1,)),
        (cells("0 1 | 2 3", memory=(2, 3)), guest((2, 4)), NUMA, (0, 1)),
        (cells("0 1 | 2 3", memory=(2, 2)), guest((2, 3)), PinningPolicy("numa", memory_mode="interleave"), (0, 1)),
        (cells("0 1 | 2 3", memory=(2, 2)), guest((2, 3)), PinningPolicy("numa", memory_mode="preferred"), (0,)),
        (cells("0 1 | 2 3", memory=(2, 3)), guest((2, 3)), PinningPolicy("numa", memory_mode="preferred"), (1,)),
        (cells("0 1 | 2 3"), guest((1, 1), (1, 1)), NUMA, (0,)),
        (cells("0 1 | 2 3"), guest((2, 1), (1, 1)), NUMA, (0, 1)),
        (cells("0 1 | ", memory=(0, 9)), guest((2, 5)), NUMA, (0, 1)),
        (cells("0 1 | | 2", memory=(4, 9, 0)), guest((1, 3), (0, 5)), NUMA, (0, 1)),
        (cells("0 1 | 2 3", pages=(0, 2)), guest((2, 3000), pages=2048), NUMA, (1,)),
        (cells("0 1 | 2 3", pages=(1, 1)), guest((2, 3000), pages=2048), NUMA, (0, 1)),
    ],
)
def test_the_fewest_cells_that_hold_cpus_and_memory(
    host: tuple[Cell, ...], vm: Guest, policy: PinningPolicy, used: tuple[int, ...]
) -> None:
    assert placed(vm, policy, room(host)).cells == used


@pytest.mark.parametrize(
    ("crowd", "policy", "used"),
    [
        ({}, NUMA, (0,)),
        ({0: 1}, NUMA, (1,)),
        ({0: 1, 1: 2, 2: 3}, NUMA, (0,)),
        # What counts is how many share a CPU: 4 on 3 are less than 3 on 2.
        ({0: 3, 1: 3, 2: 4}, NUMA, (2,)),
        ({0: 1}, PinningPolicy("dedicated"), (0,)),
    ],
)
def test_vms_that_share_cpus_spread_over_cells(
    crowd: dict[int, int], policy: PinningPolicy, used: tuple[int, ...]
) -> None:
    there = room_of(cells("0 1 | 2 3 | 4 5 6"), HostCpus(), Others(crowd=crowd))
    assert placed(guest((1, 1)), policy, there).cells == used


def test_near_cells_count_more_than_empty_ones() -> None:
    apart = [[10, 12, 20, 20], [12, 10, 20, 20], [20, 20, 10, 14], [20, 20, 14, 10]]
    there = room_of(cells("0 | 1 | 2 | 3", distances=apart), HostCpus(), Others(crowd={0: 4, 1: 4}))
    assert placed(guest((2, 1)), NUMA, there).cells == (0, 1)


@pytest.mark.parametrize(
    ("policy", "memory"),
    [
        (NUMA, NumaMemory("strict", "1")),
        (PinningPolicy("numa", memory_mode="interleave"), NumaMemory("interleave", "1")),
    ],
)
def test_a_cell_without_memory_is_not_named_for_memory(policy: PinningPolicy, memory: NumaMemory) -> None:
    assert placed(guest((2, 5)), policy, room(cells("0 1 | ", memory=(0, 9)))).pinning.memory == memory


def test_the_mode_preferred_names_one_cell() -> None:
    policy = PinningPolicy("numa", memory_mode="preferred")

    found = placed(guest((2, 3), (2, 3)), policy, room(cells("0 1 | 2 3", memory=(3, 4))))

    assert found.pinning.memory == NumaMemory("preferred", "0")
    assert [cell.node for cell in found.pinning.cells] == ["0", "1"]


LINE = [[10, 20, 30], [20, 10, 20], [30, 20, 10]]


@pytest.mark.parametrize(
    ("distances", "used"),
    [((), (0, 1)), (LINE, (0, 1)), ([[10, 20, 12], [20, 10, 20], [12, 20, 10]], (0, 2))],
)
def test_of_as_many_cells_those_that_are_near_each_other(distances: Any, used: tuple[int, ...]) -> None:
    assert placed(guest((4, 1)), NUMA, room(cells("0 1 | 2 3 | 4 5", distances=distances))).cells == used


def test_of_as_near_cells_those_whose_cores_stay_whole_and_then_those_with_least_left() -> None:
    half_taken = room(cells("0,1 2,3 | 4,5 6,7 | 8,9 10,11 12,13"), taken="0,2,4,6")
    assert placed(one_cell(2), dedicated(emulator="share"), half_taken).cells == (2,)
    larger_first = room(cells("0 1 2 3 | 4 5 6 | 7 8 9"))
    assert placed(one_cell(2), dedicated(emulator="share"), larger_first).cells == (1,)


def test_a_vm_that_a_greedy_choice_of_the_emptiest_socket_misses() -> None:
    """The large cell of the guest needs the cell that is emptiest; whoever starts with the small one fills it."""
    vm = guest((2, 4), (4, 8))

    found = placed(vm, dedicated(emulator="share"), room(cells("0 1 2 3 4 | 5 6 7", memory=(8, 7))))

    assert [cell.node for cell in found.pinning.cells] == ["1", "0"]
    assert cpus(found) == "5 6 0 1 2 3 | 4,7"


def test_memory_of_several_cells_that_only_an_exact_search_packs() -> None:
    vm = guest((1, 6), (1, 5), (1, 5), (1, 4), (1, 4), (1, 3))

    found = placed(vm, NUMA, room(cells("0 1 2 3 | 4 5 6 7", memory=(14, 13))))

    assert found.cells == (0, 1)
    assert refused(vm, NUMA, room(cells("0 1 2 3 | 4 5 6 7", memory=(25, 2)))).code == "memory_short"


# Memory keeps the cells of these guests apart.
APART = guest((3, 9), (3, 9))


@pytest.mark.parametrize(
    ("vm", "host", "used"),
    [
        (guest((3, 9), (2, 9)), "0,1 2,3 | 4,5 6,7", (0, 1)),
        (guest((1, 9), (2, 9)), "0,1 2,3 | 4,5 6,7", (0, 1)),
        (APART, "0,1 2,3 | 4,5 6,7", None),
        (guest((1, 9), (1, 9)), "0-2 | 4-6", None),
        (APART, "0,1 2,3 | 4,5 6,7 | 8-11", (0, 2)),
        (APART, "0-3 | 4-7", (0, 1)),
        (guest((3, 4), (3, 4)), "0,1 2,3 4,5", (0,)),
    ],
)
def test_require_leaves_at_most_one_vcpu_of_the_vm_alone(vm: Guest, host: str, used: tuple[int, ...] | None) -> None:
    whole = cells(host, memory=[9] * 3)
    found = place(vm, dedicated("require", "share"), room((*whole, *other_cell(len(whole)))))
    assert (found.cells if isinstance(found, Placement) else None) == used


def other_cell(number: int) -> tuple[Cell, ...]:
    """Give a cell for whatever floats."""
    return (Cell(number, frozenset({99}), 0),)


def test_an_emulator_may_be_all_that_a_host_cell_is_used_for() -> None:
    found = placed(guest((1, 0)), dedicated("isolate"), room(cells("0,2 1,5 | 3,4"), taken="0-1"))
    assert (cpus(found), found.cells) == ("3 | 2", (0, 1))


def test_the_cell_that_has_a_cpu_for_the_emulator_too_is_not_overlooked() -> None:
    found = placed(guest((2, 9), (2, 9)), dedicated(), room(cells("0 1 | 2 3 | 4 5 6", memory=[9] * 3)))
    assert cpus(found) == "4 5 0 1 | 6"


def test_cells_of_a_guest_go_where_cores_stay_whole() -> None:
    found = placed(guest((2, 9), (1, 9)), dedicated(emulator="share"), room(cells("0 1 2 | 4,5", memory=[9] * 2)))
    assert cpus(found) == "4 5 0 | 1-2"


@pytest.mark.parametrize("vm", [guest((4, 1)), guest((2, 1), (2, 1))])
def test_the_last_shared_cpu_stays_shared(vm: Guest) -> None:
    host = cells("0 1 | 2 3")

    assert refused(vm, dedicated(emulator="share"), room(host)).code == "no_shared_cpu"
    assert placed(vm, dedicated(emulator="share"), room((*host, *other_cell(2)))).pinning.emulator == "99"


@pytest.mark.parametrize(
    ("vm", "policy", "host", "code", "facts", "words"),
    [
        (
            one_cell(4),
            dedicated("isolate"),
            room(cells(TWO), taken="0"),
            "not_enough_cores",
            {
                "needed": 5,
                "missing": 2,
                "available": 3,
                "cells": [{"cell": 0, "available": 1}, {"cell": 1, "available": 2}],
            },
            "needs 4 cores of which nobody has a thread and one for its emulator, but there are 3: 1 in cell 0, 2 in",
        ),
        (
            guest((3, 1), (1, 1)),
            NUMA,
            room(cells("0 1 | 2 3")),
            "not_enough_cores",
            {"needed": 4, "missing": 1, "available": 4},
            "needs 4 shared CPUs (3 + 1 in one cell each), but there are 4: 2 in cell 0, 2 in cell 1; 1 more in cell 0 "
            "would do. Free some",
        ),
        (
            guest((2, 1), (2, 1), (2, 1)),
            NUMA,
            room(cells("0 1 2 | 3 4 5")),
            "not_enough_cores",
            {"needed": 6, "missing": 1, "missing_in": 0, "available": 6},
            "3 in cell 0, 3 in cell 1; 1 more in cell 0 would do. Free some",
        ),
        (
            guest((1, 5), (1, 1)),
            NUMA,
            room(cells("0 | 1", memory=(4, 4))),
            "memory_short",
            {"needed": 6, "missing": 1},
            "but free are 4 in cell 0, 4 in cell 1; 1 more in cell 0 would do. Free some there",
        ),
        (
            guest((2, 9), (1, 1)),
            NUMA,
            room(cells("0 1 | 2", memory=(4, 9))),
            "memory_short",
            {"needed": 10, "missing": 5, "missing_in": 0},
            "free are 4 in cell 0, 9 in cell 1; 5 more in cell 0 would do.",
        ),
        (
            guest((2, 6), (2, 6)),
            NUMA,
            room(cells("0 1 | 2 3 | 4", memory=(4, 4, 9))),
            "memory_short",
            {"needed": 12, "missing": 2},
            "free are 4 in cell 0, 4 in cell 1, 9 in cell 2; 2 more in each would do.",
        ),
        (
            guest((3, 1), (3, 1)),
            dedicated("require", "share"),
            room(cells("0,1 2,3 | 4,5 6 | 7")),
            "not_enough_cores",
            {"needed": 6, "missing": 2, "missing_in": 0, "available": 6},
            "4 in cell 0, 2 in cell 1, 0 in cell 2; 2 more in cell 0 would do.",
        ),
        (
            one_cell(2),
            dedicated(),
            room(cells("0 1 2 | 3 4"), isolated="1"),
            "not_enough_cores",
            {"needed": 3, "missing": 2, "available": 1},
            "needs 2 isolated CPUs that nobody else has and one for its emulator, but there are 1: 1 in cell 0, 0 in "
            "cell 1. Not counted: CPU 0,2-4 that are not isolated. Free or isolate some, or choose",
        ),
        (
            guest((1, 9)),
            NUMA,
            room(cells("0 | 1", memory=(3, 5))),
            "memory_short",
            {"needed": 9, "missing": 1, "free": [{"cell": 0, "free": 3}, {"cell": 1, "free": 5}]},
            "needs 9 KiB in the NUMA cells of its CPUs, but free are 3 in cell 0, 5 in cell 1.",
        ),
        (
            guest((1, 9000), pages=2048),
            NUMA,
            room(cells("0 | 1", pages=(1, 3))),
            "huge_pages_short",
            {"size_kib": 2048, "needed": 5, "free": [{"cell": 0, "free": 1}, {"cell": 1, "free": 3}]},
            "needs 5 huge pages of 2048 KiB in the NUMA cells",
        ),
        (one_cell(1), NUMA, room(cells("0 1"), isolated="0-1"), "no_shared_cpu", {"shared": 0}, "no CPU would be left"),
        (one_cell(2), dedicated(emulator="share"), room(cells("0 1")), "no_shared_cpu", {"shared": 2}, "its emulator"),
        (
            one_cell(1),
            dedicated(),
            room(cells("0 1"), floating=True),
            "no_shared_cpu",
            {"shared": 2, "missing": 1},
            "of the 2 that VMs share (0-1), no CPU would be left to threads that have none of their own, such as its "
            "emulator or other VMs; 1 more would do.",
        ),
        (
            one_cell(1),
            PinningPolicy("numa", host_cells=frozenset({0, 3})),
            room(cells("0 1")),
            "no_such_cell",
            {"cells": [3], "known": [0]},
            "is to use NUMA cell 3, but the host has 0.",
        ),
    ],
)
def test_a_refusal_says_what_is_missing_and_by_how_much(
    vm: Guest, policy: PinningPolicy, host: Room, code: str, facts: dict[str, Any], words: str
) -> None:
    found = refused(vm, policy, host)

    assert found.code == code
    assert {key: found.facts[key] for key in facts} == facts
    assert found.text.startswith("VM db1 ")
    assert words in found.text


def test_cpus_that_are_nobodys_but_not_to_be_had_are_told() -> None:
    by_hand = ThreadPin("web", "u-web", True, "vcpu", 0, frozenset({1}))
    free = room_of(
        cells("0 1 2 3 4 5"),
        HostCpus(machine=frozenset(range(5)), reserved=frozenset({0})),
        Others((claim("4"),), (by_hand,)),
    )
    text = refused(one_cell(4), dedicated("prefer", "share"), free).text
    assert (
        "there are 2: 2 in cell 0. Not counted: CPU 1 to which the user pinned web, CPU 0 that are reserved, CPU 5 "
        "outside of machine.slice. Free some"
    ) in text


def test_many_cells_are_listed_in_the_facts_only() -> None:
    host = room(cells(" | ".join(str(number) for number in range(20)), memory=[1] * 20))

    found = refused(guest((1, 30)), NUMA, host)

    assert found.text.count(" in cell ") == 8
    assert "and some in 12 more" in found.text
    assert len(found.facts["free"]) == 20


def large_host(claimed: int = 0) -> Room:
    """Eight sockets of eight cells with eight cores of two threads; numbers are neither in order nor without gaps."""
    found = []
    for number in range(64):
        cores = tuple(frozenset({number + 64 * core, 4096 + number + 64 * core}) for core in range(8))
        distances = tuple(10 if n == number else 12 if n // 8 == number // 8 else 32 for n in range(64))
        memory = 1000 + 7919 * number % 64
        found.append(Cell(3 * number, frozenset().union(*cores), memory, distances, siblings=cores, free_kib=memory))
    taken = frozenset(cpu for cell in found[:claimed] for cpu in list(cell.cpus)[:3])
    return room_of(found, HostCpus(reserved=taken), Others())


@pytest.mark.parametrize("policy", [NUMA, dedicated(), dedicated("isolate"), dedicated("require")])
def test_a_large_host_gives_a_large_guest_one_socket(policy: PinningPolicy) -> None:
    vcpus = 7 if policy.thread_policy == "isolate" else 14
    vm = guest(*[(vcpus, 900)] * 8)

    found = placed(vm, policy, large_host(claimed=11))

    # In socket 0 and in a part of socket 1 CPUs are reserved.
    assert found.cells == tuple(3 * number for number in (range(8) if policy == NUMA else range(16, 24)))


def test_vcpus_keep_their_numbers_where_some_are_missing() -> None:
    vm = Guest("db1", "u", (1, 4, 9), 12, 1, (GuestCell(0, (4, 9), 1), GuestCell(2, (1,), 1)), numa=True)

    found = placed(vm, dedicated(emulator="share"), room(cells("10 20 | 30 40", memory=(1, 1))))

    assert {vcpu: format_cpuset(pin) for vcpu, pin in spots(found).items()} == {1: "30", 4: "10", 9: "20"}
    assert found.pinning.cells == (MemNode(0, "strict", "0"), MemNode(2, "strict", "1"))


def test_a_vm_that_fits_is_no_misfit() -> None:
    assert not isinstance(place(one_cell(1), NUMA, room(cells("0"))), Misfit)
