# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How good plans are on fleets of a realistic size. The benchmark compares the same fleets with an exact solver."""

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _placement
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement import exact_cp

from tests.bench.first_fit import first_fit
from tests.bench.fleets import drain_request, fleet, host_name, mixed_fleet

SEEDS = range(10)

# By fill: how many moves of others the exact solver needs for all of these fleets together.
FEWEST_EXTRA = {0.85: 0, 0.9: 6, 0.95: 12, 0.97: 18}


@pytest.fixture(autouse=True)
def _without_the_exact_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_cp, "HAS_ORTOOLS", False)


@pytest.mark.parametrize("fill", FEWEST_EXTRA)
def test_three_of_forty_full_hosts_are_emptied_with_few_moves_of_others(fill: float) -> None:
    answers = [_placement.plan(drain_request(3), fleet(40, 3, fill, seed)) for seed in SEEDS]
    assert [answer["feasible"] for answer in answers] == [True] * len(SEEDS)
    assert sum(answer["totals"]["extra"] for answer in answers) <= 1.25 * FEWEST_EXTRA[fill] + 1


def test_first_fit_fails_on_most_of_the_fullest_fleets() -> None:
    found = [first_fit(fleet(40, 3, 0.97, seed), drain_request(3)) is not None for seed in SEEDS]
    assert sum(found) < len(SEEDS) / 2


@pytest.mark.parametrize("refill", ["leapfrog", "none", "home"])
def test_a_rollout_of_all_hosts_is_near_its_bounds(refill: str) -> None:
    request = {"question": "rollout", "hosts": [host_name(number) for number in range(60)], "refill": refill}
    answer = _placement.plan(request, fleet(60, 0, 0.72, 1))
    assert answer["feasible"]
    assert answer["totals"]["moves"] <= 1.05 * answer["bounds"]["moves"]
    assert answer["gap"]["waves"] == 0 or answer["waves_gap_reason"]


def test_vms_with_cpus_of_their_own_are_placed_with_one_move_each() -> None:
    answer = _placement.plan(drain_request(4), mixed_fleet(40, 400, 1))
    assert answer["feasible"]
    assert answer["gap"]["moves"] == 0
