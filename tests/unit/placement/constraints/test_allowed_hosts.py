# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from tests.unit.placement.constraints.pair import refusals
from tests.unit.placement.fleet import codes, drain, fleet, host, vm, where


@pytest.mark.parametrize("allowed", [None, [], ["hv2"], ["uuid-hv2"], ["hv9", "hv2"]])
def test_a_vm_goes_to_a_host_that_its_policy_names_by_name_or_uuid_and_anywhere_if_it_names_none(
    allowed: list[str] | None,
) -> None:
    assert refusals(guest={"policy": {"hosts": allowed}}) == []


@pytest.mark.parametrize("allowed", [["hv1"], ["hv1", "uuid-hv3"], ["hv20"], ["uuid-hv"]])
def test_every_other_host_is_refused(allowed: list[str]) -> None:
    assert refusals(guest={"policy": {"hosts": allowed}}) == [{"code": "allowed_hosts", "allowed": allowed}]


def test_of_hosts_that_are_alike_only_the_named_one_is_taken() -> None:
    hosts = [host(f"hv{number}") for number in range(1, 6)]
    vms = [vm("db1", "hv1", policy={"hosts": ["hv4"]}), vm("web", "hv1", policy={"hosts": ["hv1"]}), vm("app", "hv1")]
    answer = drain(fleet(hosts, vms), "hv1", best_effort=True)
    assert where(answer)["db1"] == "hv4"
    assert codes(answer, "web") == {(f"hv{number}", "allowed_hosts") for number in range(2, 6)}
