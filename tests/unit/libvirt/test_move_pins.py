# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a move's pins is in the XML that its destination gets."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Following,
    PinningPolicy,
    Policy,
    parse_domain,
    with_policy,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration.move import move_from_dict

XML = """<domain type='kvm'>
  <name>db1</name>
  <uuid>11111111-2222-3333-4444-555555555555</uuid>
  <memory unit='KiB'>1048576</memory>
  <vcpu placement='static' cpuset='0-3'>2</vcpu>
  <cputune><vcpupin vcpu='0' cpuset='0-3'/><emulatorpin cpuset='0-3'/></cputune>
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
</domain>
"""
DEDICATED = Policy(pinning=PinningPolicy("dedicated"))
PINS = {
    "vcpus": [{"vcpu": 0, "cpus": "6"}, {"vcpu": 1, "cpus": "7"}],
    "emulator": "4-5",
    "memory": {"mode": "strict", "nodes": "1"},
}


def move(pins: Any, following: Any = None) -> Any:
    return move_from_dict({"vm": "db1", "destination": "hv2", "uri": "x", "pins": pins, "following": following})


def test_pins_and_memory_of_the_destination_replace_all_that_the_vm_had() -> None:
    after = parse_domain(move(PINS).with_pins(XML)).pinning
    assert [(pin.vcpu, pin.cpus) for pin in after.vcpus] == [(0, "6"), (1, "7")]
    assert (after.emulator, after.cpuset, after.memory and after.memory.nodes) == ("4-5", None, "1")


@pytest.mark.parametrize(
    ("stored", "following", "after"),
    [
        (None, {"cpus": "4-5", "limit": None}, Policy(following=Following("4-5"))),
        (None, None, None),
        (Policy(following=Following("0-3", "0-5")), None, None),
        (
            Policy(following=Following("0-3", "0-5")),
            {"cpus": "4-5", "limit": "0-5"},
            Policy(following=Following("4-5", "0-5")),
        ),
        (DEDICATED, None, DEDICATED),
        (
            Policy(migration="manual", following=Following("0-3")),
            {"cpus": "4", "limit": None, "own": ["vcpu0"]},
            Policy(migration="manual", following=Following("4", None, ("vcpu0",))),
        ),
    ],
)
def test_the_record_of_pins_that_are_not_its_own_goes_with_them(
    stored: Policy | None, following: dict[str, Any] | None, after: Policy | None
) -> None:
    assert parse_domain(move(PINS, following).with_pins(with_policy(XML, stored))).policy == after


def test_a_move_without_pins_leaves_pins_and_record_alone() -> None:
    xml = with_policy(XML, Policy(following=Following("0-3")))
    assert move(None, {"cpus": "4-5"}).with_pins(xml) == xml


def test_a_record_that_cannot_be_read_names_the_vm() -> None:
    with pytest.raises(FleetError, match="VM db1: ") as caught:
        move(PINS, {"limit": "0-3"})
    assert caught.value.code == "bad_policy"
