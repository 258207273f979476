# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _pinning
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import Pinning

from tests.unit.placement.fleet import ask, drain, fleet, host, steps, vm


def pins(*cpus: str, **more: Any) -> dict[str, Any]:
    return {"vcpus": [{"vcpu": vcpu, "cpus": text} for vcpu, text in enumerate(cpus)], **more}


@pytest.mark.parametrize(
    ("before", "cpus", "usage", "after"),
    [
        (pins("2", "3"), range(4), {}, pins("2", "3")),
        (pins("4", "5"), range(4), {}, pins("0", "1")),
        (pins("4", "5"), range(4), {0: 1, 1: 2}, pins("2", "3")),
        (pins("4", "0"), range(4), {}, pins("1", "0")),
        (pins("4,5", "5"), range(4), {0: 1}, pins("1-2", "2")),
        (pins("9", emulator="8"), range(2), {}, pins("1", emulator="0")),
        (
            pins("1", iothreads=[{"iothread": 1, "cpus": "9"}]),
            range(2),
            {},
            pins("1", iothreads=[{"iothread": 1, "cpus": "0"}]),
        ),
        (pins("9", cpuset="8-9"), range(2), {}, pins("0", cpuset="8-9")),
    ],
)
def test_existing_cpus_are_kept_and_missing_ones_become_the_least_pinned(
    before: dict[str, Any], cpus: range, usage: dict[int, int], after: dict[str, Any]
) -> None:
    assert _pinning.move_pinning(Pinning.from_dict(before), frozenset(cpus), usage) == Pinning.from_dict(after)


def test_pins_of_all_vcpus_are_counted() -> None:
    assert _pinning.count_pins([Pinning.from_dict(pins("0-1", "1")), Pinning.from_dict(pins("1"))]) == {0: 1, 1: 3}


CELLS = [{"id": 0, "cpus": "0-3"}]


def test_a_move_keeps_pins_that_exist() -> None:
    answer = drain(fleet([host("hv1"), host("hv2", cells=CELLS)], [vm("db1", "hv1", pinning=pins("2"))]), "hv1")
    assert steps(answer)[0][0]["pins"] is None


def test_vms_of_one_plan_get_different_cpus_while_there_are_any() -> None:
    vms = [vm(f"db{number}", "hv1", pinning=pins("8", "9")) for number in range(2)]
    answer = drain(fleet([host("hv1"), host("hv2", cells=CELLS)], vms), "hv1")
    given = [pin["cpus"] for move in steps(answer)[0] for pin in move["pins"]["vcpus"]]
    assert sorted(given) == ["0", "1", "2", "3"]


def test_new_pins_avoid_those_of_residents() -> None:
    vms = [vm("db1", "hv1", pinning=pins("9")), vm("old", "hv2", pinning=pins("0", "1"))]
    answer = drain(fleet([host("hv1"), host("hv2", cells=CELLS)], vms), "hv1")
    assert steps(answer)[0][0]["pins"]["vcpus"] == [{"vcpu": 0, "cpus": "2"}]
    assert "pins_changed" in {warning["code"] for warning in answer["warnings"]}


@pytest.mark.parametrize(
    ("at_home", "now", "expected"),
    [
        (pins("3"), pins("0"), [{"vcpu": 0, "cpus": "3"}]),
        (pins("3"), {}, [{"vcpu": 0, "cpus": "3"}]),
        (pins("9"), pins("1"), [{"vcpu": 0, "cpus": "0"}]),
        ({}, pins("1"), []),
        (pins("1"), pins("1"), None),
        (None, pins("1"), None),
    ],
)
def test_a_vm_gets_its_pins_back_at_home(at_home: Any, now: Any, expected: Any) -> None:
    home = {"uuid": "uuid-hv1", "name": "hv1", "pins": at_home}
    snapshot = fleet([host("hv1", cells=CELLS), host("hv2")], [vm("db1", "hv2", pinning=now, policy={"home": home})])
    move = steps(ask(snapshot, "refill", hosts=["hv1"]))[0][0]
    assert (move["pins"] and move["pins"]["vcpus"]) == expected


def test_the_pins_at_home_decide_whether_the_home_fits() -> None:
    home = {"uuid": "uuid-hv1", "name": "hv1", "pins": {"memory": {"mode": "strict", "nodes": "1"}}}
    snapshot = fleet([host("hv1", cells=CELLS), host("hv2")], [vm("db1", "hv2", policy={"home": home})])
    assert ask(snapshot, "refill", hosts=["hv1"])["unplaced"][0]["reasons"][0]["code"] == "numa_nodes"


@pytest.mark.parametrize(
    ("now", "at_source", "there", "expected"),
    [
        ({}, {}, {"isolated_cpus": "2-3"}, {"cpuset": "0-1"}),
        ({}, {}, {"isolated_cpus": "2-3", "machine_cpus": "1-3"}, {"cpuset": "1"}),
        ({}, {}, {"isolated_cpus": ""}, None),
        ({}, {}, {"isolated_cpus": "0-3"}, None),
        ({"cpuset": "0-2"}, {}, {"isolated_cpus": "2-3"}, {"cpuset": "0-1"}),
        ({"cpuset": "2"}, {}, {"isolated_cpus": "2-3"}, {"cpuset": "0-1"}),
        ({"cpuset": "auto"}, {}, {"isolated_cpus": "2-3"}, None),
        (pins("2"), {}, {"isolated_cpus": "2-3"}, None),
        # Nobody wrote down whose set this is, but it is what the host leaves to all.
        ({"cpuset": "0,3"}, {"isolated_cpus": "1-2"}, {}, {}),
        ({"cpuset": "0,3"}, {"isolated_cpus": "1-2"}, {"isolated_cpus": "3"}, {"cpuset": "0-2"}),
        ({"cpuset": "0,3"}, {"isolated_cpus": "1-2"}, {"isolated_cpus": "1-2"}, None),
        ({"cpuset": "0"}, {"isolated_cpus": "1-2"}, {}, None),
        ({"cpuset": "0"}, {"isolated_cpus": "1-2", "machine_cpus": "0-1"}, {}, {}),
    ],
)
def test_a_vm_without_pins_is_kept_off_isolated_cpus(now: Any, at_source: Any, there: Any, expected: Any) -> None:
    hosts = [host("hv1", cells=CELLS, **at_source), host("hv2", cells=CELLS, **there)]
    move = steps(drain(fleet(hosts, [vm("db1", "hv1", pinning=now)]), "hv1"))[0][0]
    found = move["pins"]
    assert (found and Pinning.from_dict(found)) == (None if expected is None else Pinning.from_dict(expected))
