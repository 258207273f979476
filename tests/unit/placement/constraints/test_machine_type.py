# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from tests.unit.placement.constraints.pair import refusals


@pytest.mark.parametrize(("known", "wanted"), [(None, "q35"), (["pc", "q35"], "q35"), ([], None), (["pc"], None)])
def test_a_machine_type_that_the_host_knows_or_that_nobody_names_is_no_constraint(
    known: list[str] | None, wanted: str | None
) -> None:
    assert refusals({"machine_types": known}, {"machine_type": wanted}) == []


@pytest.mark.parametrize("known", [[], ["pc"], ["q35-10.0"]])
def test_a_host_whose_qemu_does_not_know_the_machine_type_is_refused(known: list[str]) -> None:
    expected = [{"code": "machine_type", "machine_type": "q35"}]
    assert refusals({"machine_types": known}, {"machine_type": "q35"}) == expected
