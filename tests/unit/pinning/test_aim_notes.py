# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What may go wrong though every VM has the pins it is to have."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import PinningPolicy, overhead_kib
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import PageSize

from tests.unit.pinning.residents import GIB, Vm, aimed, host, pins, vm, wish
from tests.unit.pinning.small import cells, dedicated

NUMA, SHARE = PinningPolicy("numa"), dedicated(emulator="share")
TWO = host(cells("0 1 2 3 | 4 5 6 7", memory=[GIB] * 2))
NEAR = vm("db1", pins("0-3 0-3 | 0-3", "strict 0", cpuset="0-3"), NUMA)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ([vm("web")], "In NUMA cell 0, memory is bound for db1, and VMs that float may take it: web. Give every VM"),
        ([vm("web", state="definition")], "may take it: web."),
        ([vm(f"v{number}") for number in range(7)], "may take it: v0, v1, v2, v3, v4 and 2 more."),
        ([vm("web", pins("0 1"))], "may take it: web."),
        ([vm("web", pins("4 5 | 6"))], None),
        ([vm("web", pins("", cpuset="4-7"))], None),
        ([vm("web", pins("", "strict 0"))], None),
        ([vm("web", pins("4-7 4-7 | 4-7", "strict 1", cpuset="4-7"), NUMA)], None),
        ([], None),
    ],
)
def test_vms_that_float_beside_bound_memory_are_named(others: list[Vm], words: str | None) -> None:
    found = aimed(TWO, [NEAR, *others]).warnings
    assert len(found) == (words is not None), found
    assert words is None or words in found[0]


def test_where_there_is_one_cell_nobody_can_be_sent_to_another() -> None:
    assert aimed(host(TWO.cells[:1]), [NEAR, vm("web")]).warnings == ()


def test_only_bound_memory_can_be_taken_away() -> None:
    loose = vm(
        "db1", pins("0-3 0-3 | 0-3", "preferred 0", cpuset="0-3"), PinningPolicy("numa", memory_mode="preferred")
    )
    assert aimed(TWO, [loose, vm("web")]).warnings == ()


def bound(name: str, memory: int, nodes: str = "0", **rest: object) -> Vm:
    return vm(name, pins("", f"strict {nodes}"), memory=memory, **rest)


@pytest.mark.parametrize(
    ("vms", "words"),
    [
        ([bound("a", GIB, held={0: GIB})], None),
        ([bound("a", GIB + 9, held={0: 9})], None),
        ([bound("a", GIB + 9, held={0: 8})], f"NUMA cell 0 has {GIB} KiB free, but VMs that are bound to it may take"
                                             f" {GIB + 1} more: a. Move one of them"),
        ([bound("a", 2 * GIB, held={})], None),
        ([bound("a", GIB, state="definition")], f"may take {GIB + overhead_kib(GIB, 2)} more: a."),
        ([bound("a", GIB // 2, held={1: 4}), bound("b", GIB // 2, state="definition")], "more: a, b."),
        ([bound("a", GIB // 2, "0-1", held={1: 4}), bound("b", GIB // 2, state="definition")], None),
        ([bound("a", 2 * GIB, "0-1", state="definition")], "NUMA cell 1 has"),
    ],
)  # fmt: skip
def test_memory_that_is_promised_but_not_free_is_told(vms: list[Vm], words: str | None) -> None:
    found = aimed(TWO, vms).warnings
    assert len(found) == (words is not None), found
    assert words is None or words in found[0]


def test_huge_pages_are_counted_by_themselves() -> None:
    huge = "<memoryBacking><hugepages><page size='2' unit='MiB'/></hugepages></memoryBacking>"
    state = host(tuple(replace(cell, pages=(PageSize(2048, 4, 1),)) for cell in TWO.cells))
    found = aimed(state, [bound("a", 4096, state="definition", extra=huge)]).warnings
    assert found == (
        "NUMA cell 0 has 1 pages of 2048 KiB free, but VMs that are bound to it may take 2 more: a. "
        "Move one of them to another cell or host.",
    )


def test_what_is_wished_for_now_counts() -> None:
    half = [vm(name, state="definition", memory=GIB * 2 // 3, vcpus=1) for name in "ab"]
    first = PinningPolicy("numa", host_cells=frozenset({0}))
    (told,) = aimed(TWO, half, wish("a", first)).warnings[:1]
    assert told.endswith("may take it: b. Give every VM of the host the policy numa or dedicated.")


def test_pins_by_hand_on_a_cpu_of_a_dedicated_vm_are_told() -> None:
    vms = [vm("db1", pins("4 5 | 6", "strict 1"), SHARE), vm("web", pins("5 6 | 7", "strict 0"))]
    assert aimed(TWO, vms).warnings[0] == (
        "VMs db1 and web on 5 share CPUs of which one of them is to be the only user. Pin the other one elsewhere."
    )
