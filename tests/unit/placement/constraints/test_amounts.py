# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.placement.constraints.pair import refusals
from tests.unit.placement.fleet import GIB, codes, drain, fleet, host, vm, where

CORES = {"cells": [{"id": 0, "cpus": "0-3", "siblings": ["0,2", "1,3"]}], "cpu_overcommit": 1}
FOUR = {"cells": [{"id": 0, "cpus": "0-3"}], "cpu_overcommit": 1.5}
SHAPE = {"topology": {"cores": 2, "threads": 2}, "cpu_overcommit": 1}


@pytest.mark.parametrize(
    ("there", "guest", "needed", "free", "capacity"),
    [
        ({"memory_kib": 100}, {"memory_kib": 101}, 101, 100, 100),
        ({"memory_kib": 100}, {"memory_kib": 100, "overhead_kib": 1}, 101, 100, 100),
        ({"memory_kib": 100, "reserved": {"memory_kib": 50}}, {"memory_kib": 51}, 51, 50, 50),
        ({"memory_kib": 0}, {"memory_kib": 1}, 1, 0, 0),
    ],
)
def test_a_host_has_memory_without_what_is_reserved_for_vms_with_their_overhead(
    there: dict[str, Any], guest: dict[str, Any], needed: int, free: int, capacity: int
) -> None:
    facts = {"needed_kib": needed, "free_kib": free, "capacity_kib": capacity}
    assert refusals(there, guest) == [{"code": "memory", **facts}]
    assert refusals({**there, "memory_kib": there["memory_kib"] + needed - free}, guest) == []


@pytest.mark.parametrize(
    ("there", "most"),
    [
        (FOUR, 6),
        ({**FOUR, "reserved": {"cpus": "0"}}, 4),
        (CORES, 4),
        ({**CORES, "count_threads_as_cores": False}, 2),
        ({**CORES, "count_threads_as_cores": False, "reserved": {"cpus": "0,2"}}, 1),
        ({**CORES, "count_threads_as_cores": False, "reserved": {"cpus": "0"}}, 2),
        (SHAPE, 4),
        ({**SHAPE, "count_threads_as_cores": False}, 2),
        ({**SHAPE, "reserved": {"cpus": "0"}}, 3),
    ],
)
def test_where_overcommit_is_limited_a_host_has_vcpus_for_its_cpus_without_reserved_ones(
    there: dict[str, Any], most: int
) -> None:
    facts = {"needed_vcpus": most + 1, "free_vcpus": most, "capacity_vcpus": most}
    assert refusals(there, {"vcpus": {"current": most}}) == []
    assert refusals(there, {"vcpus": {"current": most + 1}}) == [{"code": "vcpus", **facts}]


@pytest.mark.parametrize(
    ("there", "guest"),
    [
        ({"memory_kib": None}, {"memory_kib": 1 << 40}),
        ({"memory_kib": 0}, {"memory_kib": None}),
        ({**FOUR, "cpu_overcommit": None}, {"vcpus": {"current": 99}}),
        ({"cpu_overcommit": 1}, {"vcpus": {"current": 99}}),
        ({**FOUR, "cpu_overcommit": 0}, {}),
    ],
)
def test_an_amount_that_is_not_known_of_the_host_or_the_vm_constrains_nothing(
    there: dict[str, Any], guest: dict[str, Any]
) -> None:
    assert refusals(there, guest) == []


def test_every_vm_that_is_there_counts_with_all_it_may_have() -> None:
    vms = [vm("db1", "hv1", 4), vm("old", "hv2", 6, overhead_kib=6 * GIB + 1), vm("off", "hv2", state="shutoff")]
    answer = drain(fleet([host("hv1"), host("hv2")], vms), "hv1", max_extra_moves=0)
    [reason] = answer["unplaced"][0]["reasons"]
    assert (reason["code"], reason["free_kib"]) == ("memory", 4 * GIB - 1)


def test_a_host_with_more_than_it_should_have_has_nothing_left_for_people_and_less_for_programs() -> None:
    vms = [vm("db1", "hv1"), vm("old", "hv2", 17)]
    answer = drain(fleet([host("hv1"), host("hv2")], vms), "hv1", max_extra_moves=0)
    [reason] = answer["unplaced"][0]["reasons"]
    assert (reason["free_kib"], reason["capacity_kib"]) == (-GIB, 16 * GIB)
    assert reason["text"] == "has 0 KiB of memory left for VMs, the VM needs 1 GiB"


def test_a_host_must_have_memory_and_vcpus_at_once() -> None:
    hosts = [host("hv1"), host("hv2", 1, **FOUR), host("hv3", 8, **{**FOUR, "cpu_overcommit": 0.5}), host("hv4", 8)]
    vms = [vm("db1", "hv1", 8, vcpus={"current": 4})]
    assert where(drain(fleet(hosts, vms), "hv1")) == {"db1": "hv4"}
    assert codes(drain(fleet(hosts[:3], vms), "hv1"), "db1") == {("hv2", "memory"), ("hv3", "vcpus")}
