# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.placement.fleet import ask, codes, drain, fleet, host, vm, where

CPUS: dict[str, Any] = {
    "small": {"vendor": "Intel", "features": ["aes"], "address_bits": 40},
    "large": {"vendor": "Intel", "features": ["aes", "avx2", "avx512f"], "address_bits": 46},
    "amd": {"vendor": "AMD", "features": ["aes", "avx2", "avx512f"], "address_bits": 48},
}

HOST_CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("maintenance", {"maintenance": True}, {}, {}),
    ("pool", {"pool": "silver"}, {}, {"pool": "silver", "own_pool": None}),
    ("allowed_hosts", {}, {"policy": {"hosts": ["hv1", "uuid-hv3"]}}, {"allowed": ["hv1", "uuid-hv3"]}),
    ("cpu_features", {"cpu": "small"}, {"cpu": "large"}, {"missing": ["avx2", "avx512f"]}),
    ("cpu_vendor", {"cpu": "amd"}, {"cpu": "small"}, {"vendor": "AMD", "needed_vendor": "Intel"}),
    ("address_bits", {"cpu": "small"}, {"cpu": "large"}, {"address_bits": 40, "needed_address_bits": 46}),
    ("machine_type", {"machine_types": ["pc"]}, {"machine_type": "q35"}, {"machine_type": "q35"}),
    ("networks", {"networks": ["br0"]}, {"networks": ["br0", "br1"]}, {"missing": ["br1"]}),
    ("storage", {"storage": []}, {"storage": ["/srv/images"]}, {"missing": ["/srv/images"]}),
    (
        "pinning",
        {"cells": [{"id": 0, "cpus": "0-1"}]},
        {"pinning": {"vcpus": [{"vcpu": 0, "cpus": "0-1"}], "emulator": "4"}},
        {"cpus": 2, "needed_cpus": 3},
    ),
    (
        "numa_nodes",
        {"cells": [{"id": 0, "cpus": "0-1"}]},
        {"pinning": {"memory": {"mode": "strict", "nodes": "0-1"}}},
        {"missing": [1]},
    ),
    ("memory", {"memory_kib": 100}, {"memory_kib": 100, "overhead_kib": 1}, {"needed_kib": 101, "free_kib": 100}),
    (
        "memory",
        {"memory_kib": 100, "reserved": {"memory_kib": 50}},
        {"memory_kib": 51},
        {"needed_kib": 51, "free_kib": 50, "capacity_kib": 50},
    ),
    (
        "vcpus",
        {"cells": [{"id": 0, "cpus": "0-3"}], "reserved": {"cpus": "0"}, "cpu_overcommit": 1.5},
        {"vcpus": {"current": 5}},
        {"needed_vcpus": 5, "free_vcpus": 4},
    ),
    (
        "vcpus",
        {"topology": {"cores": 2, "threads": 2}, "count_threads_as_cores": False, "cpu_overcommit": 1},
        {"vcpus": {"current": 3}},
        {"needed_vcpus": 3, "free_vcpus": 2},
    ),
    (
        "vcpus",
        {
            "cells": [{"id": 0, "cpus": "0-3", "siblings": ["0,2", "1,3"]}],
            "count_threads_as_cores": False,
            "cpu_overcommit": 1,
        },
        {"vcpus": {"current": 3}},
        {"needed_vcpus": 3, "free_vcpus": 2},
    ),
]


@pytest.mark.parametrize(("code", "host_fields", "vm_fields", "facts"), HOST_CASES)
def test_a_host_that_lacks_something_is_rejected_with_the_reason_as_data(
    code: str, host_fields: dict[str, Any], vm_fields: dict[str, Any], facts: dict[str, Any]
) -> None:
    answer = drain(fleet([host("hv1"), host("hv2", **host_fields)], [vm("db1", "hv1", **vm_fields)], **CPUS), "hv1")
    assert not answer["feasible"]
    assert answer["waves"] == []
    reasons = {reason["code"]: reason for reason in answer["unplaced"][0]["reasons"]}
    assert reasons[code]["host"] == "hv2"
    assert facts.items() <= reasons[code].items()
    assert reasons[code]["text"]


@pytest.mark.parametrize(("code", "host_fields", "vm_fields", "facts"), HOST_CASES)
def test_what_is_not_known_of_a_host_constrains_nothing(
    code: str, host_fields: dict[str, Any], vm_fields: dict[str, Any], facts: dict[str, Any]
) -> None:
    if code == "allowed_hosts":
        vm_fields = {}
    answer = drain(fleet([host("hv1"), host("hv2")], [vm("db1", "hv1", **vm_fields)], **CPUS), "hv1")
    assert where(answer) == {"db1": "hv2"}


@pytest.mark.parametrize(("code", "host_fields", "vm_fields", "facts"), HOST_CASES)
def test_what_is_not_known_of_a_vm_constrains_nothing(
    code: str, host_fields: dict[str, Any], vm_fields: dict[str, Any], facts: dict[str, Any]
) -> None:
    if code in ("maintenance", "pool", "memory"):
        return
    answer = drain(fleet([host("hv1"), host("hv2", **host_fields)], [vm("db1", "hv1")], **CPUS), "hv1")
    assert where(answer) == {"db1": "hv2"}


VM_CASES: list[tuple[str, dict[str, Any]]] = [
    ("migration_pinned", {"policy": {"migration": "pinned"}}),
    ("blockers", {"blockers": ["cannot migrate domain with 1 snapshots"]}),
    ("state", {"state": "crashed"}),
    ("in_transit", {"job": "migration_out"}),
]


@pytest.mark.parametrize(("code", "fields"), VM_CASES)
def test_a_vm_that_cannot_move_at_all_is_unplaced_before_anything_moves(code: str, fields: dict[str, Any]) -> None:
    vms = [vm("db1", "hv1", **fields), vm("web", "hv1")]
    answer = drain(fleet([host("hv1"), host("hv2")], vms), "hv1")
    assert codes(answer, "db1") == {(None, code)}
    assert codes(answer, "web") == set()
    assert answer["waves"] == []


def test_blockers_keep_libvirts_words() -> None:
    words = "cannot migrate domain with 1 snapshots"
    answer = drain(fleet([host("hv1"), host("hv2")], [vm("db1", "hv1", blockers=[words])]), "hv1")
    assert answer["unplaced"][0]["reasons"][0]["text"] == words


@pytest.mark.parametrize("state", ["running", "blocked", "paused", "pmsuspended"])
def test_every_domain_with_memory_leaves(state: str) -> None:
    assert where(drain(fleet([host("hv1"), host("hv2")], [vm("db1", "hv1", state=state)]), "hv1")) == {"db1": "hv2"}


def test_a_stopped_vm_is_no_part_of_a_drain_and_takes_no_memory() -> None:
    vms = [vm("db1", "hv1", 16), vm("off1", "hv1", state="shutoff"), vm("off2", "hv2", 16, state="shutoff")]
    assert where(drain(fleet([host("hv1"), host("hv2")], vms), "hv1")) == {"db1": "hv2"}


def test_all_drained_and_excluded_hosts_are_no_destinations() -> None:
    snapshot = fleet([host("hv1"), host("hv2"), host("hv3")], [vm("db1", "hv1")])
    answer = drain(snapshot, "hv1", "hv2", exclude_hosts=["hv3"])
    assert codes(answer, "db1") == {("hv2", "draining"), ("hv3", "excluded")}


def test_a_vm_may_leave_its_pool_on_request() -> None:
    snapshot = fleet([host("hv1", pool="gold"), host("hv2")], [vm("db1", "hv1")])
    assert codes(drain(snapshot, "hv1"), "db1") == {("hv2", "pool")}
    assert where(drain(snapshot, "hv1", stay_in_pool=False)) == {"db1": "hv2"}


def test_a_name_that_another_vm_has_at_the_destination_is_refused() -> None:
    vms = [vm("web", "hv1"), vm("web", "hv2", uuid="other", state="shutoff")]
    assert codes(drain(fleet([host("hv1"), host("hv2")], vms), "hv1"), "web") == {("hv2", "name_taken")}


def test_two_vms_of_one_name_never_meet() -> None:
    vms = [vm("web", "hv1"), vm("web", "hv2", uuid="other")]
    hosts = [host("hv1"), host("hv2"), host("hv3"), host("hv4")]
    answer = drain(fleet(hosts, vms), "hv1", "hv2")
    assert sorted(move["destination"] for move in answer["waves"][0]["steps"][0]["moves"]) == ["hv3", "hv4"]
    assert not drain(fleet(hosts[:3], vms), "hv1", "hv2")["feasible"]


PINNED = {"vcpus": [{"vcpu": 0, "cpus": "0"}]}


@pytest.mark.parametrize(
    ("fields", "manual"),
    [
        ({}, False),
        ({"pinning": PINNED}, True),
        ({"pinning": {"memory": {"mode": "strict", "nodes": "0"}}}, True),
        ({"cpu_mode": "host-passthrough"}, True),
        ({"pinning": PINNED, "policy": {"migration": "automatic"}}, False),
        ({"policy": {"migration": "manual"}}, True),
    ],
)
def test_a_manual_vm_moves_with_a_warning_or_not_at_all(fields: dict[str, Any], manual: bool) -> None:
    snapshot = fleet([host("hv1"), host("hv2")], [vm("db1", "hv1", **fields)])
    moved = drain(snapshot, "hv1")
    assert where(moved) == {"db1": "hv2"}
    assert ("manual" in {warning["code"] for warning in moved["warnings"]}) == manual
    assert drain(snapshot, "hv1", move_manual=False)["feasible"] != manual


def test_place_says_for_each_vm_where_it_could_go_and_why_not_elsewhere() -> None:
    hosts = [host("hv1"), host("hv2", 8), host("hv3", 64), host("hv4", maintenance=True), host("hv5", 1)]
    answer = ask(fleet(hosts, [vm("db1", "hv1", 4)]), "place", vms=["db1"])
    assert answer["candidates"][0]["destinations"] == ["hv3", "hv2"]
    assert [(item["host"], item["code"]) for item in answer["candidates"][0]["rejected"]] == [
        ("hv4", "maintenance"),
        ("hv5", "memory"),
    ]
    assert where(answer) == {"db1": "hv3"}


def test_place_goes_to_a_named_host_or_nowhere() -> None:
    snapshot = fleet([host("hv1"), host("hv2", 8), host("hv3", 64)], [vm("db1", "hv1", 9)])
    assert where(ask(snapshot, "place", vms=["db1"], hosts=["hv3"])) == {"db1": "hv3"}
    assert codes(ask(snapshot, "place", vms=["db1"], hosts=["hv2"]), "db1") == {("hv2", "memory")}


def test_a_stopped_vm_cannot_be_placed() -> None:
    snapshot = fleet([host("hv1"), host("hv2")], [vm("db1", "hv1", state="shutoff")])
    assert codes(ask(snapshot, "place", vms=["db1"]), "db1") == {(None, "not_running")}
