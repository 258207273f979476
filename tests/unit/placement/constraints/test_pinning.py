# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.placement.constraints.pair import refusals
from tests.unit.placement.fleet import codes, drain, fleet, vm, where
from tests.unit.placement.tied import machine, tied

# Two CPUs in one cell
TWO = {"cells": [{"id": 0, "cpus": "0-1"}]}


@pytest.mark.parametrize(
    ("pinning", "expected"),
    [
        ({"vcpus": [{"vcpu": 0, "cpus": "0-1"}], "emulator": "4"}, {"code": "pinning", "cpus": 2, "needed_cpus": 3}),
        ({"vcpus": [{"vcpu": 0, "cpus": "5"}], "emulator": "4,6"}, {"code": "pinning", "cpus": 2, "needed_cpus": 3}),
        ({"memory": {"mode": "strict", "nodes": "0-1"}}, {"code": "numa_nodes", "missing": [1]}),
    ],
)
def test_a_host_with_fewer_cpus_or_cells_than_the_user_pinned_to_is_refused(
    pinning: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert refusals(TWO, {"pinning": pinning}) == [expected]
    assert refusals({}, {"pinning": pinning}) == []
    assert refusals(TWO, {}) == []


@pytest.mark.parametrize(
    "pinning",
    [
        {"vcpus": [{"vcpu": 0, "cpus": "6"}], "emulator": "7"},
        {"vcpus": [{"vcpu": vcpu, "cpus": "5"} for vcpu in range(4)]},
        {"memory": {"mode": "strict", "nodes": "0"}},
    ],
)
def test_a_host_with_as_many_different_cpus_takes_the_vm_whatever_their_numbers(pinning: dict[str, Any]) -> None:
    assert refusals(TWO, {"pinning": pinning}) == []


def test_pins_that_a_policy_made_say_nothing_of_other_hosts() -> None:
    snapshot = fleet([machine("hv1"), machine("hv2", "0-1")], [tied("db1", "hv1", "0-7 0-7", "numa")])
    assert where(drain(snapshot, "hv1")) == {"db1": "hv2"}


def test_the_pins_that_a_vm_had_at_home_count_at_home_and_those_it_has_elsewhere() -> None:
    home = {"home": {"uuid": "uuid-hv2", "name": "hv2", "pins": {"vcpus": [{"vcpu": 0, "cpus": "0-1"}]}}}
    guest = tied("db1", "hv1", "0-3", "manual", policy_fields=home)
    hosts = [machine("hv1"), machine("hv2", "0-1"), machine("hv3", "0-1"), machine("hv4", "0-3")]
    answer = drain(fleet(hosts, [guest]), "hv1", exclude_hosts=["hv2", "hv4"])
    assert ("hv3", "pinning") in codes(answer, "db1")
    assert where(drain(fleet(hosts, [guest]), "hv1", exclude_hosts=["hv4"])) == {"db1": "hv2"}
    assert where(drain(fleet(hosts, [guest]), "hv1", exclude_hosts=["hv2"])) == {"db1": "hv4"}


@pytest.mark.parametrize(("owned", "expected"), [("0 1", {("hv2", "no_shared_cpu")}), ("0", set())])
def test_a_host_whose_cpus_are_all_taken_is_no_place_for_threads_without_pins(
    owned: str, expected: set[tuple[str, str]]
) -> None:
    hosts = [machine("hv1"), machine("hv2", "0-1")]
    answer = drain(fleet(hosts, [vm("web", "hv1"), tied("db1", "hv2", owned)]), "hv1", max_extra_moves=0)
    assert codes(answer, "web") == expected
    assert answer["feasible"] == (not expected)


def test_a_host_that_cannot_give_a_vm_its_pins_beside_others_says_which_it_lacks() -> None:
    hosts = [machine("hv1"), machine("hv2", "0-2")]
    vms = [tied("db1", "hv1", "0 1"), tied("old", "hv2", "0 1")]
    answer = drain(fleet(hosts, vms), "hv1", max_extra_moves=0)
    [reason] = answer["unplaced"][0]["reasons"]
    assert (reason["host"], reason["code"], reason["needed"], reason["available"]) == ("hv2", "not_enough_cores", 2, 1)
    assert reason["text"].startswith("cannot give db1 its pins: ")
    assert where(drain(fleet([hosts[0], machine("hv2", "0-4")], vms), "hv1")) == {"db1": "hv2"}
