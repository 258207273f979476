# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.placement.fleet import ask, codes, drain, fleet, host, steps, vm, where

HOSTS = [host("hv1"), host("hv2"), host("hv3"), host("hv4")]


@pytest.mark.parametrize("state", ["running", "shutoff"])
def test_a_name_that_another_vm_has_at_the_destination_is_refused_whether_it_runs_or_not(state: str) -> None:
    vms = [vm("web", "hv1"), vm("web", "hv2", uuid="other", state=state)]
    answer = drain(fleet(HOSTS[:2], vms), "hv1", max_extra_moves=0)
    assert codes(answer, "web") == {("hv2", "name_taken")}
    assert answer["unplaced"][0]["reasons"][0]["other"] == "other"
    assert where(drain(fleet(HOSTS[:3], vms), "hv1", max_extra_moves=0)) == {"web": "hv3"}


def test_the_old_definition_of_the_vm_itself_does_not_refuse_it() -> None:
    vms = [vm("web", "hv1"), vm("web", "hv2", state="shutoff")]
    assert where(drain(fleet(HOSTS[:2], vms), "hv1")) == {"web": "hv2"}
    assert codes(drain(fleet([HOSTS[0], host("hv2", 0.5)], vms), "hv1"), "web") == {("hv2", "memory")}


def test_two_vms_of_one_name_never_meet() -> None:
    vms = [vm("web", "hv1"), vm("web", "hv2", uuid="other")]
    answer = drain(fleet(HOSTS, vms), "hv1", "hv2")
    assert sorted(move["destination"] for step in steps(answer) for move in step) == ["hv3", "hv4"]
    assert not drain(fleet(HOSTS[:3], vms), "hv1", "hv2")["feasible"]


def homes(first: str, second: str) -> list[dict[str, Any]]:
    return [vm("web", "hv1", policy={"home": first}), vm("web", "hv2", uuid="other", policy={"home": second})]


def test_a_vm_comes_in_a_later_step_than_the_other_of_its_name_leaves() -> None:
    answer = ask(fleet(HOSTS, homes("hv2", "hv3")), "refill", hosts=["hv2", "hv3"])
    assert [[move["uuid"] for move in step] for step in steps(answer)] == [["other"], ["uuid-web"]]


def test_a_name_is_no_group() -> None:
    vms = [vm("db", "hv1"), vm("a", "hv2", policy={"keep_apart": ["db"]})]
    assert where(drain(fleet(HOSTS[:2], vms), "hv1")) == {"db": "hv2"}
