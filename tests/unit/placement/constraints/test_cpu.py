# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.placement.constraints.pair import refusals

CPUS: dict[str, Any] = {
    "small": {"vendor": "Intel", "features": ["aes"], "address_bits": 40},
    "large": {"vendor": "Intel", "features": ["aes", "avx2", "avx512f"], "address_bits": 46},
    "same": {"vendor": "Intel", "features": ["aes"], "address_bits": 40},
    "swapped": {"vendor": "Intel", "features": ["sse4a"], "address_bits": 40},
    "amd": {"vendor": "AMD", "features": ["aes"], "address_bits": 40},
    "other": {"vendor": "AMD", "features": [], "address_bits": 39},
    "unknown": {},
}


@pytest.mark.parametrize(
    ("offered", "needed"),
    [
        ("small", "small"),
        ("same", "small"),
        ("large", "small"),
        ("small", None),
        (None, "large"),
        ("unknown", "large"),
        ("small", "unknown"),
    ],
)
def test_a_host_that_has_all_of_the_cpu_or_of_which_nothing_is_known_takes_the_vm(
    offered: str | None, needed: str | None
) -> None:
    assert refusals({"cpu": offered}, {"cpu": needed}, cpus=CPUS) == []


VENDOR = {"code": "cpu_vendor", "vendor": "AMD", "needed_vendor": "Intel"}


@pytest.mark.parametrize(
    ("offered", "needed", "expected"),
    [
        (
            "small",
            "large",
            [
                {"code": "cpu_features", "missing": ["avx2", "avx512f"]},
                {"code": "address_bits", "address_bits": 40, "needed_address_bits": 46},
            ],
        ),
        ("swapped", "small", [{"code": "cpu_features", "missing": ["aes"]}]),
        ("amd", "small", [VENDOR]),
        (
            "other",
            "small",
            [
                VENDOR,
                {"code": "cpu_features", "missing": ["aes"]},
                {"code": "address_bits", "address_bits": 39, "needed_address_bits": 40},
            ],
        ),
    ],
)
def test_everything_that_a_host_lacks_of_the_cpu_is_a_reason_of_its_own(
    offered: str, needed: str, expected: list[dict[str, Any]]
) -> None:
    assert refusals({"cpu": offered}, {"cpu": needed}, cpus=CPUS) == expected


def test_the_cpu_decides_where_the_pool_does_not() -> None:
    gold = {"pool": "gold"}
    found = refusals({**gold, "cpu": "amd"}, {"cpu": "small"}, {**gold, "cpu": "small"}, CPUS, stay_in_pool=False)
    assert found == [VENDOR]
