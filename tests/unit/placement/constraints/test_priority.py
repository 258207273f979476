# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.placement.fleet import ask, drain, fleet, host, steps, vm, where


def important(name: str, on: str, gib: float, priority: int | None, **policy: Any) -> dict[str, Any]:
    return vm(name, on, gib, policy={"priority": priority, **policy})


def moved(hv2: float, *vms: dict[str, Any]) -> set[str]:
    """Return which VMs leave hv1 for hv2, as many as possible."""
    return set(where(drain(fleet([host("hv1", 64), host("hv2", hv2)], list(vms)), "hv1", best_effort=True)))


@pytest.mark.parametrize(("first", "second"), [(1, None), (0, -1), (-1, -2), (10, 9)])
@pytest.mark.parametrize(("large", "small"), [(4, 4), (4, 3)])
def test_where_there_is_room_for_one_the_more_important_vm_gets_it(
    first: int, second: int | None, large: float, small: float
) -> None:
    for more, less in ((large, small), (small, large)):
        assert moved(4, important("a", "hv1", less, second), important("b", "hv1", more, first)) == {"b"}


def test_one_important_vm_goes_rather_than_several_others() -> None:
    others = [important(f"web{number}", "hv1", 1, 0) for number in range(4)]
    assert moved(4, *others, important("db", "hv1", 4, 5)) == {"db"}
    assert len(moved(4, *others, important("db", "hv1", 4, 0))) == 4


def test_what_an_important_vm_leaves_is_for_the_others() -> None:
    others = [important("app", "hv1", 3, 0), important("web", "hv1", 1, 0)]
    assert moved(4, *others, important("db", "hv1", 3, 5)) == {"db", "web"}


def test_an_important_vm_that_cannot_move_keeps_nobody_else() -> None:
    assert moved(4, important("db", "hv1", 5, 5), important("web", "hv1", 1, 0)) == {"web"}


def test_a_group_is_as_important_as_its_most_important_vm() -> None:
    group = [important(name, "hv1", 2, priority, keep_together=["app"]) for name, priority in (("a", 0), ("b", 9))]
    assert moved(4, important("c", "hv1", 4, 5), *group) == {"a", "b"}


def test_of_equally_important_vms_as_many_as_possible_go() -> None:
    vms = [important("a", "hv1", 3, 5), important("b", "hv1", 2, 5), important("c", "hv1", 2, 5)]
    assert moved(4, *vms) == {"b", "c"}


def test_more_of_the_important_vms_go_rather_than_more_in_all() -> None:
    vms = [important(name, "hv1", gib, 10) for name, gib in (("a", 4), ("b", 4), ("c", 5))]
    vms += [important(f"web{number}", "hv1", 1, 0) for number in range(3)]
    assert moved(8, *vms) == {"a", "b"}


def test_a_less_important_vm_does_not_take_room_for_which_a_more_important_one_waits() -> None:
    vms = [
        important("db", "hv3", 8, 10, home="hv1"),
        important("web", "hv3", 4, 0, home="hv1"),
        important("old", "hv1", 4, 0, home="hv2"),
    ]
    answer = ask(fleet([host("hv1", 8), host("hv2"), host("hv3")], vms), "refill", hosts=["hv1", "hv2"])
    assert where(answer) == {"old": "hv2", "db": "hv1"}


@pytest.mark.parametrize("priority", [0, 5])
def test_where_all_have_room_priorities_change_nothing(priority: int) -> None:
    vms = [important("a", "hv1", 4, 0), important("b", "hv1", 2, priority), important("c", "hv1", 2, 0)]
    answer = drain(fleet([host("hv1"), host("hv2", 4), host("hv3", 4)], vms), "hv1")
    assert answer["feasible"]
    assert (answer["totals"]["moves"], len(steps(answer))) == (3, 1)


@st.composite
def fleets(draw: st.DrawFn) -> dict[str, Any]:
    sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    targets = [host(f"hv{number}", size) for number, size in enumerate(sizes, start=2)]
    vms = []
    for number in range(draw(st.integers(1, 7))):
        groups = draw(st.lists(st.sampled_from("xy"), max_size=1))
        apart = {"keep_apart": groups}
        vms.append(important(f"vm{number}", "hv1", draw(st.integers(1, 4)), draw(st.integers(0, 2)), **apart))
    return fleet([host("hv1", 64), *targets], vms)


@given(fleets())
@settings(max_examples=150)
def test_a_vm_that_stays_would_find_no_room_if_the_less_important_ones_had_stayed(snapshot: dict[str, Any]) -> None:
    there = where(drain(snapshot, "hv1", best_effort=True))
    vms = {item["name"]: item for item in snapshot["vms"]}
    for name in vms.keys() - there:
        staying, groups = vms[name], set(vms[name]["policy"]["keep_apart"])
        for target in snapshot["hosts"][1:]:
            others = [vms[other] for other, end in there.items() if end == target["name"]]
            others = [each for each in others if each["policy"]["priority"] >= staying["policy"]["priority"]]
            clash = any(groups & set(each["policy"]["keep_apart"]) for each in others)
            used = sum(each["memory_kib"] for each in others)
            assert clash or used + staying["memory_kib"] > target["memory_kib"], (name, target["name"])
