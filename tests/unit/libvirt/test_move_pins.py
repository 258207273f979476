# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a move's pins is in the XML that its destination gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Following,
    Pinning,
    PinningPolicy,
    Policy,
    parse_domain,
    with_policy,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration.arrival import (
    arrived_with,
    pins_at_home,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration.move import move_from_dict
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import parse_cpuset

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


def domain(more: str = "", vcpus: str = "<vcpu>4</vcpu>", policy: Policy | None = None, runs: bool = False) -> str:
    xml = f"""<domain type='kvm'{" id='7'" if runs else ""}>
  <name>db1</name>
  <uuid>11111111-2222-3333-4444-555555555555</uuid>
  <memory unit='KiB'>1048576</memory>
  {vcpus}
  {more}
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
</domain>
"""
    return with_policy(xml, policy)


ALL = {
    "policy": "dedicated",
    "vcpus": [{"vcpu": number, "cpus": str(number)} for number in range(8)],
    "iothreads": [{"iothread": 1, "cpus": "0"}, {"iothread": 2, "cpus": "1"}],
    "cells": [{"id": 0, "mode": "strict", "node": "0"}, {"id": 1, "mode": "strict", "node": "1"}],
    "memory": {"mode": "strict", "nodes": "0-1"},
    "cpuset": "8-9",
}
CELLS = "<cpu><numa><cell id='0' cpus='0-3' memory='1048576'/></numa></cpu>"


@pytest.mark.parametrize(
    ("vcpus", "more", "expected"),
    [
        ("<vcpu>8</vcpu>", "<iothreads>2</iothreads>", ([0, 1, 2, 3, 4, 5, 6, 7], [1, 2], [])),
        ("<vcpu current='1'>2</vcpu>", "<iothreads>1</iothreads>", ([0, 1], [1], [])),
        ("<vcpu>1</vcpu>", CELLS, ([0], [], [0])),
    ],
)
def test_each_state_gets_the_pins_of_threads_and_cells_that_it_has(
    vcpus: str, more: str, expected: tuple[list[int], list[int], list[int]]
) -> None:
    after = parse_domain(move(ALL).with_pins(domain(more, vcpus, DEDICATED)))
    numbers = [pin.vcpu for pin in after.pinning.vcpus], [pin.iothread for pin in after.pinning.iothreads]
    assert (*numbers, [cell.id for cell in after.pinning.cells]) == expected
    assert after.pinning.memory
    assert arrived_with(Pinning.from_dict(ALL), after)
    without = replace(after, pinning=replace(after.pinning, vcpus=after.pinning.vcpus[1:]))
    assert not arrived_with(Pinning.from_dict(ALL), without)


@pytest.mark.parametrize("limit", [None, "2-3", "8-9"])
@pytest.mark.parametrize("stored", [None, Policy(pinning=PinningPolicy("none"))])
def test_a_state_that_is_to_have_no_pins_gets_none_of_those_that_a_policy_chose(
    stored: Policy | None, limit: str | None
) -> None:
    vcpu = f"<vcpu cpuset='{limit}'>2</vcpu>" if limit else "<vcpu>2</vcpu>"
    once = move(ALL).with_pins(domain("", vcpu, stored))
    after = parse_domain(once)
    assert after.pinning == Pinning(cpuset="8-9")
    assert after.policy
    assert after.policy.following == Following("8-9", None if limit == "8-9" else limit)
    assert move(ALL).with_pins(once) == once
    assert arrived_with(Pinning.from_dict(ALL), after)


@pytest.mark.parametrize(
    ("cpuset", "stored", "isolation", "expected"),
    [
        ("0-3", None, "0-3", None),
        ("0-3", None, "", "0-3"),
        ("0-3", None, "0-4", "0-3"),
        ("0-3", Policy(following=Following("0-3", "0-5")), "0-3", "0-5"),
        ("0-3", Policy(pinning=PinningPolicy("none"), following=Following("0-2", "0-3")), "0-3", "0-3"),
        ("0-3", DEDICATED, "", None),
        ("0-3", Policy(pinning=PinningPolicy("numa"), following=Following("0-3", "1-5")), "", "1-5"),
    ],
)
def test_a_set_that_follows_from_the_host_is_not_kept_for_the_way_home(
    cpuset: str, stored: Policy | None, isolation: str, expected: str | None
) -> None:
    live = parse_domain(domain("", f"<vcpu cpuset='{cpuset}'>2</vcpu>", stored, runs=True))
    assert pins_at_home(live, parse_cpuset(isolation)).cpuset == expected
