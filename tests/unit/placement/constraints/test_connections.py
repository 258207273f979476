# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from tests.unit.placement.constraints.pair import refusals

KINDS = pytest.mark.parametrize("kind", ["networks", "storage"])


@KINDS
@pytest.mark.parametrize(
    ("offered", "wanted"), [(["a", "b"], ["a", "b"]), (["a", "b", "c"], ["b"]), ([], []), ([], None), (None, ["a"])]
)
def test_a_host_with_all_that_the_vm_uses_or_of_which_nothing_is_known_takes_it(
    kind: str, offered: list[str] | None, wanted: list[str] | None
) -> None:
    assert refusals({kind: offered}, {kind: wanted}) == []


@KINDS
@pytest.mark.parametrize(
    ("offered", "wanted", "missing"),
    [([], ["b", "a"], ["a", "b"]), (["a"], ["b", "a"], ["b"]), (["b", "c"], ["a"], ["a"])],
)
def test_a_host_that_lacks_some_is_refused_and_says_which(
    kind: str, offered: list[str], wanted: list[str], missing: list[str]
) -> None:
    assert refusals({kind: offered}, {kind: wanted}) == [{"code": kind, "missing": missing}]


def test_a_network_is_no_storage_of_the_same_name() -> None:
    found = refusals({"networks": ["a"], "storage": []}, {"networks": ["a"], "storage": ["a"]})
    assert found == [{"code": "storage", "missing": ["a"]}]
