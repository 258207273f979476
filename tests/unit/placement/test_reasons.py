# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._amount import amount
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.reasons import (
    Reason,
    counts_of,
    some_of_each,
)

from tests.unit.placement.fleet import GIB, ask, codes, drain, fleet, host, vm, where


def many(**counts: int) -> dict[str, Any]:
    """Return a fleet whose hosts beside hv1 refuse db1, so many of them for each reason."""
    fields: dict[str, dict[str, Any]] = {
        "maintenance": {"maintenance": True},
        "pool": {"pool": "silver"},
        "networks": {"networks": []},
        "memory": {"memory_kib": 7 * GIB},
    }
    hosts = [host(f"{code}{number:02}", **fields[code]) for code, count in counts.items() for number in range(count)]
    return fleet([host("hv1"), *hosts], [vm("db1", "hv1", 8, networks=["br0"])])


def refused(snapshot: dict[str, Any]) -> dict[str, Any]:
    [item] = drain(snapshot, "hv1")["unplaced"]
    assert isinstance(item, dict)
    return item


def test_of_many_hosts_some_of_each_reason_are_listed_and_all_are_counted() -> None:
    counts = {"maintenance": 12, "memory": 20, "networks": 2, "pool": 4}
    item = refused(many(**counts))
    assert item["rejected"] == counts
    assert Counter(reason["code"] for reason in item["reasons"]) == {
        "maintenance": 3,
        "memory": 3,
        "networks": 2,
        "pool": 3,
    }
    shown = [reason["host"] for reason in item["reasons"] if reason["code"] == "memory"]
    assert shown == ["memory00", "memory01", "memory02"]


@pytest.mark.parametrize(("hosts", "listed"), [(19, 19), (20, 20), (21, 3), (40, 3)])
def test_up_to_twenty_reasons_are_all_listed(hosts: int, listed: int) -> None:
    item = refused(many(pool=hosts))
    assert (len(item["reasons"]), item["rejected"]) == (listed, {"pool": hosts})


def test_a_host_counts_for_each_of_its_reasons() -> None:
    snapshot = many(pool=30)
    for item in snapshot["hosts"][1:21]:
        item["maintenance"] = True
    assert refused(snapshot)["rejected"] == {"maintenance": 20, "pool": 30}


def test_what_holds_everywhere_is_listed_and_is_no_host() -> None:
    snapshot = many(maintenance=30)
    snapshot["vms"][0]["blockers"] = ["a snapshot"]
    item = refused(snapshot)
    assert item["rejected"] == {"maintenance": 30}
    assert [reason["code"] for reason in item["reasons"]] == ["blockers", *["maintenance"] * 3]


def test_a_vm_that_fits_alone_but_not_with_others_says_so_and_which_hosts_are_full() -> None:
    hosts = [host("hv1", 64), *(host(f"full{number:02}", 1) for number in range(30)), host("hv9", 8)]
    answer = drain(fleet(hosts, [vm(name, "hv1", 8) for name in ("db1", "db2")]), "hv1", best_effort=True)
    [item] = answer["unplaced"]
    assert item["rejected"] == {"memory": 31}
    assert [reason["code"] for reason in item["reasons"]] == ["together", *["memory"] * 3]


def test_place_says_for_each_vm_where_it_could_go_and_why_not_elsewhere() -> None:
    hosts = [host("hv1"), host("hv2", 8), host("hv3", 64), host("hv4", maintenance=True), host("hv5", 1)]
    answer = ask(fleet(hosts, [vm("db1", "hv1", 4)]), "place", vms=["db1"])
    [item] = answer["candidates"]
    assert item["destinations"] == ["hv3", "hv2"]
    assert [(each["host"], each["code"]) for each in item["rejected"]] == [("hv4", "maintenance"), ("hv5", "memory")]
    assert item["rejected_hosts"] == {"maintenance": 1, "memory": 1}
    assert where(answer) == {"db1": "hv3"}


def test_place_lists_some_hosts_and_counts_all_too() -> None:
    snapshot = many(maintenance=15, memory=15)
    snapshot["hosts"].append(host("hv9"))
    [item] = ask(snapshot, "place", vms=["db1"])["candidates"]
    assert item["destinations"] == ["hv9"]
    assert item["rejected_hosts"] == {"maintenance": 15, "memory": 15}
    assert [each["code"] for each in item["rejected"]] == [*["maintenance"] * 3, *["memory"] * 3]


def test_place_goes_to_a_named_host_or_nowhere() -> None:
    snapshot = fleet([host("hv1"), host("hv2", 8), host("hv3", 64)], [vm("db1", "hv1", 9)])
    assert where(ask(snapshot, "place", vms=["db1"], hosts=["hv3"])) == {"db1": "hv3"}
    assert codes(ask(snapshot, "place", vms=["db1"], hosts=["hv2"]), "db1") == {("hv2", "memory")}


def test_a_vm_without_any_other_host_says_that() -> None:
    item = refused(fleet([host("hv1")], [vm("db1", "hv1")]))
    assert ([reason["code"] for reason in item["reasons"]], item["rejected"]) == (["no_host"], {})


def test_reasons_keep_their_order() -> None:
    mixed = [Reason(code, "text", f"hv{number}") for number in range(12) for code in ("pool", "memory")]
    found = some_of_each(mixed)
    assert found == tuple(mixed[:6])
    assert counts_of(mixed) == {"memory": 12, "pool": 12}


@pytest.mark.parametrize(
    ("kib", "text"),
    [
        (0, "0 KiB"),
        (1023, "1023 KiB"),
        (1024, "1 MiB"),
        (300 * 1024, "300 MiB"),
        (8 * GIB, "8 GiB"),
        (GIB * 3 // 2, "1.5 GiB"),
        (1024 * GIB, "1 TiB"),
    ],
)
def test_memory_is_shown_in_the_largest_unit_of_which_it_has_one(kib: int, text: str) -> None:
    assert amount(kib) == text
