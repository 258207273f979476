# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.placement.fleet import ask, fleet, host, vm, where
from tests.unit.placement.referee import judge
from tests.unit.placement.tied import machine, tied, union

Json = dict[str, Any]


def rebalance(snapshot: Json, most: int, *hosts: str, **options: Any) -> Json:
    """Even out hosts, by default all, and let the referee see it."""
    names = list(hosts) or [item["name"] for item in snapshot["hosts"]]
    request = {"hosts": names, "max_moves": most, "options": options}
    answer = ask(snapshot, "rebalance", **request)
    assert judge(snapshot, {"question": "rebalance", **request}, answer).violations == ()
    assert (answer["feasible"], answer["unplaced"], answer["search"]) == (True, [], "found")
    return answer


def uneven(*counts: int, gib: float = 8, size: float = 1) -> Json:
    """Give hosts ``hv1`` … of one size with so many VMs of one size."""
    vms = [
        vm(f"vm{index}-{count}", f"hv{index}", size) for index, most in enumerate(counts, 1) for count in range(most)
    ]
    return fleet([host(f"hv{index}", gib) for index in range(1, len(counts) + 1)], vms)


def ends(answer: Json) -> tuple[float, float]:
    after = answer["balance"]["after"]
    return after["lowest_percent"], after["highest_percent"]


@pytest.mark.parametrize(("most", "moves"), [(0, 0), (1, 1), (2, 2), (3, 2), (9, 2)])
def test_not_more_vms_move_than_allowed_and_none_when_the_hosts_are_even(most: int, moves: int) -> None:
    answer = rebalance(uneven(6, 3, 3), most)
    assert answer["totals"]["moves"] == len(where(answer)) == moves
    assert answer["totals"]["extra"] == 0


def test_the_load_before_and_after_is_told() -> None:
    answer = rebalance(uneven(6, 2, 4), 9)
    assert answer["balance"]["before"] == {"lowest_percent": 25.0, "highest_percent": 75.0}
    assert ends(answer) == (50.0, 50.0)


def test_even_hosts_have_no_plan_and_bounds_of_nothing() -> None:
    answer = rebalance(uneven(3, 3), 5)
    assert answer["waves"] == []
    assert answer["bounds"] == {"moves": 0, "waves": 0, "seconds": 0.0}
    assert answer["totals"] == {"moves": 0, "waves": 0, "seconds": 0.0, "extra": 0}


def test_one_vm_less_is_not_worth_a_move() -> None:
    # It would only change which host has more.
    assert rebalance(uneven(3, 2), 5)["waves"] == []


def test_with_one_move_the_best_one_is_made() -> None:
    vms = [vm("a-small", "hv1", 1), vm("b-large", "hv1", 4), vm("c-medium", "hv1", 3)]
    assert where(rebalance(fleet([host("hv1", 8), host("hv2", 8)], vms), 1)) == {"b-large": "hv2"}


def test_no_bound_is_above_the_plan_and_a_fitting_plan_has_no_gap() -> None:
    answer = rebalance(uneven(6, 2, 4), 9)
    assert (answer["bounds"]["moves"], answer["totals"]["moves"], answer["gap"]["moves"]) == (2, 2, 0)
    assert answer["bounds"]["waves"] == answer["totals"]["waves"] == 1
    assert 0 < answer["bounds"]["seconds"] <= answer["totals"]["seconds"]


def test_loads_are_shares_of_hosts_of_different_size() -> None:
    hosts = [host("hv1", 4), host("hv2", 16)]
    answer = rebalance(fleet(hosts, [vm(f"vm{number}", "hv1", 1) for number in range(4)]), 9)
    assert ends(answer) == (18.8, 25.0)


def test_no_host_gets_fuller_than_the_fullest_was() -> None:
    # The squares of the shares would fall from .9² + .3² to .23² + .92².
    hosts = [host("hv1", 100), host("hv2", 108)]
    vms = [vm("large", "hv1", 67, policy={"hosts": ["hv2"]}), vm("rest", "hv1", 23), vm("there", "hv2", 32.4)]
    vms[1]["policy"] = {"migration": "manual"}
    assert rebalance(fleet(hosts, vms), 1)["waves"] == []


@pytest.mark.parametrize("policy", [{"migration": "manual"}, {"migration": "pinned"}, {"hosts": ["hv1"]}])
def test_vms_that_nobody_may_move_stay(policy: Json) -> None:
    snapshot = uneven(6, 0)
    for one in snapshot["vms"]:
        one["policy"] = policy
    assert rebalance(snapshot, 9)["waves"] == []


@pytest.mark.parametrize("ends_of_moves", [("hv1", "hv2"), ("hv2", "hv1")])
def test_hosts_in_maintenance_are_left_alone(ends_of_moves: tuple[str, str]) -> None:
    full, empty = ends_of_moves
    hosts = [host(full, 8), host(empty, 8, maintenance=True), host("hv3", 8)]
    vms = [vm(f"vm{number}", full, 1) for number in range(6)]
    assert set(where(rebalance(fleet(hosts, vms), 9)).values()) == {"hv3"}
    # Nor are they relieved: emptying them is a drain.
    hosts[1]["maintenance"], hosts[0]["maintenance"] = False, True
    assert rebalance(fleet(hosts, vms), 9)["waves"] == []


def test_only_hosts_of_the_request_send_and_receive() -> None:
    answer = rebalance(uneven(6, 2, 0, 8), 9, "hv1", "hv2")
    assert set(where(answer).values()) == {"hv2"}
    assert ends(answer) == (50.0, 50.0)


def test_an_excluded_host_receives_none() -> None:
    assert set(where(rebalance(uneven(6, 0, 0), 9, exclude_hosts=["hv2"])).values()) == {"hv3"}


def test_vms_stay_in_their_pool() -> None:
    snapshot = uneven(6, 0)
    for number, pool in enumerate(("gold", "silver")):
        snapshot["hosts"][number]["pool"] = pool
    assert rebalance(snapshot, 9)["waves"] == []
    assert rebalance(snapshot, 9, stay_in_pool=False)["totals"]["moves"] == 3


def test_a_group_that_is_kept_together_moves_whole_or_not_at_all() -> None:
    app = [vm(f"app{number}", "hv1", 1, policy={"keep_together": ["app"]}) for number in range(3)]
    stays = vm("db", "hv1", 3, policy={"migration": "manual"})
    snapshot = fleet([host("hv1", 8), host("hv2", 8)], [*app, stays])
    assert rebalance(snapshot, 2)["waves"] == []
    assert set(where(rebalance(snapshot, 3))) == {"app0", "app1", "app2"}


def test_vms_that_are_kept_apart_do_not_meet() -> None:
    vms = [vm(f"db{number}", f"hv{number}", 4, policy={"keep_apart": ["db"]}) for number in (1, 2)]
    assert set(where(rebalance(fleet([host("hv1"), host("hv2")], [*vms, vm("web", "hv1", 4)]), 9))) <= {"web"}


def test_hosts_of_unknown_size_take_no_part() -> None:
    snapshot = uneven(6, 0)
    snapshot["hosts"].append(host("hv3", None))
    answer = rebalance(snapshot, 9)
    assert set(where(answer).values()) == {"hv2"}
    assert ends(answer) == (37.5, 37.5)


def test_a_dedicated_vm_gets_cpus_that_nobody_else_has() -> None:
    free = {"policy_fields": {"migration": "automatic"}}
    vms = [tied(f"vm{number}", "hv1", cpus, **free) for number, cpus in enumerate(("0 1", "2 3"))]
    resident = tied("resident", "hv2", "0 1", gib=0.25)
    answer = rebalance(fleet([machine("hv1", "0-4"), machine("hv2", "0-4")], [*vms, resident]), 1)
    (move,) = answer["waves"][0]["steps"][0]["moves"]
    assert move["destination"] == "hv2"
    assert len(union([move["exclusive_cpus"]]) & {2, 3, 4}) == 2
