# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.model import Host, Vm
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.resources import UNLIMITED
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.weights import WEIGHTS, Choice, best
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.placement.fleet import ask, drain, fleet, host, vm, where
from tests.unit.placement.tied import machine, tied

# Weights that are as good as their numbers in a choice.
PLAIN = {"moves_again": "tier", "numa_split": "cells", "broken_cores": "broken", "spread": "arrivals"}
NONE = dict.fromkeys(WEIGHTS, 0)


def choice(**numbers: int) -> Choice:
    fields = {"capacity_kib": 0, "free_kib": 0, "arrivals": 0, "pinned": 0, **numbers}
    return Choice(vm=Vm("db1", "hv1"), host=Host("hv2"), **fields)


NUMBERS = st.fixed_dictionaries(dict.fromkeys(PLAIN.values(), st.sampled_from([0, 1, 7, 1000])))
FACTORS = st.dictionaries(st.sampled_from(sorted(PLAIN)), st.integers(0, 5))


@given(st.lists(NUMBERS, max_size=6), FACTORS)
def test_the_best_has_the_least_sum_of_ranks_times_factors(
    numbers: list[dict[str, int]], factors: dict[str, int]
) -> None:
    def score(index: int) -> int:
        total = 0
        for name, field in PLAIN.items():
            better = {each[field] for each in numbers if each[field] < numbers[index][field]}
            total += factors.get(name, WEIGHTS[name][1]) * len(better)
        return total

    expected = sorted(range(len(numbers)), key=lambda index: (score(index), index))
    assert best([choice(**each) for each in numbers], factors) == expected


def test_it_does_not_matter_how_much_worse_a_host_is() -> None:
    near, far = ([choice(arrivals=0, cells=2), choice(arrivals=most, cells=1)] for most in (1, 1000))
    factors = {**NONE, "numa_split": 2, "spread": 1}
    assert best(near, factors) == best(far, factors) == [1, 0]


def test_a_rank_by_one_weight_counts_more_than_a_rank_by_all_weaker_ones_together() -> None:
    defaults = [default for _weight, default in WEIGHTS.values()]
    assert all(one > sum(defaults[index + 1 :]) for index, one in enumerate(defaults))


@pytest.mark.parametrize(
    ("capacity", "free", "load"),
    [(100, 40, 60), (1000, 403, 60), (1000, 399, 61), (100, 0, 100), (100, -10, 110), (UNLIMITED, 5, 0), (0, 0, 0)],
)
def test_memory_load_is_what_is_in_use_in_whole_per_cent(capacity: int, free: int, load: int) -> None:
    assert WEIGHTS["memory_load"][0](choice(capacity_kib=capacity, free_kib=free)) == load


SHAPE = {"topology": {"sockets": 1, "cores": 2, "threads": 1}}
PINS = {"vcpus": [{"vcpu": 0, "cpus": "0"}]}

# Name of a weight → hv2, which is worse by it and comes first by name, hv3, db1, and who else is there.
CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], list[dict[str, Any]]]] = [
    ("losses", machine("hv2", "0-1"), machine("hv3", "0-3"), vm("db1", "hv1", vcpus={"current": 3}), []),
    ("losses", machine("hv2", "1-3"), machine("hv3", "0-2"), tied("db1", "hv1", "0", "manual"), []),
    (
        "losses",
        machine("hv2", topology={"sockets": 2, "cores": 1, "threads": 4}),
        machine("hv3", topology={"sockets": 1, "cores": 2, "threads": 4}),
        vm("db1", "hv1", vcpus={"current": 2, **SHAPE}, pinning=PINS),
        [],
    ),
    ("numa_split", machine("hv2", "0-2 | 3-5"), machine("hv3", "0-5"), tied("db1", "hv1", "0 1 2 3"), []),
    ("broken_cores", machine("hv2", "0+1 2+3"), machine("hv3", "0 1 2 3"), tied("db1", "hv1", "0"), []),
    (
        "least_pinned",
        machine("hv2"),
        machine("hv3"),
        tied("db1", "hv1", "0", "manual"),
        [tied("old", "hv2", "1 2", "manual"), tied("old3", "hv3", "1", "manual")],
    ),
    ("memory_load", host("hv2", 8), host("hv3", 16), vm("db1", "hv1", 4), []),
]


@pytest.mark.parametrize(("name", "worse", "better", "guest", "others"), CASES)
def test_a_weight_of_the_request_chooses_and_one_of_zero_does_not(
    name: str, worse: dict[str, Any], better: dict[str, Any], guest: dict[str, Any], others: list[dict[str, Any]]
) -> None:
    snapshot = fleet([machine("hv1"), worse, better], [guest, *others])
    for factor, first in ((1, "hv3"), (0, "hv2")):
        answer = ask(snapshot, "place", vms=["db1"], options={"weights": {**NONE, name: factor}})
        assert answer["candidates"][0]["destinations"][0] == first
        assert where(answer) == {"db1": first}


PAIR = fleet([host("hv1"), host("hv2", 64), host("hv3", 16)], [vm("db1", "hv1"), vm("web", "hv1")])


@pytest.mark.parametrize(
    ("weights", "ends"),
    [
        (None, ["hv2", "hv2"]),
        ({}, ["hv2", "hv2"]),
        ({"memory_load": 0}, ["hv2", "hv3"]),
        ({"spread": 3}, ["hv2", "hv3"]),
        ({"spread": 0}, ["hv2", "hv2"]),
        (NONE, ["hv2", "hv2"]),
    ],
)
def test_factors_that_a_request_does_not_name_are_the_usual_ones(
    weights: dict[str, int] | None, ends: list[str]
) -> None:
    assert sorted(where(drain(PAIR, "hv1", weights=weights)).values()) == ends


def test_a_vm_is_kept_off_hosts_that_are_emptied_later_before_anything_else() -> None:
    soon, late = choice(tier=1), choice(tier=0, cells=4, broken=4, arrivals=4)
    assert best([soon, late], {}) == [1, 0]
    assert best([soon, late], {"moves_again": 0}) == [0, 1]


@pytest.mark.parametrize("weights", [{"luck": 1}, {"spread": 1, "Memory_Load": 1}, {"spread": -1}, {"spread": 1.5}])
def test_a_weight_that_does_not_exist_and_a_factor_that_is_no_whole_number_are_refused(
    weights: dict[str, Any],
) -> None:
    with pytest.raises(FleetError) as caught:
        drain(PAIR, "hv1", weights=weights)
    assert caught.value.code == "bad_request"
