# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the threads of a running VM belong whose memory is not bound yet as its definition says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import Pinning, PinningPolicy
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import HostState, Wish

from tests.unit.pinning.residents import GIB, Vm, aimed, carried, host, pins, vm, wish
from tests.unit.pinning.small import cells, dedicated

NUMA, SHARE = PinningPolicy("numa"), dedicated(emulator="share")
TWO = host(tuple(replace(each, free_kib=10 * GIB) for each in cells("0 1 2 3 | 4 5 6 7", memory=[64 * GIB] * 2)))
BOTH_CELLS = vm("db1", memory=100 * GIB, held={0: 50 * GIB, 1: 50 * GIB})


def run(state: HostState, vms: list[Vm], *wishes: Wish, keep_free: str = "") -> list[Vm]:
    free = frozenset(int(cpu) for cpu in keep_free.split())
    return carried(state, vms, aimed(state, vms, *wishes, keep_free=free), *wishes)


def threads(each: Vm, state: int = 0) -> str:
    own: Pinning = each.states[state].pinning
    return " | ".join([" ".join(pin.cpus for pin in own.vcpus), own.emulator or "-"])


@pytest.mark.parametrize("live", [pins(), pins("", "strict 0"), pins("", "interleave 0-1")])
def test_the_emulator_stays_near_the_memory_of_the_definition(live: Pinning) -> None:
    start = Vm(vm("db1", live, memory=100 * GIB).live, BOTH_CELLS.defined, BOTH_CELLS.held)
    asked = run(TWO, [start, vm("web")], wish("db1", SHARE))

    assert threads(asked[0], 1).endswith(" | 2-7")
    assert threads(asked[0]) == threads(asked[0], 1)
    for wishes in ([], [wish("web", PinningPolicy())], [wish("db1", SHARE)]):
        assert run(TWO, asked, *wishes)[0] == asked[0]


SMALL = host(cells("0 1 2 3 | 4 5", memory=[64 * GIB] * 2))
IN_ONE = vm("app", memory=4 * GIB, held={1: 4 * GIB})


@pytest.mark.parametrize("start", [IN_ONE, replace(IN_ONE, defined=None)], ids=["persistent", "transient"])
def test_a_numa_vm_that_has_not_started_since_returns_to_its_cell(start: Vm) -> None:
    asked = run(SMALL, [start], wish("app", NUMA))
    assert threads(asked[0]) == "4-5 4-5 | 4-5"
    away = run(SMALL, asked, keep_free="4 5")
    assert threads(away[0]) == "0-3 0-3 | 0-3"
    assert run(SMALL, away) == run(SMALL, away, wish("app", NUMA)) == asked


@pytest.mark.parametrize(
    ("state", "policy", "live"),
    [
        (SMALL, PinningPolicy("numa", host_cells=frozenset({0})), pins()),
        (SMALL, PinningPolicy("numa", host_cells=frozenset({0})), pins("", "strict 1")),
        (host(SMALL.cells, offline="5"), NUMA, pins()),
        (host(SMALL.cells, offline="5"), NUMA, pins("", "strict 1")),
    ],
)
def test_it_stays_away_from_its_memory_where_it_may_not_be_or_has_no_room(
    state: HostState, policy: PinningPolicy, live: Pinning
) -> None:
    start = vm("app", live, memory=4 * GIB, held={1: 4 * GIB}, state="live")
    asked = run(state, [start], wish("app", policy))
    assert threads(asked[0]) == "0-3 0-3 | 0-3"
    assert run(state, asked) == asked


def test_a_state_that_was_placed_by_itself_stays_where_it_is() -> None:
    start = run(SMALL, [vm("app", memory=4 * GIB, held={0: 4 * GIB})], wish("app", NUMA))
    other = Vm(None, start[0].defined, {})
    elsewhere = run(SMALL, [other], wish("app", PinningPolicy("numa", host_cells=frozenset({1}))))
    moved = Vm(start[0].live, elsewhere[0].defined, start[0].held)

    assert (threads(moved), threads(moved, 1)) == ("0-3 0-3 | 0-3", "4-5 4-5 | 4-5")
    assert run(SMALL, [moved]) == [moved]


def test_a_vm_keeps_the_memory_that_it_is_to_have_though_it_has_other_now() -> None:
    states = [vm("db1", pins("0-3 0-3 | 0-3", f"strict {nodes}", cpuset="0-3"), NUMA) for nodes in ("0-1", "0")]
    both = Vm(states[0].live, states[1].defined, {0: 4})
    assert run(TWO, [both]) == run(TWO, [both], wish("db1", NUMA)) == [both]


def test_a_vm_that_had_to_leave_its_memory_keeps_where_it_went() -> None:
    state = host(SMALL.cells, offline="1-3,5")
    bound = pins("", "strict 0 | strict 0 | strict 0")
    start = vm("app", bound, cells=((1, GIB), (1, GIB)), state="live")
    asked = run(state, [start], wish("app", NUMA))
    assert threads(asked[0]) == "0 4 | 0,4"
    again = aimed(state, asked, wish("app", NUMA))
    assert again.aims[0].kept
    assert run(state, asked, wish("app", NUMA)) == run(state, asked) == asked
