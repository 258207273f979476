# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import parse_domain, with_unpluggable
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._vcpus import slots_of


def vm(vcpus: str, parts: str = "") -> str:
    return f"<domain type='kvm'><name>a</name><uuid>6b3e0c6e-0000-4000-8000-000000000001</uuid>{vcpus}{parts}</domain>"


def fixed_and_free(xml: str) -> tuple[list[int], list[int], list[int]]:
    """The numbers of vCPUs that stay, that can go, and that can come."""
    slots = slots_of(xml)
    return (
        [slot.number for slot in slots if slot.plugged and not slot.hotpluggable],
        [slot.number for slot in slots if slot.plugged and slot.hotpluggable],
        [slot.number for slot in slots if not slot.plugged and slot.hotpluggable],
    )


@pytest.mark.parametrize(
    ("vcpus", "parts", "expected"),
    [
        ("<vcpu current='2'>4</vcpu>", "", ([0], [1], [2, 3])),
        ("<vcpu>2</vcpu>", "", ([0], [1], [])),
        ("<vcpu>1</vcpu>", "", ([0], [], [])),
        (
            "<vcpu current='4'>6</vcpu>",
            "<cpu><topology sockets='1' dies='1' cores='3' threads='2'/></cpu>",
            ([0, 1], [2, 3], [4, 5]),
        ),
    ],
)
def test_all_but_the_first_core_can_go(vcpus: str, parts: str, expected: tuple[list[int], ...]) -> None:
    once = with_unpluggable(vm(vcpus, parts), True)
    assert fixed_and_free(once) == expected
    assert with_unpluggable(once, True) == once, "what is like this already stays as it is"
    assert parse_domain(once).vcpus.current == parse_domain(vm(vcpus, parts)).vcpus.current


def test_the_list_follows_the_number_and_goes_again() -> None:
    plain = vm("<vcpu current='2'>4</vcpu>", "<os/>")
    listed = with_unpluggable(plain, True)
    assert listed.index("<vcpus>") < listed.index("<os/>")
    assert fixed_and_free(with_unpluggable(listed, False)) == ([0, 1], [], [2, 3])
    assert with_unpluggable(plain, False) == plain


def test_the_order_in_which_vcpus_were_plugged_is_no_difference() -> None:
    listed = with_unpluggable(vm("<vcpu>2</vcpu>"), True)
    ordered = listed.replace('id="1"', 'id="1" order="2"')
    assert ordered != listed
    assert with_unpluggable(ordered, True) == ordered
