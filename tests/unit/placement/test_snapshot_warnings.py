# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person should know about the fleet as it is, whatever the plan."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.placement.fleet import GIB, ask, drain, fleet, host, vm, where


def warned(answer: dict[str, Any], code: str) -> list[dict[str, Any]]:
    """Return the facts of the warnings with a code."""
    skipped = ("code", "text")
    found = [warning for warning in answer["warnings"] if warning["code"] == code]
    return [{key: value for key, value in warning.items() if key not in skipped} for warning in found]


def crowded(**fields: Any) -> dict[str, Any]:
    """Return a fleet in which hv2 has 4 GiB for its VMs of 3 and 2 GiB, and db1 on hv1 can go to hv3."""
    small = host("hv2", 5, reserved={"memory_kib": GIB})
    return fleet([host("hv1"), small, host("hv3")], [vm("db1", "hv1"), vm("a", "hv2", 3), vm("b", "hv2", 2, **fields)])


def test_a_host_whose_vms_need_more_memory_than_it_has_is_tolerated_with_a_warning() -> None:
    answer = drain(crowded(), "hv1")
    assert where(answer) == {"db1": "hv3"}
    assert warned(answer, "over_memory") == [{"host": "hv2", "needed_kib": 5 * GIB, "capacity_kib": 4 * GIB}]
    (text,) = [warning["text"] for warning in answer["warnings"] if warning["code"] == "over_memory"]
    assert text.startswith("The VMs of host hv2 need 5 GiB of memory together, it has 4 GiB for them.")


@pytest.mark.parametrize(
    ("fields", "over"),
    [
        ({"state": "shutoff"}, False),
        ({"state": "paused"}, True),
        ({"memory_kib": GIB}, False),
        ({"memory_kib": GIB, "overhead_kib": 1}, True),
        ({"memory_kib": None}, False),
    ],
)
def test_what_active_vms_may_need_counts_with_the_overhead(fields: dict[str, Any], over: bool) -> None:
    assert bool(warned(drain(crowded(**fields), "hv1"), "over_memory")) is over


def test_a_leftover_of_a_migration_counts_where_it_is() -> None:
    data = crowded(state="shutoff")
    data["vms"].append(vm("db1", "hv2", 2, state="paused"))
    assert warned(drain(data, "hv1"), "over_memory") == [
        {"host": "hv2", "needed_kib": 5 * GIB, "capacity_kib": 4 * GIB}
    ]


def test_a_host_that_reserves_more_than_it_has_is_over_with_its_first_vm() -> None:
    hosts = [host("hv1", 1, reserved={"memory_kib": 2 * GIB}), host("hv2", 1, reserved={"memory_kib": 2 * GIB})]
    answer = drain(fleet(hosts, [vm("db1", "hv1")]), "hv1")
    assert warned(answer, "over_memory") == [{"host": "hv1", "needed_kib": GIB, "capacity_kib": -GIB}]
    assert "it has 0 KiB for them" in answer["warnings"][-1]["text"]


def test_a_host_of_unknown_memory_is_never_over() -> None:
    assert not warned(drain(fleet([host("hv1", None), host("hv2")], [vm("db1", "hv1", 10**13)]), "hv1"), "over_memory")


def test_hosts_that_the_answer_does_not_depend_on_are_not_judged() -> None:
    assert not warned(ask(crowded(), "place", vms=["db1"], hosts=["hv3"]), "over_memory")


def namesakes(**fields: Any) -> dict[str, Any]:
    """Return a fleet with a VM named web on hv1 and another one on hv2."""
    other = {"uuid": "uuid-web2", **fields}
    return fleet(
        [host("hv1"), host("hv2"), host("hv3")], [vm("web", "hv1"), vm("db1", "hv3"), vm("web", "hv2", **other)]
    )


def test_vms_of_one_name_on_different_hosts_are_named_as_they_can_never_meet() -> None:
    answer = drain(namesakes(), "hv1")
    assert where(answer) == {"web": "hv3"}
    assert warned(answer, "same_name") == [{"vm": "web", "hosts": ["hv1", "hv2"]}]
    (text,) = [warning["text"] for warning in answer["warnings"] if warning["code"] == "same_name"]
    assert text == "VMs on hv1, hv2 have one name, web. They can never be on one host."


def test_a_name_is_warned_about_once_however_many_of_its_vms_are_asked_about() -> None:
    assert len(warned(ask(namesakes(), "drain", hosts=["hv1", "hv2"]), "same_name")) == 1


@pytest.mark.parametrize("fields", [{"state": "shutoff"}, {"uuid": "uuid-web", "state": "paused"}])
def test_definitions_and_other_ends_of_a_migration_are_no_namesakes(fields: dict[str, Any]) -> None:
    assert not warned(drain(namesakes(**fields), "hv1"), "same_name")


def test_namesakes_among_vms_that_nobody_asked_about_are_not_named() -> None:
    assert not warned(drain(namesakes(), "hv3"), "same_name")
