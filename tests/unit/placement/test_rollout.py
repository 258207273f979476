# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.placement.fleet import GIB, ask, drain, fleet, host, vm
from tests.unit.placement.referee import judge
from tests.unit.placement.tied import machine, tied, union

Json = dict[str, Any]


def uniform(count: int, each: int, gib: float = 4, **fields: Any) -> Json:
    """Give hosts ``hv1`` … of one size, with as many VMs of 1 GiB on each; links carry 1 GiB in a second."""
    names = [f"hv{number}" for number in range(1, count + 1)]
    hosts = [host(name, gib, link_mib_s=1024, **fields) for name in names]
    return fleet(hosts, [vm(f"{name}-vm{number}", name) for name in names for number in range(each)])


def rollout(snapshot: Json, *hosts: str, **request: Any) -> Json:
    """Plan for hosts, by default for all, and let the referee see it."""
    asked = {"hosts": list(hosts) or [item["name"] for item in snapshot["hosts"]], **request}
    answer = ask(snapshot, "rollout", **asked)
    assert judge(snapshot, {"question": "rollout", **asked}, answer).violations == ()
    return answer


def down(answer: Json) -> list[list[str]]:
    return [wave["hosts"] for wave in answer["waves"]]


def moved(answer: Json) -> list[list[tuple[str, str, str]]]:
    """Return VM, destination and purpose of the moves of each wave."""
    return [
        [
            (move["vm"], move["destination"], move["purpose"])
            for step in (*wave["steps"], *wave["refill_steps"])
            for move in step["moves"]
        ]
        for wave in answer["waves"]
    ]


def numbers(answer: Json) -> tuple[int, int, int]:
    """Return moves, waves and extra moves."""
    return tuple(answer["totals"][key] for key in ("moves", "waves", "extra"))  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("count", "each", "waves"),
    [(2, 2, 2), (4, 2, 2), (4, 3, 4), (6, 2, 2), (8, 3, 4), (9, 1, 2), (4, 1, 2), (10, 3, 5), (5, 3, 5)],
)
def test_equal_hosts_are_serviced_in_as_few_waves_as_their_capacity_lets(count: int, each: int, waves: int) -> None:
    answer = rollout(uniform(count, each))
    assert (answer["totals"]["waves"], answer["bounds"]["waves"], answer["gap"]["waves"]) == (waves, waves, 0)
    assert (answer["feasible"], answer["search"], answer["waves_gap_reason"]) == (True, "found", None)


def test_hosts_of_a_later_wave_send_their_vms_to_hosts_that_are_ready() -> None:
    # Each VM moves once, but for those of the first wave, which have nothing but hosts that wait to go to.
    answer = rollout(uniform(4, 2))
    assert (numbers(answer), answer["bounds"]["moves"], answer["gap"]["moves"]) == ((12, 2, 4), 12, 0)


def with_spare(gib: float, load: float) -> Json:
    """Give four hosts of 4 GiB with a VM of 1 GiB each, and a spare host with one of ``load``."""
    snapshot = uniform(4, 1)
    spare, there = host("spare", gib, link_mib_s=1024), vm("there", "spare", load)
    return {**snapshot, "hosts": [*snapshot["hosts"], spare], "vms": [*snapshot["vms"], there]}


@pytest.mark.parametrize("refill", ["none", "leapfrog"])
def test_vms_on_a_spare_host_that_is_not_serviced_need_not_move_again(refill: str) -> None:
    # The hosts that wait are emptier, so a drain would send its VMs there.
    serviced = ("hv1", "hv2", "hv3", "hv4")
    answer = rollout(with_spare(16, 8), *serviced, refill=refill, options={"max_hosts_down": 1})
    assert (numbers(answer), answer["gap"]["moves"]) == ((4, 4, 0), 0)


@pytest.mark.parametrize(("refill", "takes"), [("leapfrog", False), ("none", True)])
def test_leapfrog_fills_hosts_that_are_ready_before_others(refill: str, takes: bool) -> None:
    # By its load the spare host is the best for every VM.
    serviced = ("hv1", "hv2", "hv3", "hv4")
    answer = rollout(with_spare(256, 1), *serviced, refill=refill, options={"max_hosts_down": 1})
    assert moved(answer)[0] == [("hv1-vm0", "spare", "asked")]
    assert ("spare" in {target for wave in moved(answer)[1:] for _vm, target, _purpose in wave}) == takes


def test_an_empty_host_goes_first_and_saves_the_moves_of_a_first_wave() -> None:
    snapshot = uniform(4, 4)
    snapshot["vms"] = [one for one in snapshot["vms"] if one["host"] != "hv3"]
    answer = rollout(snapshot)
    assert down(answer)[0] == ["hv3"]
    assert (numbers(answer), answer["gap"]["moves"]) == ((12, 4, 0), 0)
    assert (answer["waves"][0]["steps"], answer["waves"][0]["estimated_s"]) == ([], 0.0)


def test_hosts_without_vms_take_one_wave_and_the_time_of_their_service() -> None:
    answer = rollout(uniform(3, 0), options={"service_s": 600})
    assert down(answer) == [["hv1", "hv2", "hv3"]]
    assert (answer["totals"]["seconds"], answer["bounds"]["seconds"]) == (600.0, 600.0)


def test_with_refill_home_every_vm_moves_twice_and_is_back_where_it_was() -> None:
    snapshot = uniform(4, 2)
    request = {"question": "rollout", "hosts": ["hv1", "hv2", "hv3", "hv4"], "refill": "home"}
    answer = rollout(snapshot, refill="home")
    assert (numbers(answer), answer["bounds"]["moves"], answer["gap"]["moves"]) == ((16, 2, 0), 16, 0)
    assert judge(snapshot, request, answer).places == {one["uuid"]: one["host"] for one in snapshot["vms"]}
    assert {purpose for wave in moved(answer) for _vm, _host, purpose in wave} == {"asked", "back"}


def test_what_made_room_comes_back_as_well() -> None:
    # The large VM fits on hv2 only, and only while the one there is on hv3.
    hosts = [host("hv1", 8), host("hv2", 8), host("hv3", 4)]
    answer = rollout(fleet(hosts, [vm("large", "hv1", 6), vm("small", "hv2", 3)]), "hv1", refill="home")
    assert sorted(moved(answer)[0]) == [
        ("large", "hv1", "back"),
        ("large", "hv2", "asked"),
        ("small", "hv2", "back"),
        ("small", "hv3", "room"),
    ]
    assert numbers(answer) == (4, 1, 1)


def test_not_more_hosts_are_down_than_the_request_says() -> None:
    answer = rollout(uniform(6, 1), options={"max_hosts_down": 2})
    assert [len(hosts) for hosts in down(answer)] == [2, 2, 2]
    assert (answer["bounds"]["waves"], answer["waves_gap_reason"]) == (3, None)


def test_a_group_that_is_kept_apart_bounds_the_hosts_that_are_down() -> None:
    snapshot = uniform(6, 0)
    snapshot["vms"] = [vm(f"db{number}", f"hv{number}", policy={"keep_apart": ["db"]}) for number in range(1, 5)]
    answer = rollout(snapshot)
    assert (answer["totals"]["waves"], answer["bounds"]["waves"]) == (3, 3)
    assert max(len(hosts) for hosts in down(answer)) == 2


@pytest.mark.parametrize("refill", ["none", "leapfrog", "home"])
def test_a_rollout_of_one_host_moves_what_its_drain_moves(refill: str) -> None:
    snapshot = uniform(3, 2)
    answer, drained = rollout(snapshot, "hv2", refill=refill), drain(snapshot, "hv2")
    assert answer["waves"][0]["steps"] == drained["waves"][0]["steps"]
    if refill != "home":
        for key in ("bounds", "totals", "gap", "loads", "feasible", "search"):
            assert answer[key] == drained[key], key


def in_pools(*sizes: tuple[str, int]) -> Json:
    """Give pools with so many hosts of 4 GiB, called after them, with two VMs of 1 GiB on each."""
    names = [(pool, f"{pool}{number}") for pool, count in sizes for number in range(1, count + 1)]
    hosts = [host(name, 4, pool=pool, link_mib_s=1024) for pool, name in names]
    return fleet(hosts, [vm(f"{name}-vm{number}", name) for _pool, name in names for number in range(2)])


def test_pools_have_their_waves_side_by_side() -> None:
    answer = rollout(in_pools(("gold", 2), ("silver", 4)))
    assert down(answer) == [["gold1", "silver1", "silver2"], ["gold2", "silver3", "silver4"]]
    assert answer["bounds"]["waves"] == 2


def test_a_step_begins_when_all_pools_have_ended_the_one_before() -> None:
    # gold: small moves first, as large has to wait for it. silver: the other way round.
    hosts = [host(name, gib, pool=name[:-1], link_mib_s=1024) for name, gib in [("gold1", 9), ("silver1", 9)]]
    hosts += [host("gold2", 8, pool="gold", link_mib_s=1024), host("gold3", 2, pool="gold", link_mib_s=1024)]
    hosts += [host("silver2", 2, pool="silver", link_mib_s=1024), host("silver3", 8, pool="silver", link_mib_s=1024)]
    vms = [vm("g-large", "gold1", 8), vm("g-small", "gold2", 1)]
    vms += [vm("s-small", "silver1", 2), vm("s-large", "silver2", 1), vm("s-wide", "silver3", 8)]
    answer = rollout(fleet(hosts, vms[:2]), "gold1")
    assert answer["waves"][0]["estimated_s"] == 9.0
    answer = rollout(fleet(hosts, [*vms[:2], vm("s", "silver1", 4)]), "gold1", "silver1")
    # silver sends while gold makes room: 4 s instead of 1 s, then gold's large VM takes its 8 s.
    assert answer["waves"][0]["estimated_s"] == 12.0


def test_a_pool_with_a_host_that_cannot_be_emptied_does_not_delay_another() -> None:
    snapshot = in_pools(("gold", 2), ("silver", 2))
    snapshot["vms"][0] = vm("stuck", "gold1", policy={"migration": "pinned"})
    answer = rollout(snapshot)
    assert down(answer) == [["gold2", "silver1"], ["silver2"]]
    assert [(item["vm"], item["host"], item["reasons"][0]["code"]) for item in answer["unplaced"]] == [
        ("stuck", "gold1", "migration_pinned")
    ]
    assert (answer["feasible"], answer["search"]) == (False, "exhausted")
    # The bounds are for the hosts that are serviced.
    assert answer["bounds"]["waves"] <= answer["totals"]["waves"] == 2
    assert answer["bounds"]["moves"] <= answer["totals"]["moves"] == 8
    assert answer["gap"] == {"moves": None, "waves": None, "seconds": None}


def test_every_host_that_cannot_be_emptied_is_named() -> None:
    vms = [vm(f"hv{number}-vm{count}", f"hv{number}", policy={"migration": "pinned"}) for number, count in
           [(1, 1), (2, 1), (2, 2), (3, 1)]]  # fmt: skip
    answer = rollout({**uniform(3, 0), "vms": vms})
    assert (answer["waves"], {item["host"] for item in answer["unplaced"]}) == ([], {"hv1", "hv2", "hv3"})
    assert (answer["totals"], answer["bounds"]) == (
        {"moves": 0, "waves": 0, "seconds": 0.0, "extra": 0},
        {"moves": 0, "waves": 0, "seconds": 0.0},
    )


def test_a_host_that_can_be_emptied_only_later_is_serviced_and_not_named() -> None:
    # The large VM has room nowhere before hv2 has been emptied onto hv3.
    hosts = [host("hv1", 8), host("hv2", 8), host("hv3", 4)]
    snapshot = fleet(hosts, [vm("large", "hv1", 8), vm("small", "hv2", 3), vm("tiny", "hv2", 1)])
    answer = rollout(snapshot, "hv1", "hv2", options={"max_extra_moves": 0})
    assert (down(answer), answer["unplaced"], answer["feasible"]) == ([["hv2"], ["hv1"]], [], True)


def test_hosts_that_had_to_wait_go_together_and_are_not_named() -> None:
    # db1 and db2 may go to hv3 only, which is full until its own VMs are on the spare host.
    hosts = [host("hv1", 8), host("hv2", 8), host("hv3", 16), host("spare", 16)]
    vms = [vm(f"db{number}", f"hv{number}", 3, policy={"hosts": ["hv3"]}) for number in (1, 2)]
    vms += [vm(f"web{number}", "hv3", 4.5) for number in range(3)]
    answer = rollout(fleet(hosts, vms), "hv1", "hv2", "hv3", options={"max_extra_moves": 0})
    assert (down(answer), answer["unplaced"]) == ([["hv3"], ["hv1", "hv2"]], [])


def test_one_host_that_can_never_be_empty_does_not_make_the_others_go_one_by_one() -> None:
    snapshot = uniform(6, 2)
    snapshot["hosts"].append(host("giant", 64, link_mib_s=1024))
    snapshot["vms"].append(vm("giant-vm", "giant", 60))
    answer = rollout(snapshot)
    assert {item["host"] for item in answer["unplaced"]} == {"giant"}
    assert answer["totals"]["waves"] == 2


def test_a_host_in_maintenance_is_ready_after_its_service_and_takes_vms() -> None:
    hosts = [host("hv1", 4, maintenance=True), host("hv2", 4), host("hv3", 4)]
    answer = rollout(fleet(hosts, [vm("db2", "hv2", 4), vm("db3", "hv3", 4)]))
    assert down(answer) == [["hv1"], ["hv2"], ["hv3"]]
    assert moved(answer) == [[], [("db2", "hv1", "asked")], [("db3", "hv2", "asked")]]
    assert (answer["bounds"]["waves"], answer["gap"]["waves"]) == (3, 0)


def test_a_host_in_maintenance_that_is_not_serviced_takes_none() -> None:
    hosts = [host("hv1", 4), host("hv2", 4, maintenance=True)]
    answer = rollout(fleet(hosts, [vm("db", "hv1", 4)]), "hv1")
    assert (answer["feasible"], answer["waves"]) == (False, [])


def test_an_excluded_host_takes_none_even_when_it_is_ready() -> None:
    snapshot = uniform(3, 1)
    answer = rollout(snapshot, options={"exclude_hosts": ["hv1"]})
    assert answer["feasible"]
    assert "hv1" not in {target for wave in moved(answer) for _vm, target, _purpose in wave}


def test_vms_that_cannot_come_home_are_named_where_they_are() -> None:
    answer = rollout(uniform(3, 1), "hv1", refill="home", options={"exclude_hosts": ["hv1"]})
    assert [(item["vm"], item["host"] != "hv1", item["rejected"]) for item in answer["unplaced"]] == [
        ("hv1-vm0", True, {"excluded": 1})
    ]
    assert (down(answer), answer["feasible"], answer["search"]) == ([["hv1"]], False, "limit")
    assert answer["totals"]["moves"] >= answer["bounds"]["moves"] == 1


def test_a_leftover_of_a_migration_keeps_its_host_from_being_serviced() -> None:
    twin = vm("db", "hv2", uuid="uuid-db")
    snapshot = fleet([host("hv1"), host("hv2"), host("hv3")], [vm("db", "hv1"), {**twin, "state": "paused"}])
    answer = rollout(snapshot, "hv2")
    assert answer["waves"] == []
    assert {(item["host"], item["reasons"][0]["code"]) for item in answer["unplaced"]} == {("hv2", "in_transit")}


def test_vms_leave_their_pool_where_they_may() -> None:
    hosts = [host("hv1", 4, pool="gold"), host("hv2", 4, pool="silver")]
    snapshot = fleet(hosts, [vm("db", "hv1")])
    assert not rollout(snapshot, "hv1")["feasible"]
    assert moved(rollout(snapshot, "hv1", options={"stay_in_pool": False})) == [[("db", "hv2", "asked")]]


def test_more_waves_than_the_bound_are_explained_for_their_pool() -> None:
    # By memory all three VMs of 3 GiB fit on two hosts of 5 GiB; whole ones do not.
    hosts = [host(f"gold{number}", 5, pool="gold") for number in range(1, 5)]
    vms = [vm(f"db{number}", f"gold{number}", 2.6) for number in range(1, 4)]
    answer = rollout(fleet(hosts, vms), "gold1", "gold2", "gold4")
    assert (answer["totals"]["waves"], answer["bounds"]["waves"]) == (3, 2)
    assert answer["waves_gap_reason"].startswith("pool gold: 3 waves, the bound by memory_kib is 2; db")
    assert "finds no place while all hosts of the wave are down" in answer["waves_gap_reason"]
    assert answer["gap"]["waves"] == 1
    across = rollout(fleet(hosts, vms), "gold1", "gold2", "gold4", options={"stay_in_pool": False})
    assert across["waves_gap_reason"].startswith("the hosts: 3 waves, the bound by memory_kib is 2; db")


def test_each_wave_takes_its_moves_and_its_service() -> None:
    # 2 GiB over a link of 1 GiB/s take 2 s, the 4 GiB of a host in the second wave 4 s.
    answer = rollout(uniform(4, 2), options={"service_s": 600})
    assert [wave["estimated_s"] for wave in answer["waves"]] == [602.0, 604.0]
    assert answer["totals"]["seconds"] == 1206.0
    assert answer["bounds"]["seconds"] == 1204.0
    assert answer["gap"]["seconds"] == 2.0


def test_the_moves_home_take_their_time_too() -> None:
    answer = rollout(uniform(4, 2), refill="home", options={"service_s": 600})
    assert [wave["estimated_s"] for wave in answer["waves"]] == [604.0, 604.0]
    assert (answer["totals"]["seconds"], answer["bounds"]["seconds"]) == (1208.0, 1208.0)


def test_what_makes_room_early_is_not_counted_in_the_wave_of_its_host() -> None:
    # db2 leaves while large does, so that hv2 has almost nothing to send when its wave comes.
    hosts = [host(f"hv{number}", 16, link_mib_s=1024) for number in range(1, 5)]
    vms = [
        vm("large", "hv1", 6, policy={"hosts": ["hv4"]}),
        vm("db1", "hv1", 0.1, policy={"hosts": ["hv1", "hv2"], "keep_apart": ["db"]}),
        vm("db2", "hv2", 6, policy={"hosts": ["hv3"], "keep_apart": ["db"]}),
        *(vm(f"web{number}", "hv2", 0.1) for number in range(3)),
    ]
    answer = rollout(fleet(hosts, vms), "hv1", "hv2", options={"max_hosts_down": 1})
    assert ("db2", "hv3", "room") in moved(answer)[0]
    assert 6.0 < answer["bounds"]["seconds"] <= answer["totals"]["seconds"] < 12.0


def owned(snapshot: Json, request: Json) -> Json:
    """Plan dedicated VMs, and check at each step that no CPU has two owners; a VM under way has CPUs at both ends."""
    answer = rollout(snapshot, *request.pop("hosts", ()), **request)
    cpus = {one["name"]: union([pin["cpus"] for pin in one["pinning"]["vcpus"]]) for one in snapshot["vms"]}
    at = {one["name"]: one["host"] for one in snapshot["vms"]}
    for wave in answer["waves"]:
        for step in (*wave["steps"], *wave["refill_steps"]):
            held = [(at[name], cpu) for name in at for cpu in cpus[name]]
            for move in step["moves"]:
                new = cpus[move["vm"]] if move["pins"] is None else union([move["exclusive_cpus"]])
                held += [(move["destination"], cpu) for cpu in new]
                cpus[move["vm"]], at[move["vm"]] = new, move["destination"]
            assert len(held) == len(set(held))
    return {name: (at[name], cpus[name]) for name in at}


@pytest.mark.parametrize("refill", ["none", "leapfrog", "home"])
def test_dedicated_cpus_have_one_owner_through_all_waves(refill: str) -> None:
    hosts = [machine(f"hv{number}", "0-5") for number in range(1, 5)]
    vms = [tied(f"vm{number}", f"hv{1 + number % 4}", "0 1" if number < 4 else "2 3") for number in range(7)]
    ends = owned(fleet(hosts, vms), {"refill": refill})
    if refill == "home":
        assert ends == {
            one["name"]: (one["host"], union([pin["cpus"] for pin in one["pinning"]["vcpus"]])) for one in vms
        }


def test_memory_of_vms_is_in_the_loads_before_and_after_all_waves() -> None:
    answer = rollout(uniform(2, 2), "hv1")
    assert [(load["host"], load["before_kib"], load["after_kib"]) for load in answer["loads"]] == [
        ("hv1", 2 * GIB, 0),
        ("hv2", 2 * GIB, 4 * GIB),
    ]


@pytest.mark.parametrize("refill", ["leapfrog", "home"])
def test_a_group_that_is_kept_together_stays_whole_in_each_wave(refill: str) -> None:
    snapshot = uniform(4, 1)
    snapshot["vms"] += [vm(f"app{number}", "hv1", 0.5, policy={"keep_together": ["app"]}) for number in range(3)]
    assert rollout(snapshot, refill=refill)["feasible"]
