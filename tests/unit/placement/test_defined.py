# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What counts where a running VM is to start with something else than it runs with."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.placement.fleet import GIB, codes, drain, fleet, steps, vm, where
from tests.unit.placement.tied import machine, tied, vcpu_sets


def defined(cpus: str = "", policy: str | None = "dedicated", **fields: Any) -> dict[str, Any]:
    """Give the definition of a VM with pins on each of ``cpus``."""
    made = tied("", "", cpus, policy or "none", **fields)
    made["policy"] = made["policy"] if policy else {}
    return {key: value for key, value in made.items() if key not in ("name", "uuid", "host") and value is not None}


def moves(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {move["vm"]: move for step in steps(answer) for move in step}


def pages(count: int) -> dict[str, Any]:
    return {"cell_fields": {0: {"pages": [{"size_kib": 2048, "total": 2048, "free": count}]}}}


@pytest.mark.parametrize(
    "grown",
    [
        tied("grown", "hv2", "0 1", defined=defined("0 1 2 3")),
        tied("grown", "hv2", "2 3", defined=defined("0 1")),
        vm("grown", "hv2", vcpus={"current": 2}, defined=defined("0 1 2 3")),
        tied("grown", "hv2", "0 1 2 3", defined=defined("", "none")),
        tied("grown", "hv2", "0 1 2 3", defined=defined("", None)),
    ],
)
def test_cpus_of_the_definition_and_of_the_running_vm_are_both_taken(grown: dict[str, Any]) -> None:
    answer = drain(fleet([machine("hv1"), machine("hv2")], [grown, tied("new", "hv1", "2 3")]), "hv1")
    assert vcpu_sets(moves(answer)["new"]["pins"]) == ["4", "5"]


def test_the_definition_of_a_vm_that_is_off_is_all_there_is() -> None:
    grown = tied("grown", "hv2", "0 1", state="shutoff", defined=defined("0 1 2 3"))
    answer = drain(fleet([machine("hv1"), machine("hv2")], [grown, tied("new", "hv1", "5 6")]), "hv1")
    assert vcpu_sets(moves(answer)["new"]["pins"]) == ["2", "3"]


@pytest.mark.parametrize(
    ("guest", "pins"),
    [
        (tied("grown", "hv1", "0 1", defined=defined("0 1 2 3")), ["0", "1", "2", "3"]),
        (tied("grown", "hv1", "0 1 2", defined=defined("0")), ["0", "1", "2"]),
        (vm("grown", "hv1", vcpus={"current": 2}, defined=defined("4 5 6")), ["0", "1", "2"]),
        (tied("grown", "hv1", "5 6", defined=defined("", "none", vcpus=2)), ["0", "1"]),
        (tied("grown", "hv1", "0-7 0-7", "numa", defined=defined("4 5")), ["0", "1"]),
        (tied("grown", "hv1", "4 5", defined=defined("0-7 0-7", "numa")), ["0", "1"]),
        (tied("grown", "hv1", "4 5", "manual", defined=defined("6 7 2", "manual")), ["4", "5", "2"]),
        (vm("grown", "hv1", vcpus={"current": 2}, defined=defined("6 7", None)), ["6", "7"]),
    ],
)
def test_a_move_has_pins_for_all_that_the_vm_has_now_or_after_its_next_start(
    guest: dict[str, Any], pins: list[str]
) -> None:
    move = moves(drain(fleet([machine("hv1"), machine("hv2")], [guest]), "hv1"))["grown"]
    assert vcpu_sets(move["pins"]) == pins


def test_iothreads_of_both_get_a_place() -> None:
    guest = tied("grown", "hv1", "0 1", iothreads=[1], defined=defined("0 1", iothreads=[1, 2]))
    move = moves(drain(fleet([machine("hv1"), machine("hv2")], [guest]), "hv1"))["grown"]
    assert [pin["iothread"] for pin in move["pins"]["iothreads"]] == [1, 2]


def test_a_host_without_room_for_the_grown_vm_is_none_for_it() -> None:
    guest = tied("grown", "hv1", "0 1", defined=defined("0 1 2 3"))
    answer = drain(fleet([machine("hv1"), machine("hv2", "0-3"), machine("hv3")], [guest]), "hv1")
    assert where(answer) == {"grown": "hv3"}


@pytest.mark.parametrize(
    ("now", "then", "free", "code"),
    [
        (None, 2048, 1024, None),
        (None, 2048, 1023, "huge_pages_short"),
        (2048, None, 1024, None),
        (2048, None, 1023, "huge_pages_short"),
    ],
)
def test_pages_must_be_there_for_the_running_vm_and_for_its_next_start(
    now: int | None, then: int | None, free: int, code: str | None
) -> None:
    guest = tied("grown", "hv1", "0 1", gib=2, huge_pages_kib=now, defined=defined("0 1", gib=2, huge_pages_kib=then))
    answer = drain(fleet([machine("hv1"), machine("hv2", **pages(free))], [guest]), "hv1")
    assert codes(answer, "grown") == ({("hv2", code)} if code else set())


def test_memory_of_the_running_vm_is_taken_once() -> None:
    there = tied("there", "hv2", "0", gib=3, pinning={"memory": {"mode": "strict", "nodes": "0"}})
    there["defined"] = defined("0 1", gib=3, pinning={"memory": {"mode": "strict", "nodes": "0"}})
    for gib, feasible in ((5, True), (6, False)):
        new = tied("new", "hv1", "5", gib=gib)
        hosts = [machine("hv1"), machine("hv2")]
        hosts[1]["memory_kib"] = 64 * GIB
        assert drain(fleet(hosts, [there, new]), "hv1")["feasible"] == feasible


@pytest.mark.parametrize(("free", "feasible"), [(2048, True), (2047, False)])
def test_pages_of_the_running_vm_are_taken_where_it_comes(free: int, feasible: bool) -> None:
    first = tied("first", "hv1", "0 1", gib=2, huge_pages_kib=2048, defined=defined("0 1", gib=2))
    second = tied("second", "hv1", "2", gib=2, huge_pages_kib=2048)
    assert drain(fleet([machine("hv1"), machine("hv2", **pages(free))], [first, second]), "hv1")["feasible"] == feasible


def test_pages_of_a_running_vm_that_is_to_have_none_later_are_needed_once_more() -> None:
    guest = vm("grown", "hv1", 2, vcpus={"current": 1}, huge_pages_kib=2048, defined={"vcpus": {"current": 1}})
    answer = drain(fleet([machine("hv1"), machine("hv2", **pages(1023))], [guest]), "hv1")
    assert codes(answer, "grown") == {("hv2", "huge_pages_short")}


def test_memory_of_the_next_start_is_needed_beside_pages() -> None:
    guest = tied("grown", "hv1", "0 1", gib=3, huge_pages_kib=2048, defined=defined("0 1", gib=3))
    there = machine("hv2", cell_fields={0: {"pages": [{"size_kib": 2048, "total": 3072, "free": 3072}]}})
    assert codes(drain(fleet([machine("hv1"), there], [guest]), "hv1"), "grown") == {("hv2", "memory_short")}


def test_memory_that_only_the_definition_binds_is_bound_at_the_destination() -> None:
    bound = {"memory": {"mode": "strict", "nodes": "0"}}
    guest = vm("grown", "hv1", vcpus={"current": 1}, defined=defined("", None, pinning=bound))
    move = moves(drain(fleet([machine("hv1"), machine("hv2")], [guest]), "hv1"))["grown"]
    assert move["pins"]["memory"] == bound["memory"]
