# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from tests.unit.placement.constraints.pair import refusals

MIXED = [("gold", "silver"), ("gold", None), (None, "gold")]


@pytest.mark.parametrize("pool", ["gold", None])
def test_a_vm_may_go_where_its_own_host_belongs(pool: str | None) -> None:
    assert refusals({"pool": pool}, here={"pool": pool}) == []


@pytest.mark.parametrize(("own", "other"), MIXED)
def test_a_vm_stays_in_the_pool_of_its_host_and_outside_of_pools_if_that_is_in_none(
    own: str | None, other: str | None
) -> None:
    assert refusals({"pool": other}, here={"pool": own}) == [{"code": "pool", "pool": other, "own_pool": own}]


@pytest.mark.parametrize(("own", "other"), MIXED)
def test_a_vm_may_leave_its_pool_on_request(own: str | None, other: str | None) -> None:
    assert refusals({"pool": other}, here={"pool": own}, stay_in_pool=False) == []
