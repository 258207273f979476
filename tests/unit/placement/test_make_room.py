# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ejection chains: what is tried so that a block finds a place, and that a failure leaves no trace."""

from __future__ import annotations

from typing import Any

from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _placement
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.build import build, widened
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.make_room import Ejector
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.question import question_of
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.room import Room
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.placement.fleet import drain, fleet, host, steps, vm

TRIES = 10**4


def room_of(snapshot: dict[str, Any]) -> Room:
    loaded = _placement.load(snapshot)
    question = question_of(_placement.parse({"question": "drain", "hosts": ["hv0"]}, loaded), loaded)
    return Room(widened(build(question, loaded)[0]))


def chain(length: int, **fields: Any) -> dict[str, Any]:
    """Return hosts in a row: each takes a VM of the one before only if its own leaves, the last one has room."""
    hosts = [host("hv0", memory_kib=99), *(host(f"hv{n}", memory_kib=11 - n) for n in range(1, length + 1))]
    hosts.append(host("last", memory_kib=7 - length))
    vms = [vm("mover", "hv0", memory_kib=7)]
    for number in range(1, length + 1):
        vms.append(vm(f"small{number}", f"hv{number}", memory_kib=7 - number, **fields))
        vms.append(vm(f"fixed{number}", f"hv{number}", memory_kib=3, policy={"migration": "pinned"}))
    return fleet(hosts, vms)


def moved(snapshot: dict[str, Any], **options: Any) -> list[str]:
    return [move["vm"] for step in steps(drain(snapshot, "hv0", **options)) for move in step]


def test_one_vm_makes_room_for_another() -> None:
    assert moved(chain(1)) == ["small1", "mover"]


def test_a_chain_has_up_to_three_links() -> None:
    assert moved(chain(3)) == ["small3", "small2", "small1", "mover"]


def test_nothing_that_was_not_asked_for_moves_where_that_is_ruled_out() -> None:
    assert moved(chain(1), max_extra_moves=0) == []
    assert moved(chain(3), max_extra_moves=2) == []


def test_a_vm_that_moves_by_hand_only_makes_no_room() -> None:
    assert moved(chain(1, policy={"migration": "manual"})) == []


def test_several_vms_leave_a_host_together_where_one_is_not_enough() -> None:
    hosts = [
        host("hv0", memory_kib=99),
        host("hv1", memory_kib=8),
        *(host(f"hv{n}", memory_kib=2) for n in range(2, 6)),
    ]
    vms = [vm("mover", "hv0", memory_kib=8), *(vm(f"small{n}", "hv1", memory_kib=2) for n in range(4))]
    assert sorted(moved(fleet(hosts, vms))) == ["mover", "small0", "small1", "small2", "small3"]


def test_no_more_leave_than_are_needed() -> None:
    hosts = [host("hv0", memory_kib=99), host("hv1", memory_kib=9), host("hv2", memory_kib=9)]
    vms = [vm("mover", "hv0", memory_kib=6), *(vm(f"v{n}", "hv1", memory_kib=n) for n in (1, 2, 4))]
    vms.append(vm("other", "hv2", memory_kib=5))
    assert sorted(moved(fleet(hosts, vms))) == ["mover", "v4"]


@st.composite
def fleets(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(2, 4))
    vms = [vm("mover", "hv0", memory_kib=draw(st.integers(3, 8)))]
    loads = [0] * count
    for number in range(draw(st.integers(1, 8))):
        on, size = draw(st.integers(1, count)), draw(st.integers(1, 5))
        loads[on - 1] += size
        vms.append(vm(f"vm{number}", f"hv{on}", memory_kib=size))
    hosts = [host(f"hv{n}", memory_kib=load + draw(st.integers(0, 5))) for n, load in enumerate(loads, 1)]
    return fleet([host("hv0", memory_kib=99), *hosts], vms)


@given(fleets(), st.integers(0, 3))
@settings(max_examples=200, deadline=None)
def test_a_failure_leaves_all_as_it_was_and_a_success_fits(snapshot: dict[str, Any], extra: int) -> None:
    room = room_of(snapshot)
    if not room.problem.leaving:
        return
    (mover,) = room.problem.leaving
    before = (list(room.at), list(room.floor.free))
    placed = Ejector(room, extra, TRIES).place(mover)
    if not placed:
        assert (room.at, room.floor.free) == before
        return
    assert None not in room.at
    assert all(left[0] >= 0 for left in room.floor.free[1:])
    assert len(room.moved()) <= extra + 1


@given(fleets())
@settings(max_examples=100, deadline=None)
def test_the_effort_is_bounded(snapshot: dict[str, Any]) -> None:
    room = room_of(snapshot)
    for block in room.problem.leaving:
        ejector = Ejector(room, 99, 5)
        ejector.place(block)
        # What has been begun is ended: at most one insertion for each block that left together.
        assert ejector.tries > -10
