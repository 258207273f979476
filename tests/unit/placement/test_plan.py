# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from tests.unit.placement.fleet import GIB, ask, codes, drain, fleet, host, steps, vm, where


def test_a_move_carries_all_that_its_execution_needs() -> None:
    target = host("hv2", link_mib_s=1024, migration={"uri": "qemu+tls://hv2/system", "address": "10.0.0.2"})
    answer = drain(fleet([host("hv1", link_mib_s=2048), target], [vm("db1", "hv1", 8)]), "hv1")
    assert steps(answer) == [
        [
            {
                "vm": "db1",
                "uuid": "uuid-db1",
                "source": "hv1",
                "destination": "hv2",
                "destination_uuid": "uuid-hv2",
                "uri": "qemu+tls://hv2/system",
                "migrate_uri": "tcp://10.0.0.2",
                "pins": None,
                "estimated_s": 8.0,
                "purpose": "asked",
            }
        ]
    ]
    assert answer["bounds"] == {"moves": 1, "waves": 1, "seconds": 8.0}
    assert answer["totals"] == {"moves": 1, "waves": 1, "seconds": 8.0, "extra": 0}
    assert answer["gap"] == {"moves": 0, "waves": 0, "seconds": 0.0}
    assert answer["loads"] == [
        {"host": "hv1", "capacity_kib": 16 * GIB, "before_kib": 8 * GIB, "after_kib": 0},
        {"host": "hv2", "capacity_kib": 16 * GIB, "before_kib": 0, "after_kib": 8 * GIB},
    ]


def test_an_ipv6_address_gets_brackets() -> None:
    answer = drain(fleet([host("hv1"), host("hv2", migration={"address": "fd00::2"})], [vm("db1", "hv1")]), "hv1")
    assert steps(answer)[0][0]["migrate_uri"] == "tcp://[fd00::2]"


def test_an_empty_host_is_ready_without_moves() -> None:
    answer = drain(fleet([host("hv1"), host("hv2")], []), "hv1")
    assert answer["feasible"]
    wave = {"hosts": ["hv1"], "steps": [], "shutdowns": [], "refill_steps": [], "estimated_s": 0.0}
    assert answer["waves"] == [wave]
    assert answer["bounds"] == {"moves": 0, "waves": 0, "seconds": 0.0}


def test_of_hosts_that_fit_the_least_loaded_is_preferred() -> None:
    vms = [vm("db1", "hv1", 4), vm("old", "hv2", 8), vm("old2", "hv3", 4)]
    assert where(drain(fleet([host("hv1"), host("hv2"), host("hv3")], vms), "hv1")) == {"db1": "hv3"}


def test_equal_vms_spread_over_equal_hosts() -> None:
    vms = [vm(f"web{number}", "hv1", 1) for number in range(4)]
    assert sorted(where(drain(fleet([host("hv1"), host("hv2"), host("hv3")], vms), "hv1")).values()) == [
        "hv2",
        "hv2",
        "hv3",
        "hv3",
    ]


def test_a_host_where_the_vm_loses_nothing_is_preferred_to_a_less_loaded_one() -> None:
    hosts = [host("hv1"), host("hv2", 8, cells=[{"id": 0, "cpus": "0-7"}]), host("hv3", 64, cells=[{"cpus": "0-3"}])]
    pinned = vm("db1", "hv1", pinning={"vcpus": [{"vcpu": 0, "cpus": "7"}]})
    assert where(drain(fleet(hosts, [pinned]), "hv1")) == {"db1": "hv2"}


def test_a_plan_is_found_where_the_preferred_hosts_lead_into_a_dead_end() -> None:
    # The large VM fits on hv2 only. First-fit and least-loaded fill hv2 with a small one, which hv3 could take.
    hosts = [host("hv1", 32), host("hv2", 10, pool="a"), host("hv3", 5, pool="a")]
    hosts[0]["pool"] = "a"
    vms = [vm("a-small", "hv1", 5), vm("b-small", "hv1", 4), vm("c-large", "hv1", 6)]
    assert where(drain(fleet(hosts, vms), "hv1")) == {"a-small": "hv3", "b-small": "hv2", "c-large": "hv2"}


def dead_end() -> dict[str, object]:
    # Sizes 6 5 4 3 on 9 + 9: every greedy order that starts with 6 + 3 is right, 6 then best fit leaves 5 + 4 together.
    # 4 4 3 3 3 3 on 10 + 10 defeats best-fit decreasing: 4+4 on one host leaves 2 unused, then 3+3+3 leaves one VM out.
    hosts = [host("hv1", 64), host("hv2", 10), host("hv3", 10)]
    sizes = [4, 4, 3, 3, 3, 3]
    return fleet(hosts, [vm(f"vm{number}", "hv1", size) for number, size in enumerate(sizes)])


def test_a_plan_is_found_where_best_fit_decreasing_finds_none() -> None:
    answer = drain(dead_end(), "hv1")  # type: ignore[arg-type]
    assert answer["feasible"]
    large = {name: target for name, target in where(answer).items() if name in ("vm0", "vm1")}
    assert sorted(large.values()) == ["hv2", "hv3"]


def test_the_search_says_when_its_effort_was_not_enough() -> None:
    hosts = [host("hv1", 99), host("hv2", 12), host("hv3", 12)]
    sizes = [6, 4, 4, 4, 3, 3]
    snapshot = fleet(hosts, [vm(f"vm{number}", "hv1", size) for number, size in enumerate(sizes)])
    limited = drain(snapshot, "hv1", node_limit=0)
    full = drain(snapshot, "hv1")
    assert (full["feasible"], full["search"]) == (True, "found")
    if not limited["feasible"]:
        assert limited["search"] == "limit"
        assert (None, "search_limit") in codes(limited, limited["unplaced"][0]["vm"])


def test_a_shortage_of_memory_in_total_is_proven_with_numbers() -> None:
    hosts = [host("hv1", 64), host("hv2", 10), host("hv3", 10), host("hv4", 99, maintenance=True)]
    answer = drain(fleet(hosts, [vm(f"vm{number}", "hv1", 6) for number in range(4)]), "hv1")
    assert (answer["feasible"], answer["search"], answer["waves"]) == (False, "exhausted", [])
    assert answer["shortage"] == {
        "vms": ["vm0", "vm1", "vm2", "vm3"],
        "proof": "memory_kib",
        "needed_kib": 24 * GIB,
        "free_kib": 20 * GIB,
        "needed_vcpus": 0,
        "free_vcpus": None,
        "hosts_count": 2,
        "hosts": [
            {"host": "hv2", "free_kib": 10 * GIB, "free_vcpus": None},
            {"host": "hv3", "free_kib": 10 * GIB, "free_vcpus": None},
        ],
    }
    name = answer["unplaced"][0]["vm"]
    assert codes(answer, name) == {(None, "together"), ("hv2", "memory"), ("hv3", "memory"), ("hv4", "maintenance")}


def test_a_shortage_names_the_group_that_is_confined_to_too_few_hosts() -> None:
    hosts = [host("hv1", 64), host("hv2", 10), host("hv3", 64)]
    confined = [vm(f"db{number}", "hv1", 6, policy={"hosts": ["hv2"]}) for number in range(2)]
    answer = drain(fleet(hosts, [*confined, vm("web", "hv1", 6)]), "hv1")
    assert answer["shortage"]["vms"] == ["db0", "db1"]
    assert [item["host"] for item in answer["shortage"]["hosts"]] == ["hv2"]


def test_gaps_that_are_too_small_are_no_proof_but_exhausted() -> None:
    hosts = [host("hv1", 64), host("hv2", 5), host("hv3", 5)]
    answer = drain(fleet(hosts, [vm(f"vm{number}", "hv1", 3) for number in range(3)]), "hv1")
    assert (answer["search"], answer["shortage"]["proof"]) == ("exhausted", None)


def test_vcpus_limit_a_plan_like_memory() -> None:
    cells = [{"id": 0, "cpus": "0-3"}]
    hosts = [host("hv1"), host("hv2", cells=cells, cpu_overcommit=1), host("hv3", cells=cells, cpu_overcommit=1)]
    vms = [vm(f"vm{number}", "hv1", vcpus={"current": 3}) for number in range(3)]
    assert not drain(fleet(hosts, vms), "hv1")["feasible"]
    assert drain(fleet(hosts, vms[:2]), "hv1")["feasible"]


def test_a_drain_that_cannot_succeed_moves_nothing_unless_asked() -> None:
    snapshot = fleet([host("hv1"), host("hv2", 4)], [vm("db1", "hv1", 8), vm("web", "hv1", 4)])
    assert drain(snapshot, "hv1")["waves"] == []
    partial = drain(snapshot, "hv1", best_effort=True)
    assert (where(partial), partial["feasible"], partial["waves"][0]["hosts"]) == ({"web": "hv2"}, False, [])


def home(name: str, **fields: object) -> dict[str, object]:
    return {"home": {"uuid": f"uuid-{name}", "name": name, **fields}}


def test_refill_brings_home_what_belongs_there() -> None:
    vms = [
        vm("db1", "hv2", policy=home("hv1")),
        vm("db2", "hv3", policy={"home": "hv1"}),
        vm("db3", "hv3", policy=home("hv2")),
        vm("db4", "hv1", policy=home("hv1")),
        vm("db5", "hv2", policy=home("hv1"), state="shutoff"),
        vm("web", "hv2"),
    ]
    answer = ask(fleet([host("hv1"), host("hv2"), host("hv3")], vms), "refill", hosts=["hv1"])
    assert where(answer) == {"db1": "hv1", "db2": "hv1"}
    assert answer["waves"][0]["hosts"] == ["hv1"]


def test_a_home_is_known_by_uuid_when_the_inventory_renames_hosts() -> None:
    snapshot = fleet([host("new", uuid="uuid-hv1"), host("hv1", uuid="x")], [vm("db1", "hv1", policy=home("hv1"))])
    assert where(ask(snapshot, "refill", hosts=["new"])) == {"db1": "new"}


def test_refill_none_moves_nothing() -> None:
    snapshot = fleet([host("hv1"), host("hv2")], [vm("db1", "hv2", policy=home("hv1"))])
    answer = ask(snapshot, "refill", hosts=["hv1"], refill="none")
    assert (answer["feasible"], steps(answer)) == (True, [])


def test_one_vm_that_cannot_go_home_does_not_keep_others_from_it() -> None:
    vms = [vm("db1", "hv2", 12, policy=home("hv1")), vm("db2", "hv2", 2, policy=home("hv1"))]
    answer = ask(fleet([host("hv1", 8), host("hv2")], vms), "refill", hosts=["hv1"])
    assert where(answer) == {"db2": "hv1"}
    assert codes(answer, "db1") == {("hv1", "memory")}


def test_a_home_too_small_for_all_takes_as_many_as_it_can() -> None:
    vms = [vm(f"db{number}", "hv2", size, policy=home("hv1")) for number, size in enumerate([5, 2, 2])]
    answer = ask(fleet([host("hv1", 6), host("hv2")], vms), "refill", hosts=["hv1"])
    assert where(answer) == {"db1": "hv1", "db2": "hv1"}
    assert codes(answer, "db0") == {(None, "together"), ("hv1", "memory")}


def test_a_move_into_room_that_another_move_frees_waits_for_a_later_step() -> None:
    # Both belong on the other host; only hv2 has room for the exchange.
    vms = [vm("db1", "hv1", 8, policy=home("hv2")), vm("db2", "hv2", 8, policy=home("hv1"))]
    answer = ask(fleet([host("hv1", 8), host("hv2", 16)], vms), "refill", hosts=["hv1", "hv2"])
    assert [[move["vm"] for move in step] for step in steps(answer)] == [["db1"], ["db2"]]


def test_an_exchange_without_room_is_unplaced_because_of_the_order() -> None:
    vms = [vm("db1", "hv1", 8, policy=home("hv2")), vm("db2", "hv2", 8, policy=home("hv1"))]
    answer = ask(fleet([host("hv1", 8), host("hv2", 8)], vms), "refill", hosts=["hv1", "hv2"])
    assert codes(answer, "db1") == {(None, "order"), ("hv2", "memory")}
    assert codes(answer, "db2") == {(None, "order"), ("hv1", "memory")}


def test_another_assignment_is_taken_where_the_first_has_no_order() -> None:
    # hv3 is the only way out of the exchange, although hv1 and hv2 would be emptier after it.
    vms = [vm("db1", "hv1", 8), vm("db2", "hv2", 8), vm("big", "hv3", 32)]
    snapshot = fleet([host("hv1", 8), host("hv2", 8), host("hv3", 40)], vms)
    answer = ask(snapshot, "place", vms=["db1", "db2"])
    assert answer["feasible"]
    assert "hv3" in where(answer).values()


def test_answers_survive_json_and_do_not_depend_on_the_order_of_the_input() -> None:
    hosts = [host("hv1", 64), host("hv2", 10), host("hv3", 10), host("hv4", 20, link_mib_s=100)]
    vms = [vm(f"vm{number}", "hv1", size, dirty_mib_s=90.5) for number, size in enumerate([4, 4, 3, 3, 3, 3])]
    answer = drain(fleet(hosts, vms), "hv1")
    assert json.loads(json.dumps(answer)) == answer
    assert drain(fleet(hosts[::-1], vms[::-1]), "hv1") == answer


def test_estimates_follow_the_slower_link_and_the_dirty_rate() -> None:
    hosts = [host("hv1", link_mib_s=1024), host("hv2", link_mib_s=512)]
    assert steps(drain(fleet(hosts, [vm("db1", "hv1", 1)]), "hv1"))[0][0]["estimated_s"] == 2.0
    dirty = drain(fleet(hosts, [vm("db1", "hv1", 1, dirty_mib_s=256)]), "hv1")
    assert steps(dirty)[0][0]["estimated_s"] == 4.0
    endless = drain(fleet(hosts, [vm("db1", "hv1", 1, dirty_mib_s=600)]), "hv1")
    assert steps(endless)[0][0]["estimated_s"] == 20.0
    assert "may_not_converge" in {warning["code"] for warning in endless["warnings"]}


def test_the_time_bound_counts_what_one_link_must_send() -> None:
    hosts = [host("hv1", link_mib_s=1024), host("hv2", link_mib_s=1024), host("hv3", link_mib_s=1024)]
    answer = drain(fleet(hosts, [vm(f"vm{number}", "hv1", 2) for number in range(3)]), "hv1")
    assert answer["bounds"] == {"moves": 3, "waves": 1, "seconds": 6.0}


@pytest.mark.parametrize(("times", "stale"), [((1000, 1000), []), ((1000, 2000), ["hv1"]), ((1000, None), [])])
def test_parts_much_older_than_the_newest_are_named(times: tuple[int, int | None], stale: list[str]) -> None:
    hosts = [host("hv1", collected_s=times[0]), host("hv2", collected_s=times[1])]
    warnings = {item["code"]: item for item in drain(fleet(hosts, []), "hv1")["warnings"]}
    assert warnings.get("stale", {}).get("hosts", []) == stale


def test_fields_whose_absence_lifts_a_constraint_are_named() -> None:
    answer = drain(fleet([host("hv1"), host("hv2", None)], [vm("db1", "hv1", memory_kib=None)]), "hv1")
    missing = {(item["field"], *item.get("hosts", item.get("vms"))) for item in answer["warnings"] if "field" in item}
    assert {("memory_kib", "hv2"), ("memory_kib", "db1")} <= missing
