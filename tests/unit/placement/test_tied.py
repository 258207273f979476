# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where VMs may go, and with which pins, that take certain CPUs or memory of a host."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement import load
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.books import Books

from tests.unit.placement.fleet import GIB, ask, codes, drain, fleet, host, steps, vm, where
from tests.unit.placement.tied import machine, tied, union, vcpu_sets


def only_move(answer: dict[str, Any]) -> dict[str, Any]:
    [[move]] = steps(answer)
    return move


def reason(answer: dict[str, Any], code: str) -> dict[str, Any]:
    [found] = [each for item in answer["unplaced"] for each in item["reasons"] if each["code"] == code]
    return found


PAIRS = "0+4 1+5 2+6 3+7"


@pytest.mark.parametrize(
    ("there", "guest", "expected"),
    [
        (machine("hv2"), tied("db1", "hv1", "2 3"), ["0", "1"]),
        (machine("hv2", reserved={"cpus": "0-1"}), tied("db1", "hv1", "2 3"), ["2", "3"]),
        (machine("hv2", isolated_cpus="6-7"), tied("db1", "hv1", "2 3"), ["6", "7"]),
        (machine("hv2", machine_cpus="4-7"), tied("db1", "hv1", "2 3"), ["4", "5"]),
        (machine("hv2", PAIRS), tied("db1", "hv1", "2 3", options={"thread_policy": "isolate"}), ["0", "1"]),
        (machine("hv2", PAIRS), tied("db1", "hv1", "2 3", options={"thread_policy": "require"}), ["0", "4"]),
        (machine("hv2", "0-3 | 4-7"), tied("db1", "hv1", "0 1 2", options={"host_cells": "1"}), ["4", "5", "6"]),
        (machine("hv2", "0-3 | 4-7"), tied("db1", "hv1", "0-7 0-7", "numa"), ["0-3", "0-3"]),
        (machine("hv2", "0-3 | 4-7", isolated_cpus="1-3"), tied("db1", "hv1", "0-7 0-7", "numa"), ["4-7", "4-7"]),
        (machine("hv2"), tied("db1", "hv1", "2 3-4", "manual"), []),
        (machine("hv2", "0-2"), tied("db1", "hv1", "2 4", "manual"), ["2", "0"]),
        (machine("hv2"), tied("db1", "hv1", policy="none"), []),
    ],
)
def test_a_vm_gets_the_pins_that_its_policy_makes_at_the_destination(
    there: dict[str, Any], guest: dict[str, Any], expected: list[str]
) -> None:
    assert vcpu_sets(only_move(drain(fleet([machine("hv1"), there], [guest]), "hv1"))["pins"]) == expected


@pytest.mark.parametrize(
    ("guest", "cpus"),
    [
        (tied("db1", "hv1", "2 3"), "0-1"),
        (tied("db1", "hv1", "2 3", options={"emulator": "isolate"}), "0-1,4"),
        (tied("db1", "hv1", "2 3", options={"thread_policy": "isolate"}), "0-1,4-5"),
        (tied("db1", "hv1", "0-7 0-7", "numa"), None),
        (tied("db1", "hv1", "2 3", "manual"), None),
        (vm("db1", "hv1"), None),
    ],
)
def test_a_move_says_which_cpus_the_vm_has_for_itself(guest: dict[str, Any], cpus: str | None) -> None:
    move = only_move(drain(fleet([machine("hv1"), machine("hv2", PAIRS)], [guest]), "hv1"))
    expected = {"0-1": "0,4", "0-1,4": "0-1,4"}.get(cpus or "", cpus)
    assert move.get("exclusive_cpus") == expected
    assert ("exclusive_cpus" in move) == (cpus is not None)


@pytest.mark.parametrize("state", ["running", "shutoff"])
@pytest.mark.parametrize(
    ("resident", "guest", "code"),
    [
        (tied("old", "hv2", "1 2 3"), tied("db1", "hv1", "0 1"), "not_enough_cores"),
        (tied("old", "hv2", "1 2 3"), tied("db1", "hv1", "0"), "no_shared_cpu"),
        (tied("old", "hv2", "1 2 3", "manual"), tied("db1", "hv1", "0 1"), "not_enough_cores"),
        (tied("old", "hv2", "1 2 3"), tied("db1", "hv1", "0 1", "numa"), "not_enough_cores"),
        (tied("old", "hv2", "1 2 3"), tied("db1", "hv1", "0 1", "manual"), "pinning"),
        (
            tied("old", "hv2", "0", options={"thread_policy": "isolate"}),
            tied("db1", "hv1", "0 1 2"),
            "not_enough_cores",
        ),
    ],
)
def test_what_another_vm_has_for_itself_is_taken_whether_it_runs_or_not(
    state: str, resident: dict[str, Any], guest: dict[str, Any], code: str
) -> None:
    hosts = [machine("hv1"), machine("hv2", "0+1 2 3")]
    assert drain(fleet(hosts, [guest]), "hv1")["feasible"]
    answer = drain(fleet(hosts, [guest, {**resident, "state": state}]), "hv1")
    assert codes(answer, "db1") == {("hv2", code)}
    assert "db1" in reason(answer, code)["text"] or "old" in reason(answer, code)["text"]


def test_a_rejected_host_says_what_it_lacks_in_words_and_numbers() -> None:
    vms = [tied("db1", "hv1", "0 1"), tied("old", "hv2", "0 1 2")]
    found = reason(drain(fleet([machine("hv1"), machine("hv2", "0-3")], vms), "hv1"), "not_enough_cores")
    assert found["host"] == "hv2"
    assert found["text"].startswith("cannot give db1 its pins: VM db1 needs 2 CPUs that nobody else has")
    assert (found["needed"], found["available"], found["cells"]) == (2, 1, [{"cell": 0, "available": 1}])


def test_a_pin_by_hand_leaves_cpus_that_are_anothers() -> None:
    vms = [tied("db1", "hv1", "1 2", "manual"), tied("old", "hv2", "1 3")]
    assert vcpu_sets(only_move(drain(fleet([machine("hv1"), machine("hv2", "0-3")], vms), "hv1"))["pins"]) == ["0", "2"]


def test_a_pin_by_hand_that_must_change_avoids_cpus_that_are_isolated_or_not_for_vms() -> None:
    there = machine("hv2", "0-3", isolated_cpus="1", machine_cpus="1-3")
    move = only_move(drain(fleet([machine("hv1"), there], [tied("db1", "hv1", "9", "manual")]), "hv1"))
    assert vcpu_sets(move["pins"]) == ["2"]


SEVERAL = {"vcpus": [{"vcpu": 0, "cpus": "4-5"}, {"vcpu": 1, "cpus": "6"}]}
AT_HOME = {"home": {"uuid": "uuid-hv2", "name": "hv2", "pins": SEVERAL}}


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (machine("hv2"), ["4-5", "6"]),
        (machine("hv2", isolated_cpus="6-7"), ["4-5", "6"]),
        (machine("hv2", isolated_cpus="5-7"), ["0,4", "6"]),
        (machine("hv2", isolated_cpus="4-7"), ["0-1", "6"]),
        (machine("hv2", "0-3", isolated_cpus="1-2"), ["0,3", "1"]),
        (machine("hv2", "0-3", isolated_cpus="0-3"), ["0-1", "2"]),
        (machine("hv2", "0 4-7", isolated_cpus="4-7"), None),
    ],
)
@pytest.mark.parametrize("guest", [tied("db1", "hv1", "4-5 6", "manual"), tied("db1", "hv1", policy_fields=AT_HOME)])
def test_a_pin_by_hand_to_several_cpus_leaves_isolated_ones(
    there: dict[str, Any], expected: list[str] | None, guest: dict[str, Any]
) -> None:
    guest = {**guest, "policy": {**guest["policy"], "pinning": {"policy": "manual"}}}
    answer = drain(fleet([machine("hv1"), there], [guest]), "hv1")
    if expected is None:
        assert codes(answer, "db1") == {("hv2", "policy_isolation")}
    else:
        assert (vcpu_sets(only_move(answer)["pins"]) or ["4-5", "6"]) == expected


def test_pins_of_a_time_before_a_vm_was_to_have_none_do_not_come_back() -> None:
    pins = {**SEVERAL, "emulator": "0-1", "memory": {"mode": "strict", "nodes": "0"}, "cpuset": "0-3"}
    home = {"uuid": "uuid-hv2", "name": "hv2", "pins": pins}
    guest = tied("db1", "hv1", policy="none", policy_fields={"home": home})
    move = only_move(ask(fleet([machine("hv1"), machine("hv2")], [guest]), "refill", hosts=["hv2"]))
    given = {key: value for key, value in move["pins"].items() if value}
    assert given == {"policy": "none", "cpuset": "0-3"}


@pytest.mark.parametrize(("policy", "emulator"), [(None, "0-1"), ("none", "0-1")])
def test_a_vm_whose_vcpus_never_had_pins_gets_those_of_other_threads_back(policy: str | None, emulator: str) -> None:
    home = {"uuid": "uuid-hv2", "name": "hv2", "pins": {"emulator": emulator}}
    stored = {"pinning": {"policy": policy}} if policy else {}
    guest = vm("db1", "hv1", vcpus={"current": 1}, policy={"home": home, **stored})
    move = only_move(ask(fleet([machine("hv1"), machine("hv2")], [guest]), "refill", hosts=["hv2"]))
    assert move["pins"]["emulator"] == emulator


def test_a_set_that_isolation_left_to_vms_at_home_does_not_come_back() -> None:
    home = {"uuid": "uuid-hv2", "name": "hv2", "pins": {"cpuset": "0-3"}}
    guest = vm("db1", "hv1", vcpus={"current": 1}, policy={"home": home})
    there = machine("hv2", isolated_cpus="4-7")
    move = only_move(ask(fleet([machine("hv1"), there], [guest]), "refill", hosts=["hv2"]))
    assert (move["pins"]["cpuset"], move["following"]) == ("0-3", {"cpus": "0-3", "limit": None})


@pytest.mark.parametrize(("overhead", "pages", "feasible"), [(0, None, True), (1, None, False), (1, 2048, True)])
def test_memory_that_is_bound_has_what_qemu_needs_beside_it(overhead: int, pages: int | None, feasible: bool) -> None:
    huge = {"pages": [{"size_kib": 2048, "total": 2048, "free": 2048}]} if pages else {}
    there = machine("hv2", "0-3|4-7", gib=8, cell_fields={0: huge, 1: huge})
    guest = tied("db1", "hv1", "0-3", "numa", gib=4 if pages else 8, overhead_kib=overhead, huge_pages_kib=pages)
    guest["pinning"]["memory"] = {"mode": "strict", "nodes": "0"}
    guest["policy"]["pinning"]["host_cells"] = "0"
    assert drain(fleet([machine("hv1", "0-3|4-7"), there], [guest]), "hv1")["feasible"] == feasible


@pytest.mark.parametrize(
    ("bound", "loose", "cells"),
    [(7, 9, ["0"]), (7, 1, []), (6, 1, []), (6, 3, ["0"])],
)
@pytest.mark.parametrize("first", ["a", "z"])
def test_vms_that_may_take_the_memory_of_a_cell_that_another_needs_are_named(
    bound: int, loose: int, cells: list[str], first: str
) -> None:
    strict = tied("strict", "hv1", "0-3", "numa", gib=bound, pinning={"memory": {"mode": "strict", "nodes": "0"}})
    vms = [strict, vm(f"{first}-floats", "hv1", loose, vcpus={"current": 1})]
    answer = drain(fleet([machine("hv1", "0-3|4-7", gib=9), machine("hv2", "0-3|4-7")], vms), "hv1")
    found = [warning for warning in answer["warnings"] if warning["code"] == "cell_memory"]
    assert [each["cells"] for each in found] == cells
    for each in found:
        assert (each["vm"], each["host"], each["others"]) == ("strict", "hv2", [f"{first}-floats"])
        assert all(word in each["text"] for word in ("strict", f"{first}-floats", "NUMA cell 0 of hv2"))


def test_hosts_whose_cells_are_promised_to_others_differently_are_not_alike() -> None:
    hosts = [machine(name, "0-3|4-7") for name in ("hv1", "hv2", "hv3")]
    bound = {"memory": {"mode": "strict", "nodes": "0"}}
    vms = [
        tied(f"vm-{on}", on, "0-3", "numa", gib=gib, pinning=bound) for on, gib in (("hv1", 1), ("hv2", 1), ("hv3", 7))
    ]
    books = Books(load(fleet(hosts, vms)), ())
    assert books.look("hv1") == books.look("hv2") != books.look("hv3")


@pytest.mark.parametrize(("third", "feasible"), [([], False), ([machine("hv3", "0-3")], True)])
def test_two_vms_do_not_share_the_room_of_one(third: list[dict[str, Any]], feasible: bool) -> None:
    vms = [tied("db1", "hv1", "0 1"), tied("db2", "hv1", "2 3")]
    answer = drain(fleet([machine("hv1"), machine("hv2", "0-3"), *third], vms), "hv1")
    assert answer["feasible"] == feasible
    if feasible:
        assert sorted(where(answer).values()) == ["hv2", "hv3"]
    else:
        assert answer["search"] == "exhausted"
        [left] = answer["unplaced"]
        assert {each["code"] for each in left["reasons"]} >= {"together"}
        assert any(each["host"] == "hv2" for each in left["reasons"])


def test_a_vm_waits_until_the_cpus_it_gets_are_free() -> None:
    homes = {"db1": "hv2", "db2": "hv3"}
    vms = [
        tied("db1", "hv1", "0 1", policy_fields={"home": homes["db1"]}),
        tied("db2", "hv2", "1 2", policy_fields={"home": homes["db2"]}),
    ]
    answer = ask(fleet([machine(f"hv{n}", "0-2") for n in (1, 2, 3)], vms), "refill", hosts=["hv2", "hv3"])
    assert [[move["vm"] for move in step] for step in steps(answer)] == [["db2"], ["db1"]]


def test_a_vm_lets_another_go_first_whose_cpus_are_needed_elsewhere() -> None:
    vms = [
        tied("a", "hv1", "1 2", policy_fields={"home": "hv2"}),
        tied("c", "hv2", "1 2", policy_fields={"home": "hv3"}),
        tied("d", "hv3", "1 2", policy_fields={"home": "hv2"}),
    ]
    hosts = [machine(f"hv{n}", cpus, reserved={"cpus": "0"}) for n, cpus in ((1, "0-2"), (2, "0-4"), (3, "0-2"))]
    answer = ask(fleet(hosts, vms), "refill", hosts=["hv2", "hv3"])
    assert [[move["vm"] for move in step] for step in steps(answer)] == [["d"], ["c"], ["a"]]


@pytest.mark.parametrize(("cpus", "feasible"), [("0-2", False), ("0-4", True)])
def test_an_exchange_needs_room_for_both_at_both_ends(cpus: str, feasible: bool) -> None:
    vms = [
        tied("db1", "hv1", "1 2", policy_fields={"home": "hv2"}),
        tied("db2", "hv2", "1 2", policy_fields={"home": "hv1"}),
    ]
    answer = ask(fleet([machine("hv1", cpus), machine("hv2", cpus)], vms), "refill", hosts=["hv1", "hv2"])
    assert answer["feasible"] == feasible
    if feasible:
        assert all(not union([move["exclusive_cpus"]]) & {1, 2} for step in steps(answer) for move in step)
    else:
        assert {each["code"] for item in answer["unplaced"] for each in item["reasons"]} >= {"order"}


def test_a_numa_vm_without_pins_of_its_users_own_goes_to_a_host_with_fewer_cpus() -> None:
    guest = tied("db1", "hv1", "0-15 0-15", "numa", pinning={"memory": {"mode": "strict", "nodes": "1"}})
    move = only_move(drain(fleet([machine("hv1", "0-15 | 16-31"), machine("hv2", "0-3")], [guest]), "hv1"))
    assert vcpu_sets(move["pins"]) == ["0-3", "0-3"]
    assert move["pins"]["memory"] == {"mode": "strict", "nodes": "0"}


HUGE = {0: {"pages": [{"size_kib": 2048, "total": 512, "free": 512}]}}


@pytest.mark.parametrize(
    ("guest", "fields", "code"),
    [
        (tied("db1", "hv1", "0", gib=2), {"gib": 2, "cell_fields": {0: {"free_kib": GIB}}}, "memory_short"),
        (tied("db1", "hv1", "0", "numa", gib=2), {"gib": 2, "cell_fields": {0: {"free_kib": GIB}}}, "memory_short"),
        (
            vm("db1", "hv1", 2, vcpus={"current": 1}, pinning={"memory": {"mode": "strict", "nodes": "0"}}),
            {"gib": 2, "cell_fields": {0: {"free_kib": GIB}}},
            "memory_short",
        ),
        (tied("db1", "hv1", "0", gib=2, huge_pages_kib=2048), {"cell_fields": HUGE}, "huge_pages_short"),
        (
            vm("db1", "hv1", 2, vcpus={"current": 1}, huge_pages_kib=2048),
            {"cell_fields": HUGE},
            "huge_pages_short",
        ),
        (
            vm("db1", "hv1", 2, vcpus={"current": 1}, huge_pages_kib=1048576),
            {"cell_fields": HUGE},
            "huge_pages_short",
        ),
    ],
)
def test_memory_that_is_bound_or_huge_must_be_free_in_its_cells(
    guest: dict[str, Any], fields: dict[str, Any], code: str
) -> None:
    hosts = [machine("hv1"), machine("hv2", "0-3", **fields)]
    assert codes(drain(fleet(hosts, [guest]), "hv1"), "db1") == {("hv2", code)}
    smaller = {**guest, "memory_kib": GIB}
    assert drain(fleet(hosts, [smaller]), "hv1")["feasible"] == (guest.get("huge_pages_kib") != 1048576)


def test_memory_of_a_cell_is_given_once() -> None:
    vms = [tied(f"db{n}", "hv1", "0", "numa", gib=3) for n in (1, 2)]
    answer = drain(fleet([machine("hv1"), machine("hv2", "0-3 | 4-7", gib=4)], vms), "hv1")
    assert sorted(move["pins"]["memory"]["nodes"] for move in steps(answer)[0]) == ["0", "1"]
    there = machine("hv2", "0-3 | 4-7", gib=4)
    together = [{**each, "policy": {"pinning": {"policy": "numa", "host_cells": "0"}}} for each in vms]
    assert not drain(fleet([machine("hv1"), there], together), "hv1")["feasible"]


def test_another_order_is_tried_where_the_usual_one_leaves_a_vm_without_its_cell() -> None:
    vms = [tied(f"db{n}", "hv1", "0", "numa", gib=3) for n in (1, 2)]
    last = tied("db3", "hv1", "0", "numa", gib=2, options={"host_cells": "0"})
    answer = drain(fleet([machine("hv1"), machine("hv2", "0-3 | 4-7", gib=4)], [*vms, last]), "hv1")
    assert (answer["feasible"], answer["search"]) == (True, "found")


def test_memory_that_vms_are_promised_counts_before_they_touch_it() -> None:
    resident = tied("old", "hv2", "0-3", "numa", gib=3, pinning={"memory": {"mode": "strict", "nodes": "0"}})
    there = machine("hv2", "0-3", gib=4, cell_fields={0: {"free_kib": 4 * GIB}}, memory_kib=9 * GIB)
    answer = drain(fleet([machine("hv1"), there], [tied("db1", "hv1", "0", gib=2), resident]), "hv1")
    assert codes(answer, "db1") == {("hv2", "memory_short")}


@pytest.mark.parametrize(
    ("field", "value"), [("cells", None), ("cells", [{"id": 0}]), ("cells", [{"id": 0, "cpus": "0-3"}])]
)
def test_what_is_not_known_of_a_host_does_not_tie_a_vm(field: str, value: Any) -> None:
    snapshot = fleet([machine("hv1"), host("hv2", **{field: value})], [tied("db1", "hv1", "0 1", huge_pages_kib=2048)])
    assert where(drain(snapshot, "hv1")) == {"db1": "hv2"}


def test_a_policy_that_a_vm_stores_without_more_being_known_of_it_keeps_its_pins() -> None:
    guest = {**tied("db1", "hv1", "1 2"), "vcpus": None}
    move = only_move(drain(fleet([machine("hv1"), machine("hv2")], [guest]), "hv1"))
    assert (move["pins"], move["exclusive_cpus"]) == (None, "1-2")


@pytest.mark.parametrize(
    ("resident", "expected"),
    [(None, "4 5"), (tied("old", "hv1", "5"), "0 1"), (tied("old", "hv1", "0"), "4 5")],
)
def test_a_dedicated_vm_gets_the_cpus_back_it_had_at_home_if_they_are_free(
    resident: dict[str, Any] | None, expected: str
) -> None:
    pins = {"vcpus": [{"vcpu": 0, "cpus": "4"}, {"vcpu": 1, "cpus": "5"}]}
    home = {"uuid": "uuid-hv1", "name": "hv1", "pins": pins}
    vms = [tied("db1", "hv2", "1 2", policy_fields={"home": home}), *([resident] if resident else [])]
    move = only_move(ask(fleet([machine("hv1"), machine("hv2")], vms), "refill", hosts=["hv1"]))
    assert vcpu_sets(move["pins"]) == expected.split()


def test_a_numa_vm_goes_back_to_its_cell_at_home() -> None:
    home = {"uuid": "uuid-hv1", "name": "hv1", "pins": {"vcpus": [{"vcpu": 0, "cpus": "4-7"}]}}
    vms = [tied("db1", "hv2", "0-3", "numa", policy_fields={"home": home})]
    hosts = [machine("hv1", "0-3 | 4-7"), machine("hv2")]
    assert vcpu_sets(only_move(ask(fleet(hosts, vms), "refill", hosts=["hv1"]))["pins"]) == ["4-7"]


def following(cpus: str, limit: str | None = None) -> dict[str, Any]:
    return {"following": {"cpus": cpus, "limit": limit}}


@pytest.mark.parametrize(
    ("guest", "others", "cpuset", "record"),
    [
        (vm("web", "hv1"), [], None, None),
        (vm("web", "hv1"), [tied("old", "hv2", "2 3")], "0-1,4-7", None),
        (vm("web", "hv1"), [tied("db1", "hv1", "2 3")], "2-7", None),
        (vm("web", "hv1", pinning={"cpuset": "0-3"}), [tied("db1", "hv1", "2 3")], "2-3", "0-3"),
        (vm("web", "hv1", pinning={"cpuset": "4-5"}), [tied("db1", "hv1", "2 3")], "4-5", "none"),
        (
            vm("web", "hv1", pinning={"cpuset": "0-3"}, policy=following("0-3", "0-5")),
            [tied("db1", "hv1", "2 3")],
            "2-5",
            "0-5",
        ),
    ],
)
def test_threads_without_pins_run_beside_what_vms_have_for_themselves(
    guest: dict[str, Any], others: list[dict[str, Any]], cpuset: str | None, record: str | None
) -> None:
    answer = drain(fleet([machine("hv1"), machine("hv2")], [guest, *others]), "hv1")
    [move] = [move for step in steps(answer) for move in step if move["vm"] == "web"]
    if record == "none":
        assert (move["pins"], move.get("following")) == (None, None)
        return
    assert (move["pins"] and move["pins"]["cpuset"]) == cpuset
    assert move.get("following") == (None if cpuset is None else {"cpus": cpuset, "limit": record})
    assert "pins_changed" not in {warning["code"] for warning in answer["warnings"]}


def test_pins_that_only_followed_the_host_are_no_pins_elsewhere() -> None:
    pinning = {"vcpus": [{"vcpu": 0, "cpus": "0-3"}], "emulator": "0-3", "cpuset": "0-3"}
    guest = vm("web", "hv1", vcpus={"current": 1}, pinning=pinning, policy=following("0-3"))
    answer = drain(fleet([machine("hv1"), machine("hv2", "0-1")], [guest]), "hv1")
    pins = only_move(answer)["pins"]
    assert (pins["vcpus"], pins["emulator"], pins["cpuset"]) == ([], None, None)
    assert "manual" not in {warning["code"] for warning in answer["warnings"]}


def test_other_threads_of_a_vm_pinned_by_hand_run_beside_what_vms_have_for_themselves() -> None:
    vms = [tied("db1", "hv1", "5", "manual"), tied("old", "hv2", "1 2")]
    move = only_move(drain(fleet([machine("hv1"), machine("hv2")], vms), "hv1"))
    assert (vcpu_sets(move["pins"]), move["pins"]["cpuset"]) == (["5"], "0,3-7")


def test_threads_without_pins_keep_off_cpus_of_a_vm_that_comes_later() -> None:
    vms = [
        vm("web", "hv1", policy={"home": "hv2"}),
        tied("db1", "hv1", "1 2 3", policy_fields={"home": "hv2"}),
        tied("db2", "hv2", "1 2", policy_fields={"home": "hv3"}),
    ]
    hosts = [machine("hv1"), machine("hv2", "0-3", reserved={"cpus": "0"}), machine("hv3")]
    answer = ask(fleet(hosts, vms), "refill", hosts=["hv2", "hv3"])
    assert [[move["vm"] for move in step] for step in steps(answer)] == [["db2", "web"], ["db1"]]
    web, db1 = steps(answer)[0][1], steps(answer)[1][0]
    assert (db1["exclusive_cpus"], web["pins"]["cpuset"]) == ("1-3", "0")


def test_the_emulator_of_a_vm_goes_elsewhere_where_a_later_one_gets_all_cpus_near_it() -> None:
    resident = tied("old", "hv2", "1 2 3")
    vms = [tied("db1", "hv1", "0"), tied("db2", "hv1", "1"), resident]
    answer = drain(fleet([machine("hv1"), machine("hv2", "0-3 | 4-5", reserved={"cpus": "0"})], vms), "hv1")
    moves = [move for step in steps(answer) for move in step]
    assert union([move["exclusive_cpus"] for move in moves]) == {4, 5}
    assert {move["pins"]["emulator"] for move in moves} == {"0"}


def test_shared_sets_of_a_numa_vm_leave_out_what_others_of_the_plan_have_for_themselves() -> None:
    vms = [tied("db1", "hv1", "2 3"), tied("web", "hv1", "0-7 0-7", "numa")]
    answer = drain(fleet([machine("hv1"), machine("hv2")], vms), "hv1")
    moves = {move["vm"]: move for step in steps(answer) for move in step}
    assert not union([moves["db1"]["exclusive_cpus"]]) & union(vcpu_sets(moves["web"]["pins"]))


def test_a_host_whose_cpus_all_belong_to_vms_takes_no_other() -> None:
    alone = tied("old", "hv2", "0 1", pinning={"emulator": "2"}, options={"emulator": "isolate"})
    answer = drain(fleet([machine("hv1"), machine("hv2", "0-2")], [vm("web", "hv1"), alone]), "hv1")
    assert codes(answer, "web") == {("hv2", "no_shared_cpu")}


@pytest.mark.parametrize(("others", "feasible"), [([], True), ([vm("web", "hv1")], False)])
def test_a_vm_may_have_all_cpus_of_a_host_only_where_nothing_else_runs(
    others: list[dict[str, Any]], feasible: bool
) -> None:
    alone = tied("db1", "hv1", "0 1", pinning={"emulator": "2"}, options={"emulator": "isolate"})
    answer = drain(fleet([machine("hv1"), machine("hv2", "0-2")], [alone, *others]), "hv1")
    assert answer["feasible"] == feasible


def test_a_host_on_which_a_vm_stays_in_one_cell_is_preferred() -> None:
    guest = tied("db1", "hv1", "0 1 2")
    hosts = [machine("hv1"), machine("hv2", "0-1 | 2-3 | 4-5", gib=64), machine("hv3", "0-3")]
    assert where(drain(fleet(hosts, [guest]), "hv1")) == {"db1": "hv3"}
    assert ask(fleet(hosts, [guest]), "place", vms=["db1"])["candidates"][0]["destinations"] == ["hv3", "hv2"]


def test_a_host_on_which_a_vm_shares_no_core_is_preferred() -> None:
    hosts = [machine("hv1"), machine("hv2", "0+1+2+3 4+5+6+7", gib=64), machine("hv3", "0+1 2+3 4+5")]
    assert where(drain(fleet(hosts, [tied("db1", "hv1", "0 1")]), "hv1")) == {"db1": "hv3"}


def test_place_names_hosts_that_cannot_give_a_vm_its_cpus() -> None:
    hosts = [machine("hv1"), machine("hv2", "0-1"), machine("hv3", "0-3")]
    found = ask(fleet(hosts, [tied("db1", "hv1", "0 1")]), "place", vms=["db1"])["candidates"][0]
    assert found["destinations"] == ["hv3"]
    assert [each["host"] for each in found["rejected"]] == ["hv2"]


def test_a_vm_that_stays_keeps_its_cpus_from_those_that_come() -> None:
    stuck = tied("old", "hv2", "0 1", policy_fields={"home": "hv1", "hosts": ["hv2"]})
    comes = tied("db1", "hv1", "0 1", policy_fields={"home": "hv2"})
    answer = ask(fleet([machine("hv1", "0-3"), machine("hv2", "0-3")], [stuck, comes]), "refill", hosts=["hv1", "hv2"])
    assert ("hv1", "allowed_hosts") in codes(answer, "old")
    assert not where(answer)


@pytest.mark.parametrize(("home", "expected"), [("hv2", ["2", "3"]), ("hv1", ["0", "1"])])
def test_a_definition_that_a_vm_left_at_the_destination_is_replaced(home: str, expected: list[str]) -> None:
    left = tied("db1", "hv2", "2 3", uuid="u-db1", state="shutoff")
    pins = {"vcpus": [{"vcpu": 0, "cpus": "2"}, {"vcpu": 1, "cpus": "3"}]}
    home_of = {"home": {"name": home, "pins": pins}}
    there = machine("hv2", "0-4" if home == "hv2" else "0-2")
    vms = [tied("db1", "hv1", "6 7", uuid="u-db1", policy_fields=home_of), left]
    move = only_move(drain(fleet([machine("hv1"), there], vms), "hv1"))
    assert vcpu_sets(move["pins"]) == expected


def test_a_definition_that_a_vm_left_keeps_its_cpus_from_others() -> None:
    left = tied("db1", "hv2", "0 1", uuid="u-db1", state="shutoff")
    vms = [tied("db1", "hv3", "6 7", uuid="u-db1"), left, tied("db2", "hv1", "0 1")]
    hosts = [machine("hv1"), machine("hv2"), machine("hv3", maintenance=True)]
    assert vcpu_sets(only_move(drain(fleet(hosts, vms), "hv1"))["pins"]) == ["2", "3"]


def test_cpus_of_a_definition_that_is_replaced_are_for_those_that_come_later() -> None:
    left = tied("db1", "hv2", "0 1", uuid="u-db1", state="shutoff")
    home = {"home": {"name": "hv2", "pins": {"vcpus": [{"vcpu": 0, "cpus": "2"}, {"vcpu": 1, "cpus": "3"}]}}}
    vms = [tied("db1", "hv1", "4 5", uuid="u-db1", policy_fields=home), left, tied("db2", "hv1", "6 7")]
    answer = drain(fleet([machine("hv1"), machine("hv2", "0-4")], vms), "hv1")
    found = {move["vm"]: vcpu_sets(move["pins"]) for step in steps(answer) for move in step}
    assert found == {"db1": ["2", "3"], "db2": ["0", "1"]}
