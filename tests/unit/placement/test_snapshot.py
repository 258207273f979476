# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _placement
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError

from tests.unit.placement.fleet import drain, fleet, host, steps, vm, where


def load_error(data: Any) -> FleetError:
    with pytest.raises(FleetError) as caught:
        _placement.load(data)
    return caught.value


def test_groups_and_priority_of_a_vm_are_read() -> None:
    policy = {"keep_apart": ["db", "rack1"], "keep_together": ["app"], "priority": -5}
    first, second = _placement.load(fleet([host("hv1")], [vm("db1", "hv1", policy=policy), vm("web", "hv1")])).vms
    assert (first.keep_apart, first.keep_together, first.priority) == ({"db", "rack1"}, {"app"}, -5)
    assert (second.keep_apart, second.keep_together, second.priority) == (frozenset(), frozenset(), 0)


@pytest.mark.parametrize("more", [{"state": "shutoff"}, {"defined": {"vcpus": {"current": 2}, "policy": {}}}])
def test_groups_and_priority_are_those_of_the_vm_in_any_state(more: dict[str, Any]) -> None:
    policy = {"keep_apart": ["db"], "keep_together": ["app"], "priority": 10}
    (found,) = _placement.load(fleet([host("hv1")], [vm("db1", "hv1", policy=policy, **more)])).vms
    for state in (found, *found.states):
        assert (state.keep_apart, state.keep_together, state.priority) == ({"db"}, {"app"}, 10)


def test_unknown_keys_are_ignored() -> None:
    data = fleet([host("hv1", colour="red")], [vm("db1", "hv1", mood="good")])
    assert [item.name for item in _placement.load({**data, "extra": 1}).vms] == ["db1"]


def test_a_hand_written_snapshot_needs_names_only() -> None:
    snapshot = {"hosts": [{"name": "hv1"}, {"name": "hv2"}], "vms": [{"name": "db1", "host": "hv1"}]}
    assert where(drain(snapshot, "hv1")) == {"db1": "hv2"}


def test_hosts_of_one_uuid_are_named_with_what_to_do() -> None:
    error = load_error(fleet([host("hv1"), host("hv2", uuid="uuid-hv1")], []))
    assert (error.code, error.facts["hosts"]) == ("duplicate_host", ["hv1", "hv2"])
    assert error.facts["paths"] == ["hosts[0].uuid", "hosts[1].uuid"]
    assert "host_uuid" in error.msg


def test_a_host_seen_twice_is_refused_with_both_places() -> None:
    error = load_error(fleet([host("hv1"), host("hv2"), host("hv1", uuid="uuid-hv3")], []))
    assert (error.code, error.facts["hosts"]) == ("duplicate_host", ["hv1"])
    assert "hosts[0] and hosts[2]" in error.msg


@pytest.mark.parametrize(
    ("second", "shared"),
    [
        ({"name": "db1", "uuid": "other"}, "one name (db1)"),
        ({"name": "db1", "uuid": None}, "one name (db1)"),
        ({"name": "db1", "state": "shutoff"}, "one name (db1)"),
        ({"name": "db2", "uuid": "uuid-db1"}, "one UUID (uuid-db1)"),
    ],
)
def test_two_domains_of_one_name_or_uuid_on_one_host_are_refused_with_both_places(
    second: dict[str, Any], shared: str
) -> None:
    error = load_error(fleet([host("hv1")], [vm("db1", "hv1"), vm("web", "hv1"), {**vm("db1", "hv1"), **second}]))
    assert error.code == "duplicate_vm"
    assert error.facts == {"vm": second["name"], "host": "hv1", "paths": ["vms[0]", "vms[2]"]}
    assert error.msg.startswith(f"vms[0] and vms[2] have {shared} on one host (hv1)")


def test_vms_of_one_name_may_be_on_different_hosts_and_nameless_uuids_are_not_compared() -> None:
    vms = [vm("db1", "hv1", uuid=None), vm("db1", "hv2", uuid=None), vm("web", "hv1", uuid=None)]
    assert len(_placement.load(fleet([host("hv1"), host("hv2")], vms)).vms) == 3


def test_parts_merge_in_any_order() -> None:
    cpu = {"features": ["aes"]}
    parts = [
        fleet([host("hv1", cpu="c1")], [vm("db1", "hv1")], c1=cpu),
        fleet([host("hv2", cpu="c1")], [vm("db2", "hv2")], c1=cpu),
    ]
    assert _placement.load(_placement.merge(parts)) == _placement.load(_placement.merge(reversed(parts)))


def test_parts_that_disagree_about_a_cpu_are_refused() -> None:
    parts = [fleet([], [], c1={"features": ["aes"]}), fleet([], [], c1={"features": []})]
    with pytest.raises(FleetError, match="CPU c1"):
        _placement.merge(parts)


def twice(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return two hosts that both show one VM."""
    both = [vm("db1", "hv1", **first), vm("db1", "hv2", **second)]
    return fleet([host("hv1"), host("hv2"), host("hv3")], both)


@pytest.mark.parametrize(
    ("first", "second", "owner"),
    [
        ({"state": "running"}, {"state": "paused", "reason": "migration"}, "hv1"),
        ({"state": "paused", "reason": "postcopy"}, {"state": "running"}, "hv2"),
        ({"state": "shutoff"}, {"state": "running"}, "hv2"),
        ({"state": "shutoff"}, {"state": "paused"}, "hv2"),
        ({"state": "paused"}, {"state": "paused", "job": "migration_out"}, "hv2"),
    ],
)
def test_of_two_domains_the_one_that_executes_is_the_vm(
    first: dict[str, Any], second: dict[str, Any], owner: str
) -> None:
    assert [item.host for item in _placement.load(twice(first, second)).vms] == [owner]


def test_a_vm_that_runs_twice_is_a_split_brain() -> None:
    error = load_error(twice({"state": "running"}, {"state": "blocked"}))
    assert (error.code, error.facts["hosts"]) == ("split_brain", ["hv1", "hv2"])


@pytest.mark.parametrize("drained", ["hv1", "hv2"])
def test_neither_end_of_a_migration_under_way_can_be_drained(drained: str) -> None:
    answer = drain(twice({"state": "running"}, {"state": "paused"}), drained)
    assert [item["host"] for item in answer["unplaced"]] == [drained]
    assert "in_transit" in {reason["code"] for reason in answer["unplaced"][0]["reasons"]}


def test_an_old_definition_elsewhere_does_not_keep_a_vm_from_moving() -> None:
    snapshot = fleet([host("hv1"), host("hv2")], [vm("db1", "hv1"), vm("db1", "hv2", state="shutoff", gib=999)])
    assert where(drain(snapshot, "hv1")) == {"db1": "hv2"}


def test_a_leftover_takes_memory_where_it_is() -> None:
    data = twice({"state": "running", "memory_kib": 16777216}, {"state": "paused", "memory_kib": 16777216})
    data["vms"].append(vm("web", "hv1", 2))
    data["hosts"][0]["memory_kib"] *= 2
    assert steps(drain(data, "hv1", best_effort=True))[0][0]["destination"] == "hv3"
