# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Threads without a CPU of their own leave the CPUs that others have, and come back."""

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import Following, Pinning, PinningPolicy
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import Aim, HostState, live_changes

from tests.unit.pinning.residents import Vm, aimed, carried, host, online, pins, vm, wish
from tests.unit.pinning.small import cells, dedicated

PLAIN = host(cells("0 1 2 3 4 5", memory=[1 << 30]))
ISOLATED = host(PLAIN.cells, isolated="4-5")
SLICE = host(PLAIN.cells, machine="0-3")

# Has CPUs 4 and 5 for itself.
DB1 = vm("db1", pins("4 5 | 0-3", "strict 0", cpuset="0-3"), dedicated(emulator="share"))


def only(state: HostState, *vms: Vm, **options: object) -> Aim:
    found = {each.name: each for each in aimed(state, vms, **options).aims}
    return found["web"]


def shown(found: Pinning | None) -> str:
    assert found is not None
    parts = [" ".join(pin.cpus for pin in found.vcpus), found.emulator or "-"]
    return " | ".join([*parts, *(pin.cpus for pin in found.iothreads)])


def test_where_all_share_all_nothing_is_said() -> None:
    assert aimed(PLAIN, [vm(), vm("app", pins(cpuset="0-1")), vm("old", pins("1 2"))]).aims == ()


@pytest.mark.parametrize(
    ("state", "vms"),
    [
        (ISOLATED, []),
        (SLICE, []),
        (PLAIN, [DB1]),
        (PLAIN, [vm("db1", DB1.states[1].pinning, dedicated(emulator="share"), state="definition")]),
    ],
    ids=["isolated", "machine.slice", "owned", "owned by a VM that is off"],
)
def test_what_is_not_shared_is_left(state: HostState, vms: list[Vm]) -> None:
    found = only(state, vm(iothreads=1), *vms)

    assert (found.defined, found.following_defined) == (Pinning(cpuset="0-3"), Following("0-3"))
    assert (shown(found.live), found.following_live) == ("0-3 0-3 | 0-3 | 0-3", Following("0-3"))
    assert (found.wished, found.kept, found.policy) == (False, True, None)


@pytest.mark.parametrize(
    ("limit", "cpuset", "following"),
    [
        ("2-5", "2-3", Following("2-3", "2-5")),
        ("1-2", "1-2", None),
        ("4-5", "0-3", Following("0-3", "4-5")),
        # What isolation alone leaves was written by a migration, and says nothing about the VM.
        ("0-3", "0-3", Following("0-3")),
    ],
)
def test_a_set_of_the_users_own_is_narrowed(limit: str, cpuset: str, following: Following | None) -> None:
    (found,) = aimed(ISOLATED, [vm(own=Pinning(cpuset=limit), state="definition")]).aims
    assert (found.defined, found.following_defined) == (Pinning(cpuset=cpuset), following)


def test_where_numad_chooses_nobody_else_does() -> None:
    assert aimed(ISOLATED, [vm(own=Pinning(cpuset="auto"))]).aims == ()


def test_a_set_of_isolation_follows_when_that_changes() -> None:
    start = [vm(own=Pinning(cpuset="0-3"))]
    there = carried(ISOLATED, start, aimed(ISOLATED, start))
    assert there[0].states[0].pinning == start[0].states[0].pinning
    (found,) = aimed(host(PLAIN.cells, isolated="5"), there).aims
    assert (found.defined, shown(found.live)) == (Pinning(cpuset="0-4"), "0-4 0-4 | 0-4")


def test_a_set_that_the_user_asked_for_is_his_though_isolation_gives_the_same() -> None:
    asked = wish("web", PinningPolicy(), pins=Pinning(cpuset="0-3"))
    there = carried(ISOLATED, [vm()], aimed(ISOLATED, [vm()], asked), asked)
    (found,) = aimed(host(PLAIN.cells, isolated="5"), there).aims
    assert (found.defined, shown(found.live)) == (Pinning(cpuset="0-3"), "0-3 0-3 | 0-3")


def test_a_set_that_is_no_isolations_is_the_users() -> None:
    found = only(PLAIN, vm(own=Pinning(cpuset="0-3")), DB1)
    assert (found.defined, found.following_defined) == (Pinning(cpuset="0-3"), None)
    assert found.following_live is None
    assert (
        live_changes(vm(own=Pinning(cpuset="0-3")).states[0], found.live or Pinning(), online(PLAIN), found.floating)
        == {}
    )


@pytest.mark.parametrize(
    ("own", "defined", "live", "threads"),
    [
        (pins("1"), pins("1", cpuset="0-3"), "1 0-3 | 0-3 | 0-3", ()),
        (pins("| 2"), pins("| 2", cpuset="0-3"), "0-3 0-3 | 2 | 0-3", ()),
        # What the user chose himself is told from ours though it is the same.
        (pins("| 0-3"), pins("| 0-3", cpuset="0-3"), "0-3 0-3 | 0-3 | 0-3", ("emulator",)),
        (pins("1 0-3"), pins("1 0-3", cpuset="0-3"), "1 0-3 | 0-3 | 0-3", ("vcpu1",)),
    ],
)
def test_pins_of_the_users_own_stay(own: Pinning, defined: Pinning, live: str, threads: tuple[str, ...]) -> None:
    start = [vm(own=own, iothreads=1), DB1]
    found = only(PLAIN, *start)

    assert found.defined is not None
    assert {**vars(found.defined), "policy": ""} == {**vars(defined), "policy": ""}
    assert shown(found.live) == live
    assert found.following_defined == found.following_live == Following("0-3", own=threads)

    there = carried(PLAIN, start, aimed(PLAIN, start))
    back = carried(PLAIN, there[:1], aimed(PLAIN, there[:1]))
    assert back[0].states[1].pinning == start[0].states[1].pinning
    assert back[0].states[0].own_pinning == start[0].states[0].own_pinning


def test_a_vm_whose_threads_all_have_pins_stays() -> None:
    assert [each.name for each in aimed(PLAIN, [vm(own=pins("0 1 | 2")), DB1]).aims] == []


def test_sets_follow_and_the_users_own_comes_back() -> None:
    start = [vm(own=Pinning(cpuset="1-5")), DB1]
    narrow = carried(PLAIN, start, aimed(PLAIN, start))
    assert narrow[0].states[1].pinning == Pinning(cpuset="1-3")

    wider = aimed(host(PLAIN.cells, isolated="5"), narrow[:1])
    assert (wider.aims[0].defined, wider.aims[0].following_defined) == (Pinning(cpuset="1-4"), Following("1-4", "1-5"))
    assert wider.aims[0].following_live == Following("1-4", "1-5")

    back = aimed(PLAIN, narrow[:1])
    assert (back.aims[0].defined, back.aims[0].following_defined) == (Pinning(cpuset="1-5"), None)
    # libvirt can take no pin away from a running VM.
    assert (shown(back.aims[0].live), back.aims[0].following_live) == ("1-5 1-5 | 1-5", Following("1-5", "1-5"))


def test_a_cpuset_that_the_user_wrote_since_is_his() -> None:
    there = carried(ISOLATED, [vm(state="definition")], aimed(ISOLATED, [vm(state="definition")]))
    edited = Vm(None, (there[0].defined or "").replace('cpuset="0-3"', 'cpuset="2-5"'))
    assert aimed(ISOLATED, [edited]).aims[0].following_defined == Following("2-3", "2-5")


def test_each_state_follows_by_itself() -> None:
    mixed = Vm(vm().live, vm(own=Pinning(cpuset="3-5")).defined)
    (found,) = aimed(ISOLATED, [mixed]).aims
    assert (found.defined, shown(found.live)) == (Pinning(cpuset="3"), "0-3 0-3 | 0-3")
    assert (found.following_defined, found.following_live) == (Following("3", "3-5"), Following("0-3"))


@pytest.mark.parametrize(("state", "has"), [("live", (True, False)), ("definition", (False, True))])
def test_a_vm_has_an_aim_for_each_of_its_states(state: str, has: tuple[bool, bool]) -> None:
    (found,) = aimed(ISOLATED, [vm(state=state)]).aims
    assert (found.live is not None, found.defined is not None) == has


def test_vms_with_a_policy_share_what_is_left_beside_them() -> None:
    state = host(cells("0 1 2 3 | 4 5 6 7", memory=[1 << 30] * 2))
    near = vm("near", pins("0-3 0-3 | 0-3 | 0-3", "strict 0", cpuset="0-3"), PinningPolicy("numa"), iothreads=1)
    db1 = vm("db1", pins("5 | 4,6-7", "strict 1", cpuset="4,6-7"), dedicated(emulator="share"), vcpus=1)
    db2 = vm("db2", pins("2 3 | 1", "strict 0", cpuset="0"), dedicated(), vcpus=2)

    found = {each.name: each for each in aimed(state, [near, db1, db2], keep_free=frozenset({6})).aims}

    assert sorted(found) == ["db1", "near"]
    assert shown(found["near"].defined) == shown(found["near"].live) == "0 0 | 0 | 0"
    assert (shown(found["db1"].defined), found["db1"].defined.cpuset) == ("5 | 4,7", "4,7")
    assert (found["near"].cells, found["db1"].cells, sorted(found["db1"].cpus)) == ((0,), (1,), [5])


def test_a_numa_vm_whose_cell_has_gone_to_others_returns_to_it() -> None:
    state = host(cells("0 1 2 3 | 4 5 6 7", memory=[1 << 30] * 2))
    start = [vm("near", pins("0-3 0-3 | 0-3", "strict 0", cpuset="0-3"), PinningPolicy("numa"))]

    away = carried(state, start, aimed(state, start, keep_free=frozenset(range(4))))
    assert shown(away[0].states[0].pinning) == "4-7 4-7 | 4-7"

    assert carried(state, away, aimed(state, away)) == start


def test_cpus_for_a_vm_that_is_about_to_arrive_are_left() -> None:
    found = only(PLAIN, vm(), keep_free=frozenset({0}))
    assert found.defined == Pinning(cpuset="1-5")
    db2 = vm("db2", state="definition", vcpus=1)
    wished = aimed(PLAIN, [db2], wish("db2", dedicated(emulator="share")), keep_free=frozenset({0}))
    assert shown(wished.aims[0].defined) == "1 | 2-5"
    assert [claim.vm for claim in wished.claims] == ["db2"]


def test_others_may_be_left_where_they_are() -> None:
    found = aimed(PLAIN, [vm(), vm("db1")], wish("db1", dedicated()), float_others=False)
    assert [each.name for each in found.aims] == ["db1"]


def test_where_all_is_isolated_threads_share_what_nobody_owns() -> None:
    state = host(PLAIN.cells, isolated="1-5", machine="1-5")
    found = aimed(state, [vm(), vm("db1", state="live")], wish("db1", dedicated()))
    assert [shown(each.live) for each in found.aims] == ["1 2 | 3", "4-5 4-5 | 4-5"]
    db1 = vm("db1", pins("1 2 | 3", "strict 0"), dedicated())
    assert aimed(state, [vm(), db1], wish("db1", dedicated())).aims[0].kept
    assert found.warnings == (
        "The host isolates all CPUs that VMs may use, so the scheduler does not spread threads that have none of their "
        "own: web. Isolate fewer CPUs, or let machine.slice use others too.",
    )


def test_somebody_must_leave_a_cpu_for_others() -> None:
    with pytest.raises(FleetError, match="VM web cannot run here: no CPU would be left to its threads") as caught:
        aimed(PLAIN, [vm()], keep_free=frozenset(range(6)))
    assert (caught.value.code, caught.value.facts["vm"]) == ("no_shared_cpu", "web")
