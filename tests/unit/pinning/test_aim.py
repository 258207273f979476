# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What VMs get that somebody wished for, beside all others of the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Following,
    Pinning,
    PinningPolicy,
    overhead_kib,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import Aim, HostAim, HostState, Wish
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import Cell, PageSize, format_cpuset

from tests.unit.pinning.residents import GIB, Vm, aimed, carried, host, pins, vm, wish
from tests.unit.pinning.small import cells, dedicated

FREE, MANUAL, NUMA = PinningPolicy("none"), PinningPolicy("manual"), PinningPolicy("numa")
SHARE = dedicated(emulator="share")
TWO = host(cells("0,4 1,5 | 2,6 3,7", memory=[GIB] * 2))


def shown(found: Pinning | None) -> str:
    """Give the CPUs of vCPUs, emulator and I/O threads, and the memory."""
    if found is None:
        return "-"
    threads = [" ".join(pin.cpus for pin in found.vcpus), found.emulator or "-", *(pin.cpus for pin in found.iothreads)]
    memory = f" @ {found.memory.mode} {found.memory.nodes}" if found.memory else ""
    return " | ".join(threads) + memory + "".join(f" {cell.id}:{cell.node}" for cell in found.cells)


def of(found: HostAim, name: str = "db1") -> Aim:
    return next(each for each in found.aims if each.name == name)


def refused(state: HostState, vms: list[Vm], *wishes: Wish, **options: Any) -> FleetError:
    with pytest.raises(FleetError) as caught:
        aimed(state, vms, *wishes, **options)
    return caught.value


@pytest.mark.parametrize(
    ("policy", "expected", "owned", "blocked"),
    [
        (NUMA, "0-1,4-5 0-1,4-5 | 0-1,4-5 | 0-1,4-5 @ strict 0", "", ""),
        (PinningPolicy("numa", host_cells=frozenset({1})), "2-3,6-7 2-3,6-7 | 2-3,6-7 | 2-3,6-7 @ strict 1", "", ""),
        (PinningPolicy("numa", memory_mode="preferred"), "0-1,4-5 0-1,4-5 | 0-1,4-5 | 0-1,4-5 @ preferred 0", "", ""),
        (SHARE, "0 4 | 1,5 | 1,5 @ strict 0", "0,4", ""),
        (dedicated(), "0 4 | 1 | 1 @ strict 0", "0-1,4", ""),
        (dedicated("isolate", "share"), "0 1 | 2-3,6-7 | 2-3,6-7 @ strict 0", "0-1", "4-5"),
        (dedicated("require", "share"), "0 4 | 1,5 | 1,5 @ strict 0", "0,4", ""),
    ],
)
def test_each_policy_gives_its_pins_to_both_states(
    policy: PinningPolicy, expected: str, owned: str, blocked: str
) -> None:
    found = aimed(TWO, [vm("db1", iothreads=1)], wish("db1", policy))
    aim = of(found)

    assert shown(aim.defined) == shown(aim.live) == expected
    assert (aim.wished, aim.kept, aim.policy) == (True, False, policy)
    assert (format_cpuset(aim.cpus), format_cpuset(aim.blocked)) == (owned, blocked)
    claims = [(each.vm, each.running, format_cpuset(each.cpus), format_cpuset(each.blocked)) for each in found.claims]
    assert claims == ([("db1", True, owned, blocked)] if owned else [])
    assert (aim.following_defined, aim.following_live) == (None, None)


def test_a_guest_with_cells_has_each_in_one_of_the_hosts() -> None:
    found = of(aimed(TWO, [vm("db1", cells=((3, GIB // 2), (2, GIB // 2)))], wish("db1", SHARE)))
    assert shown(found.defined) == "0 4 1 2 6 | 3,5,7 @ strict 0-1 0:0 1:1"
    assert found.cells == (0, 1)


WEB = vm("web", state="definition")


@pytest.mark.parametrize(
    ("policy", "own", "keeps"),
    [
        (SHARE, pins("1 2 | 0", "strict 0-1"), True),
        (SHARE, pins("1 2", "strict 0-1"), True),
        (SHARE, pins("1 1", "strict 0"), False),
        (SHARE, pins("1 2-3", "strict 0-1"), False),
        (SHARE, pins("1", "strict 0"), False),
        (SHARE, pins("1 2", "strict 0"), False),
        (SHARE, pins("1 2", "preferred 0"), False),
        (SHARE, pins("1 2"), False),
        (SHARE, pins("1 5", "strict 0-1"), True),
        (replace(SHARE, host_cells=frozenset({0})), pins("1 5", "strict 0"), True),
        (replace(SHARE, host_cells=frozenset({0})), pins("1 5", "strict 0-1"), False),
        (replace(SHARE, host_cells=frozenset({0})), pins("1 2", "strict 0-1"), False),
        (replace(SHARE, memory_mode="preferred"), pins("1 2", "preferred 1"), True),
        (replace(SHARE, memory_mode="preferred"), pins("1 5", "preferred 1"), False),
        (dedicated(), pins("1 2 | 3", "strict 0-1"), True),
        (dedicated(), pins("1 2 | 2", "strict 0-1"), False),
        (dedicated(), pins("1 2 | 0,4", "strict 0-1"), False),
        (dedicated(), pins("1 2", "strict 0-1"), False),
        (dedicated("isolate", "share"), pins("1 2 | 0", "strict 0-1"), True),
        (dedicated("isolate", "share"), pins("1 5 | 0", "strict 0"), False),
        (dedicated("isolate"), pins("1 2 | 5", "strict 0-1"), False),
        (dedicated("require", "share"), pins("1 5", "strict 0"), True),
        (dedicated("require", "share"), pins("1 2", "strict 0-1"), False),
        (NUMA, pins("0-1,4-5 0-1,4-5", "strict 0"), True),
        (NUMA, pins("0-7 0-7", "strict 0-1"), True),
        (NUMA, pins("0-1,4-5 0-1", "strict 0"), False),
        (NUMA, pins("0-1,4-5 0-1,4-5", "strict 1"), False),
        (NUMA, pins("0-1,4-5 0-1,4-5"), False),
    ],
)
def test_pins_that_fulfil_a_policy_are_kept(policy: PinningPolicy, own: Pinning, keeps: bool) -> None:
    for stored in (None, policy):
        found = of(aimed(TWO, [vm("db1", own, stored), WEB], wish("db1", policy)))
        if stored == NUMA and own.memory is not None:
            # Of the policy's own pins the sets only follow.
            assert found.kept
            continue
        assert found.kept == keeps, shown(found.defined)
        if keeps and found.defined is not None:
            assert (found.defined.vcpus, found.defined.memory) == (own.vcpus, own.memory)


@pytest.mark.parametrize(
    ("own", "state", "others"),
    [
        (pins("1 5", "strict 0"), TWO, [vm("app", pins("5"))]),
        (pins("1 5", "strict 0"), TWO, [vm("app", pins("5 6 | 7", "strict 0-1"), dedicated())]),
        (pins("1 5", "strict 0"), host(TWO.cells, reserved="5"), []),
        (pins("1 5", "strict 0"), host(TWO.cells, offline="5"), []),
        (pins("1 5", "strict 0"), host(TWO.cells, isolated="1,3"), []),
        (pins("1 5", "strict 0"), host(TWO.cells, machine="0-3"), []),
        (pins("0 1", "strict 0"), host(TWO.cells, isolated="0-1,4-6", offline="2-3,7"), []),
    ],
    ids=["by hand", "owned", "reserved", "offline", "not isolated", "outside machine.slice", "none"],
)
def test_cpus_that_a_vm_can_no_longer_own_are_not_kept(own: Pinning, state: HostState, others: list[Vm]) -> None:
    db1 = vm("db1", own, SHARE)
    if not others and state.cpus.isolated == frozenset({0, 1, 4, 5, 6}):
        assert refused(state, [db1], wish("db1", SHARE)).code == "no_shared_cpu"
        return
    found = of(aimed(state, [db1, *others], wish("db1", SHARE)))
    assert not found.kept
    assert found.defined is not None
    assert found.defined.vcpus != own.vcpus


def test_siblings_that_an_isolating_vm_blocks_must_be_nobodys() -> None:
    db1 = vm("db1", pins("1 2", "strict 0-1"), dedicated("isolate", "share"))
    for other in (vm("app", pins("5")), vm("app", pins("5 7 | 3", "strict 0-1"), dedicated())):
        found = of(aimed(TWO, [db1, other], wish("db1", dedicated("isolate", "share"))))
        assert not found.kept
        assert not (found.cpus | found.blocked) & {1, 5}


def test_only_the_emulator_moves_when_the_shared_cpus_change() -> None:
    start = [vm("db1", pins("1 5 | 0,4", "strict 0", cpuset="0,4"), SHARE)]
    found = of(aimed(host(TWO.cells, reserved="3"), [*start, vm("app", pins("0 3 | 2", "strict 0"), dedicated())],
                     wish("db1", SHARE)))  # fmt: skip
    assert found.kept
    assert shown(found.defined) == shown(found.live) == "1 5 | 4 @ strict 0"


def test_a_numa_vm_keeps_its_cells_when_the_shared_cpus_change() -> None:
    start = vm("near", pins("2-3,6-7 2-3,6-7 | 2-3,6-7", "strict 1", cpuset="2-3,6-7"), NUMA)
    other = vm("db1", pins("2 3", "strict 1"), SHARE)
    found = of(aimed(TWO, [start, other], wish("near", NUMA)), "near")
    assert (found.kept, shown(found.live)) == (True, "6-7 6-7 | 6-7 @ strict 1")

    crowded = vm("near", pins("2-3 2-3 2-3 | 2", "strict 1", cpuset="2-3"), NUMA, vcpus=3)
    found = of(aimed(TWO, [crowded, other], wish("near", NUMA)), "near")
    assert (found.kept, shown(found.defined)) == (False, "0-1,4-5 0-1,4-5 0-1,4-5 | 0-1,4-5 @ strict 0")


def test_a_cpu_is_left_where_other_vms_need_one() -> None:
    state = host(cells("0 1 2 3 | 4 5 6 7 8", memory=[GIB] * 2))
    near = vm("near", pins("0-3 0-3 | 0-3", "strict 0", cpuset="0-3"), NUMA)
    for db1, wishes in (
        (vm("db1", pins("0 1 2 3", "strict 0"), SHARE, vcpus=4), []),
        (vm("db1", vcpus=4, held={}), []),
        (vm("db1", vcpus=4, held={}), [wish("near", NUMA)]),
    ):
        found = of(aimed(state, [db1, near], wish("db1", SHARE), *wishes))
        assert (found.kept, shown(found.defined)) == (False, "4 5 6 7 | 8 @ strict 1")


def test_what_runs_is_kept_before_what_is_defined() -> None:
    live, defined = vm("db1", pins("1 5", "strict 0"), SHARE), vm("db1", pins("3 7", "strict 1"), SHARE)
    found = of(aimed(TWO, [Vm(live.live, defined.defined, {0: 4})], wish("db1", SHARE)))
    assert (found.kept, shown(found.defined), shown(found.live)) == (
        True,
        "1 5 | 0,4 @ strict 0",
        "1 5 | 0,4 @ strict 0",
    )

    found = of(aimed(TWO, [Vm(vm("db1").live, defined.defined, {0: 4})], wish("db1", SHARE)))
    assert (found.kept, shown(found.live)) == (True, "3 7 | 2,6 @ strict 1")


def test_threads_of_either_state_get_their_pins() -> None:
    both = Vm(vm("db1", vcpus=1).live, vm("db1", vcpus=3, iothreads=1).defined, {0: 4})
    found = of(aimed(TWO, [both], wish("db1", SHARE)))
    assert (shown(found.live), shown(found.defined)) == ("0 | 5 @ strict 0", "0 4 1 | 5 | 5 @ strict 0")
    assert format_cpuset(found.cpus) == "0-1,4"


@pytest.mark.parametrize(
    ("own", "held", "expected"),
    [
        (pins("", "strict 1"), {0: 4}, "2 6 | 3,7 @ strict 1"),
        (pins("", "preferred 1"), {0: 4}, "0 4 | 1,5 @ strict 0"),
        (pins(), {1: 3, 0: 1}, "2 6 | 3,7 @ strict 1"),
        (pins(), {}, "0 4 | 1,5 @ strict 0"),
    ],
)
def test_a_running_vm_goes_where_its_memory_is(own: Pinning, held: dict[int, int], expected: str) -> None:
    assert shown(of(aimed(TWO, [vm("db1", own, held=held)], wish("db1", SHARE))).live) == expected
    off = of(aimed(TWO, [vm("db1", own, state="definition")], wish("db1", SHARE)))
    assert shown(off.defined) == "0 4 | 1,5 @ strict 0"


def test_memory_is_left_behind_only_where_the_cpus_do_not_suffice() -> None:
    found = of(aimed(host(TWO.cells, reserved="2,6"), [vm("db1", vcpus=3, held={1: 4})], wish("db1", SHARE)))
    assert shown(found.live) == "0 4 1 | 5 @ strict 0"


def test_what_a_vm_holds_is_free_for_itself() -> None:
    full = host(cells("0,4 1,5 | 2,6 3,7", memory=[0, 4]))
    full = host(tuple(replace(cell, memory_kib=GIB) for cell in full.cells))
    assert shown(of(aimed(full, [vm("db1", memory=9, held={0: 9})], wish("db1", NUMA))).live).endswith("strict 0")
    assert refused(full, [vm("db1", memory=9, held={1: 2})], wish("db1", NUMA)).code == "memory_short"


def test_a_vm_that_is_off_needs_memory_for_its_process_too() -> None:
    needed = GIB // 2 + overhead_kib(GIB // 2, 2)
    db1 = vm("db1", state="definition", memory=GIB // 2)
    assert refused(host(cells("0 1 2", memory=[needed - 1])), [db1], wish("db1", NUMA)).facts["needed"] == needed
    assert of(aimed(host(cells("0 1 2", memory=[needed])), [db1], wish("db1", NUMA))).cells == (0,)
    running = vm("db1", memory=GIB // 2, held={})
    assert of(aimed(host(cells("0 1 2", memory=[GIB // 2])), [running], wish("db1", NUMA))).cells == (0,)


def test_memory_promised_to_one_is_not_given_to_the_next() -> None:
    state = host(cells("0 1 2 3 | 4 5 6 7", memory=[GIB] * 2))
    half = [vm(name, state="definition", memory=GIB * 2 // 3) for name in ("a", "b", "c")]
    found = aimed(state, half[:2], wish("a", NUMA), wish("b", NUMA))
    assert [each.cells for each in found.aims] == [(0,), (1,)]
    # What is kept counts too, and what a running VM has not taken yet.
    kept = carried(state, half[:2], found)
    assert refused(state, [*kept, half[2]], *(wish(name, NUMA) for name in "abc")).code == "memory_short"
    running = vm("a", memory=GIB * 4 // 5, held={0: 9})
    found = aimed(state, [running, half[1]], wish("a", NUMA), wish("b", NUMA))
    assert [each.cells for each in found.aims] == [(0,), (1,)]


HUGE = "<memoryBacking><hugepages><page size='2' unit='MiB'/></hugepages></memoryBacking>"


@pytest.mark.parametrize(
    "first",
    [
        vm("a", pins("0-7 0-7", "strict 0"), NUMA, memory=GIB * 4 // 5, held={0: 9}),
        vm("a", pins("0", "strict 0"), state="definition", memory=GIB * 2 // 3),
    ],
    ids=["runs", "off"],
)
def test_memory_promised_to_those_nobody_asked_about_is_not_given_away(first: Vm) -> None:
    new = vm("b", state="definition", memory=GIB * 2 // 3)
    assert of(aimed(TWO, [first, new], wish("b", NUMA)), "b").cells == (1,)
    only = PinningPolicy("numa", host_cells=frozenset({0}))
    error = refused(TWO, [first, new], wish("b", only))
    assert error.code == "memory_short"
    assert error.msg.endswith(" Not free is what VMs that are bound to these cells have not taken yet (a).")


def test_a_vm_that_is_off_is_promised_memory_for_its_process_too() -> None:
    sizes = GIB // 4, GIB // 2
    needed = sum(size + overhead_kib(size, 2) for size in sizes)
    first = vm("a", pins("", "strict 0"), state="definition", memory=sizes[0])
    new = vm("b", state="definition", memory=sizes[1])
    assert of(aimed(host(cells("0 1", memory=[needed])), [first, new], wish("b", NUMA)), "b").cells == (0,)
    assert refused(host(cells("0 1", memory=[needed - 1])), [first, new], wish("b", NUMA)).code == "memory_short"


def test_huge_pages_are_promised_too() -> None:
    whole = tuple(replace(cell, pages=(PageSize(2048, 4, 4),)) for cell in TWO.cells)
    vms = [vm(name, state="definition", memory=6144, extra=HUGE) for name in "ab"]
    found = aimed(host(whole), vms, wish("a", NUMA), wish("b", NUMA))
    assert [each.cells for each in found.aims] == [(0,), (1,)]


def test_a_running_vm_goes_where_it_can_start_again() -> None:
    state = host(tuple(replace(cell, pages=(PageSize(2048, 4 * cell.id, 4 * cell.id),)) for cell in TWO.cells))
    small, huge = (
        vm("db1", state="live", memory=6144, held={0: 6144}),
        vm("db1", state="definition", memory=6144, extra=HUGE),
    )
    changed = Vm(small.live, huge.defined, small.held)
    assert of(aimed(state, [changed], wish("db1", NUMA))).cells == (1,)
    assert of(aimed(state, [changed], wish("db1", NUMA, apply_to="live"))).cells == (0,)
    assert of(aimed(state, [small], wish("db1", NUMA))).cells == (0,)


def test_memory_that_a_vm_gives_back_when_it_ends_is_free_for_it() -> None:
    state = host(tuple(replace(cell, free_kib=GIB // 4 * 3 * cell.id) for cell in TWO.cells))
    only = PinningPolicy("numa", host_cells=frozenset({0}))
    runs = vm("db1", memory=GIB // 2, held={0: GIB * 3 // 4})
    assert of(aimed(state, [runs], wish("db1", only, apply_to="definition"))).cells == (0,)


def test_memory_in_other_pages_is_all_still_to_come() -> None:
    state = host(tuple(replace(cell, pages=(PageSize(2048, 4, 4),)) for cell in TWO.cells))
    changed = Vm(vm("a", memory=6144, state="live").live, vm("a", memory=6144, extra=HUGE).defined, {0: 6144})
    other = vm("b", memory=6144, state="definition", extra=HUGE)
    here = PinningPolicy("numa", host_cells=frozenset({0}))
    error = refused(state, [changed, other], wish("a", here), wish("b", here))
    assert (error.code, error.facts["vm"]) == ("huge_pages_short", "b")
    # What it asks for it has, so that nothing of it is promised.
    same = vm("a", memory=6144, extra=HUGE, held={0: 6144})
    found = aimed(state, [same, other], wish("a", here), wish("b", here))
    assert [each.cells for each in found.aims] == [(0,), (0,)]


def test_a_cell_that_is_not_there_is_refused_though_the_memory_is_in_another() -> None:
    error = refused(TWO, [vm("db1")], wish("db1", PinningPolicy("numa", host_cells=frozenset({0, 9}))))
    assert (error.code, error.facts["cells"]) == ("no_such_cell", [9])


def test_pins_are_not_kept_in_a_cell_that_can_never_hold_the_vm() -> None:
    state = host(tuple(replace(cell, pages=(PageSize(2048, 4 * cell.id, 4 * cell.id),)) for cell in TWO.cells))
    off = vm("db1", pins("0 1", "strict 0"), SHARE, state="definition", memory=6144, extra=HUGE)
    assert of(aimed(state, [off], wish("db1", SHARE))).cells == (1,)
    taken = tuple(replace(cell, pages=(PageSize(2048, 4, 0),)) for cell in TWO.cells)
    assert of(aimed(host(taken), [off], wish("db1", SHARE))).kept


def test_pins_by_hand_may_be_for_threads_that_only_the_definition_has() -> None:
    more = Vm(vm("db1", vcpus=1, state="live").live, vm("db1", vcpus=2, iothreads=1, state="definition").defined, {})
    given = pins("4 5 | 1 | 0")
    found = of(aimed(TWO, [more], wish("db1", MANUAL, pins=given)))
    assert found.defined is not None
    assert [pin.cpus for pin in found.defined.vcpus] == ["4", "5"]
    assert found.live is not None
    assert [pin.cpus for pin in found.live.vcpus] == ["4"]
    assert found.defined.iothreads
    assert not found.live.iothreads


def test_pins_by_hand_may_be_for_what_only_the_running_vm_has() -> None:
    running = vm("db1", vcpus=3, iothreads=1, state="live").live
    fewer = Vm(running, vm("db1", vcpus=1, state="definition").defined, {})
    found = of(aimed(TWO, [fewer], wish("db1", MANUAL, pins=pins("4 5 6 | 1 | 0"))))
    assert (shown(found.live), shown(found.defined)) == ("4 5 6 | 1 | 0", "4 | 1")

    numa = Vm(vm("db1", cells=((1, 2), (1, 2))).live, vm("db1", cells=((2, 4),)).defined, {})
    turned = Vm(vm("db1", cells=((2, 4),)).live, vm("db1", cells=((1, 2), (1, 2))).defined, {})
    given = pins("4 5", "strict 0-1 | strict 0 | strict 1")
    for each, counts in ((numa, (2, 1)), (turned, (1, 2))):
        found = of(aimed(TWO, [each], wish("db1", MANUAL, pins=given)))
        assert found.live is not None
        assert found.defined is not None
        assert (len(found.live.cells), len(found.defined.cells)) == counts


@pytest.mark.parametrize(
    ("own", "state", "memory", "short"),
    [
        (pins("0", "strict 0"), "definition", 2 * GIB, GIB + overhead_kib(2 * GIB, 2)),
        (pins("0", "interleave 0-1"), "live", 3 * GIB, GIB),
        (pins("0", "strict 0-1"), "live", 2 * GIB, None),
        (pins("0", "preferred 0"), "live", 2 * GIB, None),
    ],
)
def test_memory_bound_by_hand_must_be_possible_but_need_not_be_free(
    own: Pinning, state: str, memory: int, short: int | None
) -> None:
    taken = host(tuple(replace(cell, free_kib=0) for cell in TWO.cells))
    db1 = vm("db1", state=state, memory=memory, held={})
    if short is None:
        assert aimed(taken, [db1], wish("db1", MANUAL, pins=own)).aims[0].wished
        return
    error = refused(taken, [db1], wish("db1", MANUAL, pins=own))
    assert (error.code, error.facts["missing"]) == ("memory_short", short)
    assert error.msg.startswith(f"VM db1 is bound to NUMA cell {own.memory and own.memory.nodes}, where {short} KiB ")


def test_huge_pages_bound_by_hand_must_be_there() -> None:
    state = host(tuple(replace(cell, pages=(PageSize(2048, 2, 0),)) for cell in TWO.cells))
    error = refused(state, [vm("db1", memory=6144, extra=HUGE)], wish("db1", MANUAL, pins=pins("0", "strict 0")))
    assert (error.code, error.facts["missing"], error.facts["size_kib"]) == ("huge_pages_short", 1, 2048)
    fits = vm("db1", memory=4096, extra=HUGE)
    assert aimed(state, [fits], wish("db1", MANUAL, pins=pins("0", "strict 0"))).aims[0].wished


SMALL = host(cells("0,1 2,3 4,5", memory=[1 << 30]))


def test_the_strictest_is_placed_first_and_then_the_largest() -> None:
    vms = [vm(name, vcpus=count) for name, count in (("a", 1), ("b", 2), ("c", 2))]
    found = aimed(SMALL, vms, wish("a", SHARE), wish("b", SHARE), wish("c", dedicated("require", "share")))
    assert [shown(each.defined)[:3] for each in found.aims] == ["4 |", "2 3", "0 1"]


def test_repin_moves_what_would_be_kept() -> None:
    start = [
        vm("a", pins("1", "strict 0"), SHARE, vcpus=1),
        vm("b", pins("2", "strict 0"), SHARE, vcpus=1),
        vm("c", vcpus=4),
    ]
    wishes = [wish("a", SHARE), wish("b", SHARE), wish("c", dedicated("require", "share"))]

    error = refused(host(cells("0,1 2,3 4,5 6", memory=[1 << 30])), start, *wishes)
    assert (error.code, error.facts["vm"]) == ("not_enough_cores", "c")
    assert error.msg.endswith(
        "Or give repin: true, so that this run may also move VMs that keep what they have (a, b)."
    )
    assert "repin" not in refused(SMALL, [start[2]], wish("c", dedicated("isolate", "share"))).msg

    found = aimed(host(cells("0,1 2,3 4,5 6", memory=[1 << 30])), start, *wishes, repin=True)
    assert [shown(each.defined).partition(" |")[0] for each in found.aims] == ["6", "4", "0 1 2 3"]
    assert [each.kept for each in found.aims] == [False] * 3


@pytest.mark.parametrize(
    ("own", "given", "expected"),
    [
        (pins("1 5 | 0"), None, "1 5 | 0"),
        (pins("1 5"), pins("2 6 | 3"), "2 6 | 3"),
        (pins(), pins("2", "strict 1"), "2 0-7 | 0-7 @ strict 1"),
    ],
)
def test_pins_by_hand_are_those_given_or_those_there(own: Pinning, given: Pinning | None, expected: str) -> None:
    found = of(aimed(TWO, [vm("db1", own)], wish("db1", MANUAL, pins=given)))
    assert (shown(found.live), found.kept) == (expected, given is None)
    assert found.defined is not None
    assert found.defined.vcpus == (own if given is None else given).vcpus


def test_pins_that_a_policy_chose_become_the_users_own() -> None:
    db1 = vm("db1", pins("1 5 | 0,4 | 0,4", "strict 0", cpuset="0,4"), SHARE, iothreads=1)
    found = of(aimed(TWO, [db1], wish("db1", MANUAL)))
    assert shown(found.defined) == "1 5 | - @ strict 0"
    assert (found.policy, found.cpus, found.defined and found.defined.cpuset) == (MANUAL, frozenset(), None)


@pytest.mark.parametrize("state", ["both", "definition"])
def test_a_pin_by_hand_on_a_cpu_of_another_vm_is_refused(state: str) -> None:
    other = vm("app", pins("1 5", "strict 0"), SHARE, state=state)
    for wishes in ([], [wish("app", SHARE)]):
        error = refused(TWO, [vm("db1"), other], wish("db1", MANUAL, pins=pins("1")), *wishes)
        assert error.code == "cpu_owned"
        assert error.msg.startswith("VM db1 is pinned to CPU 1 (vCPU 0 on 1), but VM app has it for itself.")
        assert ("repin: true" in error.msg) == bool(wishes)
        assert error.facts["owners"] == ["app"]
    found = aimed(TWO, [vm("db1"), other], wish("db1", MANUAL, pins=pins("1")), wish("app", SHARE), repin=True)
    assert shown(of(found, "app").defined).startswith("0 4 ")


@pytest.mark.parametrize(
    ("given", "code"),
    [(pins("9"), "no_such_cpu"), (pins("0 1 2"), "no_such_vcpu"), (pins("0", "strict 2"), "no_such_cell"),
     (pins("", cpuset="0-9"), "no_such_cpu"), (pins("", cpuset="0-7"), None)],
)  # fmt: skip
def test_pins_by_hand_are_judged(given: Pinning, code: str | None) -> None:
    other = vm("app", pins("1 5", "strict 0"), SHARE)
    if code is None:
        found = of(aimed(TWO, [vm("db1"), other], wish("db1", MANUAL, pins=given)))
        assert (found.defined, found.following_defined) == (
            Pinning("manual", cpuset="0,2-4,6-7"), Following("0,2-4,6-7", "0-7"))  # fmt: skip
        return
    error = refused(TWO, [vm("db1")], wish("db1", MANUAL, pins=given))
    assert (error.code, error.facts["vm"]) == (code, "db1")


@pytest.mark.parametrize(
    ("own", "stored", "defined", "live"),
    [
        (pins("1 5 | 0,4", "strict 0", cpuset="0,4"), SHARE, Pinning(), "0-7 0-7 | 0-7"),
        (pins("1 5 | 0,4", "strict 0", cpuset="0,4"), None, Pinning(cpuset="0,4"), "0,4 0,4 | 0,4"),
        (pins("| 0"), None, pins("| 0"), "0-7 0-7 | 0"),
        (pins("| 0"), FREE, pins("| 0"), "0-7 0-7 | 0"),
    ],
    ids=["dedicated", "by hand", "emulator", "asked for before"],
)
def test_a_released_vm_has_no_pins(own: Pinning, stored: PinningPolicy | None, defined: Pinning, live: str) -> None:
    found = of(aimed(TWO, [vm("db1", own, stored)], wish("db1", FREE)))
    assert (found.defined, shown(found.live), found.policy) == (defined, live, FREE)
    assert found.live is not None
    assert found.live.memory is None


def test_a_released_vm_gets_the_users_set_back() -> None:
    start = [vm("db1", Pinning(cpuset="0-3")), vm("web")]
    there = carried(TWO, start, aimed(TWO, start, wish("db1", dedicated(host_cells=frozenset({1})))))
    assert shown(there[0].states[1].pinning) == "2 6 | 3 @ strict 1"
    back = of(aimed(TWO, there, wish("db1", FREE)))
    assert (back.defined, shown(back.live)) == (Pinning(cpuset="0-3"), "0-3 0-3 | 0-3")
    other = of(aimed(TWO, there, wish("db1", FREE, pins=Pinning(cpuset="1"))))
    assert (other.defined, shown(other.live)) == (Pinning(cpuset="1"), "1 1 | 1")


def test_one_state_alone_is_changed_and_the_other_counts_as_it_is() -> None:
    vms = [vm("db1"), vm("web", vcpus=1)]
    found = aimed(TWO, vms, wish("db1", SHARE, apply_to="definition"), wish("web", SHARE, apply_to="live"))
    assert (shown(of(found).live), shown(of(found).defined)) == ("2-3,5-7 2-3,5-7 | 2-3,5-7", "0 4 | 5 @ strict 0")
    assert (shown(of(found, "web").live), shown(of(found, "web").defined)) == ("1 | 5 @ strict 0", " | -")
    assert [(each.vm, format_cpuset(each.cpus)) for each in found.claims] == [("db1", "0,4"), ("web", "1")]

    error = refused(TWO, [vm("db1", state="live")], wish("db1", SHARE, apply_to="definition"))
    assert (error.code, error.facts["option"]) == ("bad_options", "apply_to")


def test_what_a_vm_will_own_after_a_restart_is_owned_already() -> None:
    other = Vm(vm("app", pins("0 4", "strict 0"), SHARE).live, vm("app", pins("2 6", "strict 1"), SHARE).defined)
    found = aimed(TWO, [vm("db1"), other], wish("db1", SHARE))
    assert shown(of(found).defined) == "1 5 | 3,7 @ strict 0"
    assert [format_cpuset(each.cpus) for each in found.claims] == ["0,2,4,6", "1,5"]


def test_a_transient_vm_keeps_its_pins_though_its_memory_cannot_follow() -> None:
    start = [vm("db1", state="live", held={1: 4})]
    found = aimed(TWO, start, wish("db1", SHARE))
    assert (shown(of(found).live), of(found).defined) == ("2 6 | 3,7 @ strict 1", None)
    again = of(aimed(TWO, carried(TWO, start, found), wish("db1", SHARE)))
    assert (again.kept, shown(again.live)) == (True, "2 6 | 3,7 @ strict 1")


def test_a_transient_vm_by_whose_cpus_is_no_memory_keeps_where_it_is() -> None:
    start = [vm("db1", state="live", held={1: 4})]
    found = aimed(CPU_ONLY, start, wish("db1", SHARE))
    again = aimed(CPU_ONLY, carried(CPU_ONLY, start, found), wish("db1", SHARE))
    assert (of(again).kept, shown(of(again).live)) == (True, shown(of(found).live)) == (True, "0 1 | 2 @ strict 1")


OWNING_ONE_CPU = [vm("b", pins("0 1"), SHARE), vm("a", pins("1 2"), SHARE, state="definition"), vm("c")]


def test_vms_that_own_one_cpu_already_are_named() -> None:
    # New pins of the running VM do not free the CPU in its definition.
    error = refused(TWO, OWNING_ONE_CPU, wish("b", SHARE, apply_to="live"))
    assert error.code == "conflict"
    assert "a and b on 1." in error.msg
    assert error.facts["conflicts"] == [{"vms": ["a", "b"], "cpus": "1"}]
    found = aimed(TWO, OWNING_ONE_CPU, wish("b", SHARE))
    assert shown(of(found, "b").defined).startswith("0 4 ")


def test_vms_that_own_one_cpu_already_do_not_stop_the_others_from_following() -> None:
    found = aimed(TWO, OWNING_ONE_CPU)
    assert found.warnings == (
        "VMs a and b on 1 share CPUs of which one of them is to be the only user. Pin the other one elsewhere.",
    )
    assert shown(of(found, "c").live) == "3-7 3-7 | 3-7"


def test_a_vm_that_shares_cpus_leaves_those_that_it_will_own_itself() -> None:
    both = Vm(vm("db1").live, vm("db1", pins("0 1", "strict 0"), SHARE).defined, {0: 4})
    state = host(cells("0 1 | 2 3", memory=[GIB] * 2))
    assert shown(of(aimed(state, [both], wish("db1", NUMA, apply_to="live"))).live) == "2-3 2-3 | 2-3 @ strict 1"


def test_a_vm_must_be_there() -> None:
    assert refused(TWO, [vm()], wish("db1", NUMA)).code == "vm_unknown"


# The first cell has CPUs only, the second memory only.
CPU_ONLY = host(cells("0 1 2 | | 3 4 5", memory=[0, GIB, GIB]))


@pytest.mark.parametrize(
    ("state", "db1", "policy", "expected"),
    [
        (CPU_ONLY, vm("db1", vcpus=2, memory=9, held={1: 9}), SHARE, "0 1 | 2 @ strict 1"),
        (
            host(cells("0 1 | ", memory=[4, 9])),
            vm("db1", vcpus=1, memory=9, held={0: 1}),
            NUMA,
            "0-1 | 0-1 @ strict 0-1",
        ),
        (
            host(cells("0 1 | 2 3", memory=[GIB, 0])),
            vm("db1", cells=((2, 9), (2, 0))),
            PinningPolicy("numa", memory_mode="preferred"),
            "0-1 0-1 2-3 2-3 | 0-3 @ preferred 0 0:0",
        ),
        (host(TWO.cells, offline="4,6"), vm("db1", vcpus=3, held={0: 4}), SHARE, "0 1 5 | 2-3,7 @ strict 0"),
        (
            host(cells("0,1 2,3 4 5 6", memory=[GIB])),
            vm("db1", vcpus=3),
            dedicated("require", "share"),
            "0 1 2 | 3-6 @ strict 0",
        ),
        (host(cells("0,1 2,3 4 5 6", memory=[GIB])), vm("db1", vcpus=3), dedicated("isolate"), "4 5 6 | 0 @ strict 0"),
        (host(TWO.cells, isolated="1,3,5,7"), vm("db1", vcpus=2), SHARE, "1 5 | 0,4 @ strict 0"),
    ],
    ids=[
        "no memory by the CPUs",
        "memory without CPUs",
        "a cell of the guest without memory",
        "offline",
        "hybrid: pairs",
        "hybrid: cores",
        "isolated",
    ],
)
def test_odd_hosts(state: HostState, db1: Vm, policy: PinningPolicy, expected: str) -> None:
    found = aimed(state, [db1], wish("db1", policy))
    assert shown(of(found).live) == expected
    again = aimed(state, carried(state, [db1], found), wish("db1", policy))
    assert (of(again).kept, shown(of(again).live)) == (True, expected)


def test_memory_beside_other_cpus_is_kept_where_those_of_the_vm_have_none() -> None:
    state = host(cells("0 1 | 2 3 | ", memory=[0, GIB, GIB]), isolated="1-3")
    off = vm("db1", state="definition", vcpus=1)
    found = aimed(state, [off], wish("db1", NUMA))
    assert shown(of(found).defined) == "0 | 0 @ strict 1"
    again = aimed(state, carried(state, [off], found), wish("db1", NUMA))
    assert (of(again).kept, of(again).cells) == (True, (0, 1))


def test_cells_are_what_their_numbers_say() -> None:
    state = host(tuple(Cell(each.id * 7 + 3, each.cpus, GIB, free_kib=GIB) for each in TWO.cells))
    assert of(aimed(state, [vm("db1", held={10: 4})], wish("db1", SHARE))).cells == (10,)
