# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from tests.unit.placement.constraints.pair import refusals
from tests.unit.placement.fleet import ask, codes, drain, fleet, host, vm, where


@pytest.mark.parametrize("maintenance", [False, None])
def test_a_host_that_is_not_in_maintenance_takes_vms(maintenance: bool | None) -> None:
    assert refusals({"maintenance": maintenance}) == []


def test_no_vm_goes_to_a_host_in_maintenance() -> None:
    assert refusals({"maintenance": True}) == [{"code": "maintenance"}]


def test_a_host_in_maintenance_can_be_emptied() -> None:
    assert refusals(here={"maintenance": True}) == []


@pytest.mark.parametrize("name", ["hv2", "uuid-hv2"])
def test_no_vm_goes_to_a_host_that_the_request_excludes_by_name_or_uuid(name: str) -> None:
    assert refusals(exclude_hosts=[name]) == [{"code": "excluded"}]


def test_all_drained_and_excluded_hosts_are_no_destinations() -> None:
    snapshot = fleet([host("hv1"), host("hv2"), host("hv3"), host("hv4")], [vm("db1", "hv1"), vm("db2", "hv2")])
    assert where(drain(snapshot, "hv1", "hv2", exclude_hosts=["hv3"])) == {"db1": "hv4", "db2": "hv4"}
    answer = drain(snapshot, "hv1", "hv2", exclude_hosts=["hv3", "hv4"])
    assert codes(answer, "db1") == {("hv2", "draining"), ("hv3", "excluded"), ("hv4", "excluded")}


def test_a_vm_does_not_come_home_to_a_host_in_maintenance() -> None:
    snapshot = fleet([host("hv1"), host("hv2", maintenance=True)], [vm("db1", "hv1", policy={"home": "hv2"})])
    assert codes(ask(snapshot, "refill", hosts=["hv2"]), "db1") == {("hv2", "maintenance")}
