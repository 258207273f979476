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


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "snapshot must be a mapping, not []."),
        ({"hosts": {"name": "hv1"}}, "snapshot: hosts must be a list of mappings, not {'name': 'hv1'}."),
        ({"hosts": [{}]}, "snapshot: hosts[0]: name is missing."),
        (
            fleet([host("hv1", None, memory_kib="abc")], []),
            "host hv1: memory_kib must be a whole number of KiB, not 'abc'.",
        ),
        (
            fleet([host("hv1", None, memory_kib=True)], []),
            "host hv1: memory_kib must be a whole number of KiB, not True.",
        ),
        (fleet([host("hv1", None, memory_kib=-1)], []), "host hv1: memory_kib must be a whole number of KiB, not -1."),
        (
            fleet([host("hv1", reserved={"memory_kib": 1.5})], []),
            "host hv1: reserved: memory_kib must be a whole number of KiB, not 1.5.",
        ),
        (
            fleet([host("hv1", link_mib_s=float("nan"))], []),
            "host hv1: link_mib_s must be a number that is not negative, not nan.",
        ),
        (fleet([host("hv1", maintenance="no")], []), "host hv1: maintenance must be true or false, not 'no'."),
        (fleet([host("hv1", networks="br0")], []), "host hv1: networks must be a list of texts, not 'br0'."),
        (
            fleet([host("hv1", cells=[{"id": 0, "cpus": "3-1"}])], []),
            "host hv1: cells[0]: cpus must be a set such as '0-3,8', not '3-1'.",
        ),
        (
            fleet([host("hv1", cpu="c9")], []),
            "host hv1: cpu must be the id of an entry in the snapshot's cpus, not 'c9'.",
        ),
        (
            fleet([host("hv1")], [vm("db1", "hv2")]),
            "vm db1: host must be the name of a host in the snapshot, not 'hv2'.",
        ),
        (
            fleet([host("hv1")], [vm("db1", "hv1", policy={"migration": "maybe"})]),
            "vm db1: policy: migration must be one of automatic, manual, pinned, not 'maybe'.",
        ),
        (fleet([host("hv1")], [], c1={"features": "aes"}), "cpu c1: features must be a list of texts, not 'aes'."),
    ],
)
def test_a_wrong_field_is_named_with_its_object_and_value(data: Any, message: str) -> None:
    error = load_error(data)
    assert (error.code, error.msg) == ("bad_snapshot", message)


def test_wrong_pins_are_named_with_their_vm() -> None:
    error = load_error(fleet([host("hv1")], [vm("db1", "hv1", pinning={"vcpus": [{"vcpu": 0}]})]))
    assert error.code == "bad_snapshot"
    assert error.msg.startswith("vm db1: pinning: ")


def test_a_later_version_is_refused() -> None:
    assert load_error({"version": 2}).code == "unsupported_version"


def test_unknown_keys_are_ignored() -> None:
    data = fleet([host("hv1", colour="red")], [vm("db1", "hv1", mood="good")])
    assert [item.name for item in _placement.load({**data, "extra": 1}).vms] == ["db1"]


def test_a_hand_written_snapshot_needs_names_only() -> None:
    snapshot = {"hosts": [{"name": "hv1"}, {"name": "hv2"}], "vms": [{"name": "db1", "host": "hv1"}]}
    assert where(drain(snapshot, "hv1")) == {"db1": "hv2"}


def test_hosts_of_one_uuid_are_named_with_what_to_do() -> None:
    error = load_error(fleet([host("hv1"), host("hv2", uuid="uuid-hv1")], []))
    assert (error.code, error.facts["hosts"]) == ("duplicate_host", ["hv1", "hv2"])
    assert "host_uuid" in error.msg


def test_a_host_seen_twice_is_refused() -> None:
    assert load_error(fleet([host("hv1"), host("hv1")], [])).code == "duplicate_host"


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
