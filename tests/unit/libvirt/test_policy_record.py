# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is stored with a VM stands in the snapshot as the planner reads it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _placement
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import Policy, parse_domain, with_policy
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.vms import policy_record

from tests.unit.placement.fleet import codes, drain, fleet, host, vm, where

XML = "<domain type='kvm' id='1'><name>db1</name><memory>1048576</memory><vcpu>1</vcpu></domain>"
STORED = Policy(
    keep_apart=frozenset({"db", "rack1"}), keep_together=frozenset({"app"}), priority=-5, hot_unplug="refused"
)


def told(policy: Policy | None) -> dict[str, Any]:
    return policy_record(parse_domain(with_policy(XML, policy)))


def test_a_snapshot_has_every_part_of_a_policy() -> None:
    assert told(STORED) == {
        "migration": "automatic",
        "migration_stored": None,
        "hosts": [],
        "home": None,
        "keep_apart": ["db", "rack1"],
        "keep_together": ["app"],
        "priority": -5,
        "hot_unplug": "refused",
    }


@pytest.mark.parametrize("policy", [None, Policy(), Policy("manual")])
def test_a_vm_without_groups_and_priority_has_none_in_the_snapshot(policy: Policy | None) -> None:
    found = told(policy)
    keys = ("keep_apart", "keep_together", "priority", "hot_unplug")
    assert [found[key] for key in keys] == [[], [], 0, None]


@pytest.mark.parametrize("policy", [STORED, Policy()])
def test_the_planner_reads_what_is_stored(policy: Policy) -> None:
    (found,) = _placement.load(fleet([host("hv1")], [vm("db1", "hv1", policy=told(policy))])).vms
    assert (found.keep_apart, found.keep_together) == (policy.keep_apart, policy.keep_together)
    assert found.priority == policy.priority


def test_a_plan_obeys_what_is_stored() -> None:
    apart, alone = told(Policy(keep_apart=frozenset({"db"}))), told(Policy())
    hosts = [host("hv1"), host("hv2")]
    crowded = [vm("db1", "hv1", policy=apart), vm("db2", "hv2", policy=apart)]
    assert ("hv2", "keep_apart") in codes(drain(fleet(hosts, crowded), "hv1", max_extra_moves=0), "db1")
    free = [vm("db1", "hv1", policy=apart), vm("db2", "hv2", policy=alone)]
    assert where(drain(fleet(hosts, free), "hv1")) == {"db1": "hv2"}


@pytest.mark.parametrize("name", ["", " db", "db,web", "d\nb"])
@pytest.mark.parametrize("option", ["keep_apart", "keep_together"])
def test_the_planner_refuses_the_group_names_that_cannot_be_stored(option: str, name: str) -> None:
    snapshot = fleet([host("hv1")], [vm("db1", "hv1", policy={option: [name]})])
    for use in (lambda: Policy.from_dict({option: [name]}), lambda: _placement.load(snapshot)):
        with pytest.raises(FleetError, match=option):
            use()
