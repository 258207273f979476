# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pins that a user chose are judged and kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    IothreadPin,
    MemNode,
    NumaMemory,
    Pinning,
    VcpuPin,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import check_pins

from tests.unit.pinning.small import cells, guest, room

HOST = room(cells("0,4 1,5 | 2,6 3,7"), taken="5", isolated="2-3,6-7", offline="1", machine="0-3,5-7")
DB1 = replace(guest((2, 10), numa=True), iothreads=(1,), maximum=4)


def pins(*vcpus: str, **rest: Any) -> Pinning:
    return Pinning("manual", tuple(VcpuPin(number, cpus) for number, cpus in enumerate(vcpus)), **rest)


@pytest.mark.parametrize(
    ("wanted", "code", "words"),
    [
        (pins("2", "3"), None, ""),
        (pins("2", "2"), None, ""),
        (pins("2", "3", "6", "7"), None, ""),
        (pins("0", "3", emulator="0", memory=NumaMemory("strict", "1")), None, ""),
        (pins(emulator="2"), None, ""),
        (pins("0,4"), None, ""),
        (pins("2", cpuset="auto"), None, ""),
        (pins("2", "3", "6", "7", "2"), "no_such_vcpu", "has pins for vCPU 4, but can have 4 vCPUs only"),
        (Pinning("manual", (VcpuPin(-1, "0"),)), "no_such_vcpu", "has pins for vCPU -1, but can have 4 vCPUs only"),
        (pins(iothreads=(IothreadPin(-1, "0"),)), "no_such_iothread", "for I/O thread -1, but has 1. Remove"),
        (pins(iothreads=(IothreadPin(2, "0"),)), "no_such_iothread", "for I/O thread 2, but has 1. Remove these pins"),
        (pins(memory=NumaMemory("strict", "0-2")), "no_such_cell", "is to use NUMA cell 2, but the host has 0-1."),
        (pins(cells=(MemNode(0, "strict", "9"),)), "no_such_cell", "is to use NUMA cell 9"),
        (pins(cells=(MemNode(0, "strict", "1"),)), None, ""),
        (pins(cells=(MemNode(1, "strict", "0"),)), "no_such_guest_cell", "for its own NUMA cell 1, but has 0. Remove"),
        (pins(memory=NumaMemory("bogus", "0")), "bad_pins", "is to bind its memory with the mode 'bogus'. Use one of"),
        (pins(cells=(MemNode(0, "bogus", "0"),)), "bad_pins", "is to bind its cell 0 with the mode 'bogus'."),
        (pins(memory=NumaMemory("preferred", "0-1")), "bad_pins", "is to prefer NUMA cell 0-1 for its memory, but it"),
        (pins(memory=NumaMemory("preferred", "1")), None, ""),
        (pins("2", "64"), "no_such_cpu", "pinned to CPU 64 (vCPU 1 on 64), but the host has no such CPU; it has 0-7."),
        (pins("1"), "cpu_offline", "pinned to CPU 1 (vCPU 0 on 1), but that is offline."),
        (pins("5"), "cpu_owned", "pinned to CPU 5 (vCPU 0 on 5), but VM other has it for itself."),
        (pins("0", emulator="0,5"), "cpu_owned", "CPU 5 (the emulator on 5)"),
        (pins("2-3"), "policy_isolation", "to CPU 2-3 (vCPU 0 on 2-3), but the host isolates it"),
        (pins("0", iothreads=(IothreadPin(1, "0,2"),)), "policy_isolation", "CPU 2 (I/O thread 1 on 2)"),
        (pins("0", cpuset="0,7"), "policy_isolation", "CPU 7 (all other threads on 7)"),
        (pins("4"), "cpu_not_allowed", "(vCPU 0 on 4), but the host lets VMs use 0,2-3,5-7 only."),
    ],
)
def test_pins_must_be_possible_on_the_host(wanted: Pinning, code: str | None, words: str) -> None:
    found = check_pins(DB1, wanted, HOST)

    assert (None if found is None else found.code) == code
    if found is not None:
        assert found.text.startswith("VM db1 ")
        assert words in found.text


def test_a_guest_without_cells_has_none_to_bind() -> None:
    found = check_pins(replace(DB1, numa=False), pins(cells=(MemNode(0, "strict", "0"),)), HOST)
    assert found is not None
    assert (found.code, found.facts["known"]) == ("no_such_guest_cell", [])


@pytest.mark.parametrize("mode", ["strict", "preferred"])
def test_memory_is_not_to_come_from_where_there_never_is_any(mode: str) -> None:
    bare = room(cells("0 1 | 2 3", memory=[100, 0]))
    found = check_pins(DB1, pins(memory=NumaMemory(mode, "1")), bare)
    assert found is not None
    assert (found.code, found.text) == (
        "memory_short",
        "VM db1 is to have memory of NUMA cell 1, which never has any. Name cells that have memory.",
    )


def test_the_owner_of_a_cpu_is_a_fact() -> None:
    found = check_pins(DB1, pins("5"), HOST)
    assert found is not None
    assert found.facts == {"vm": "db1", "cpus": "5", "owners": ["other"]}
