# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import Vcpus
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._vcpus import Support, VcpuWish

SHAPE = Vcpus(current=2, maximum=16, sockets=2, dies=1, cores=4, threads=2)


def wish(**options: Any) -> VcpuWish:
    return VcpuWish.from_dict({"name": "a", **options})


def test_what_is_not_given_has_its_default() -> None:
    found = wish()
    assert (found.vm, found.method, found.unplug_pinned, found.unpluggable) == ("a", "live", "refuse", None)
    assert found.wanted(SHAPE) is None


@pytest.mark.parametrize(("options", "count"), [({"count": 3}, 3), ({"sockets": 1}, 8), ({"sockets": 2}, 16)])
def test_a_number_of_sockets_is_one_of_vcpus(options: dict[str, int], count: int) -> None:
    assert wish(**options).wanted(SHAPE) == count


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, (False, True)), ({"can_plug": True}, (True, True)), ({"can_unplug": False}, (False, False))],
)
def test_who_knows_better_than_the_matrix_is_believed(given: dict[str, bool], expected: tuple[bool, bool]) -> None:
    found = wish(**given).support(Support(plug=False, unplug=True, known=True))
    assert (found.plug, found.unplug) == expected


@pytest.mark.parametrize("option", [{"maximum": 4}, {"topology": {"threads": 2}}, {"unpluggable": False}])
def test_an_agent_cannot_change_what_the_next_start_has(option: dict[str, Any]) -> None:
    with pytest.raises(FleetError) as failure:
        wish(method="agent", count=1, **option)
    assert (failure.value.code, failure.value.facts["vm"]) == ("bad_options", "a")


@pytest.mark.parametrize("option", [{"count": 0}, {"sockets": -1}])
def test_a_vm_needs_one_vcpu(option: dict[str, int]) -> None:
    with pytest.raises(FleetError, match=r"VM a .* at least one") as failure:
        wish(**option)
    assert failure.value.code == "too_few"
