# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    IothreadPin,
    MemNode,
    NumaMemory,
    Pinning,
    VcpuPin,
    parse_domain,
    with_pinning,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import format_cpuset
from hypothesis import given
from hypothesis import strategies as st

OWNED = ("cputune/vcpupin", "cputune/emulatorpin", "cputune/iothreadpin", "numatune/memory", "numatune/memnode")

LIVE = Pinning(
    policy="manual",
    vcpus=(VcpuPin(0, "2"), VcpuPin(1, "3"), VcpuPin(2, "4"), VcpuPin(3, "5")),
    emulator="0-1",
    iothreads=(IothreadPin(1, "0"),),
    cpuset="0-7",
    memory=NumaMemory("strict", "0"),
    cells=(MemNode(0, "strict", "0"),),
)

SETS = st.frozensets(st.integers(0, 30), min_size=1).map(format_cpuset)
NUMBERS = st.integers(0, 9)


def numbered(make: Callable[[int, str], Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.dictionaries(NUMBERS, SETS, max_size=4).map(
        lambda pins: tuple(make(number, cpus) for number, cpus in sorted(pins.items()))
    )


PINNINGS = st.builds(
    Pinning,
    vcpus=numbered(VcpuPin),
    emulator=st.none() | SETS,
    iothreads=numbered(IothreadPin),
    cpuset=st.none() | SETS | st.just("auto"),
    memory=st.none() | st.builds(NumaMemory, st.sampled_from(["strict", "preferred"]), SETS | st.just("auto")),
    cells=numbered(lambda cell, node: MemNode(cell, "strict", node)),
).map(lambda pins: Pinning.from_dict({**pins.as_dict(), "policy": None}))


def test_the_pins_of_a_running_vm(live: str) -> None:
    assert parse_domain(live).pinning == LIVE


def test_pins_as_data(live: str) -> None:
    assert parse_domain(live).pinning.as_dict() == {
        "policy": "manual",
        "vcpus": [
            {"vcpu": 0, "cpus": "2"},
            {"vcpu": 1, "cpus": "3"},
            {"vcpu": 2, "cpus": "4"},
            {"vcpu": 3, "cpus": "5"},
        ],
        "emulator": "0-1",
        "iothreads": [{"iothread": 1, "cpus": "0"}],
        "cpuset": "0-7",
        "memory": {"mode": "strict", "nodes": "0"},
        "cells": [{"id": 0, "mode": "strict", "node": "0"}],
    }


@given(PINNINGS)
def test_data_and_back_gives_the_same_pins(pins: Pinning) -> None:
    assert Pinning.from_dict(pins.as_dict()) == pins


def test_the_pins_of_a_plan_are_read_with_defaults_and_in_one_spelling() -> None:
    pins = Pinning.from_dict(
        {
            "vcpus": [{"vcpu": "1", "cpus": "5,4"}, {"vcpu": 0, "cpus": 3}],
            "memory": {"mode": "preferred", "nodes": 1},
            "cells": [{"id": 0, "node": 1}, {"id": 1, "node": None}, {"id": 2, "vcpus": "0-1", "memory_kib": 7}],
            "thread_policy": "prefer",
        }
    )

    assert pins == Pinning(
        policy="manual",
        vcpus=(VcpuPin(0, "3"), VcpuPin(1, "4-5")),
        memory=NumaMemory("preferred", "1"),
        cells=(MemNode(0, "preferred", "1"),),
    )
    assert Pinning.from_dict({}) == Pinning()


@pytest.mark.parametrize(
    "data",
    [
        {"vcpus": [{"vcpu": 0}]},
        {"vcpus": [{"vcpu": "first", "cpus": "1"}]},
        {"vcpus": ["0=1"]},
        {"vcpus": {"0": "1"}},
        {"memory": "0"},
        {"cells": [{"node": 0}]},
    ],
)
def test_data_of_another_shape_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(FleetError) as caught:
        Pinning.from_dict(data)

    assert caught.value.code == "bad_pins"


def test_a_bad_set_is_named() -> None:
    with pytest.raises(FleetError, match="'3-1'"):
        Pinning.from_dict({"emulator": "3-1"})


@pytest.mark.parametrize("pin", ["<vcpupin cpuset='1'/>", "<vcpupin vcpu='a' cpuset='1'/>"])
def test_a_pin_without_number_is_refused(pin: str) -> None:
    with pytest.raises(FleetError) as caught:
        parse_domain(f"<domain><name>a</name><cputune>{pin}</cputune></domain>")

    assert caught.value.code == "bad_pins"


def test_writing_the_pins_a_vm_has_changes_nothing(live: str, plain: str) -> None:
    for xml in (live, plain):
        assert with_pinning(xml, parse_domain(xml).pinning) == xml


@given(pins=PINNINGS)
def test_exactly_the_given_pins_are_written_and_all_else_stays(
    live: str, plain: str, nodes: Callable[..., Any], pins: Pinning
) -> None:
    for xml in (live, plain):
        written = with_pinning(xml, pins)

        assert parse_domain(written).pinning == pins
        assert with_pinning(written, pins) == written
        made = ("cputune", "numatune") if xml is plain else ("numatune",)
        ignored = {"attributes": ("cpuset", "placement")}
        assert nodes(written, *OWNED, *made, **ignored) == nodes(xml, *OWNED, *made, **ignored)


@given(first=PINNINGS, second=PINNINGS)
def test_pins_do_not_depend_on_those_before(live: str, plain: str, first: Pinning, second: Pinning) -> None:
    for xml in (live, plain):
        assert parse_domain(with_pinning(with_pinning(xml, first), second)).pinning == second


def test_pins_keep_their_place_and_indentation(live: str) -> None:
    written = with_pinning(live, Pinning(vcpus=(VcpuPin(0, "8"), VcpuPin(1, "9")), cpuset="8-9"))

    assert (
        """  <cputune>
    <shares>2048</shares>
    <!-- agreed with the database team -->
    <vcpupin vcpu="0" cpuset="8"/>
    <vcpupin vcpu="1" cpuset="9"/>
    <vcpusched vcpus="0-3" scheduler="fifo" priority="1"/>
  </cputune>
  <resource>"""
        in written
    )
    assert '<vcpu placement="static" cpuset="8-9" current="4">8</vcpu>' in written
    assert "numatune" not in written


def test_sections_are_made_where_libvirt_prints_them(plain: str) -> None:
    written = with_pinning(plain, Pinning(vcpus=(VcpuPin(0, "1"),), memory=NumaMemory("strict", "0")))

    assert (
        """  <vcpu>2</vcpu>
  <cputune>
    <vcpupin vcpu="0" cpuset="1"/>
  </cputune>
  <numatune>
    <memory mode="strict" nodeset="0"/>
  </numatune>
  <os>"""
        in written
    )


def test_taking_the_pins_away_again_gives_the_text_before(plain: str) -> None:
    pinned = with_pinning(plain, Pinning(vcpus=(VcpuPin(0, "1"),), memory=NumaMemory("strict", "0")))

    assert with_pinning(pinned, Pinning()).replace('"', "'") == plain.rstrip()


def test_placement_by_numad_is_told_apart_from_no_pins() -> None:
    xml = (
        "<domain><name>a</name><vcpu placement='auto'>2</vcpu>"
        "<numatune><memory mode='strict' placement='auto'/></numatune></domain>"
    )
    pins = parse_domain(xml).pinning

    assert (pins.cpuset, pins.memory, pins.policy) == ("auto", NumaMemory("strict", "auto"), "none")
    fixed = with_pinning(xml, Pinning(cpuset="0-1", memory=NumaMemory("strict", "0")))
    assert fixed == (
        '<domain><name>a</name><vcpu placement="static" cpuset="0-1">2</vcpu>'
        '<numatune>\n    <memory mode="strict" nodeset="0"/>\n  </numatune></domain>'
    )
    assert parse_domain(with_pinning(fixed, pins)).pinning == pins
