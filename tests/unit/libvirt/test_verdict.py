# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the states on both hosts mean, and that no verdict can lead to two VMs or to none."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration import verdict as v
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration.recovery import _STEPS, TRANSIENT
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration.verdict import (
    End,
    has_stayed,
    judge,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.domains import DomainState


def end(state: str | None = None, reason: str = "unknown", job: bool = False, reachable: bool = True) -> End:
    return End(reachable, DomainState(state, reason) if state else None, job)


ABSENT = end()
UNREACHABLE = end(reachable=False)
RUNNING = end("running", "booted")
RUNNING_JOB = end("running", "booted", job=True)
ARRIVED = end("running", "migrated")
INCOMING = end("paused", "migration")
SWITCHING = end("paused", "migration")
BY_USER = end("paused", "user")
HANDED_OVER = end("shutoff", "migrated")
SHUT_DOWN = end("shutoff", "shutdown")
POSTCOPY_BROKEN = end("paused", "postcopy_failed")
BROKEN_JOB = end("paused", "postcopy_failed", job=True)
BROKEN_THERE = end("running", "postcopy_failed")

TABLE = [
    ("not begun, or failed and cleared up", RUNNING, ABSENT, v.STAYED),
    ("an old definition at the destination is no VM", RUNNING, end("shutoff", "destroyed"), v.STAYED),
    ("paused by its user and still here", BY_USER, ABSENT, v.STAYED),
    ("the destination died, the VM did not", RUNNING, UNREACHABLE, v.STAYED),
    ("the guest's kernel panicked on a running domain", end("running", "crashed"), ABSENT, v.STAYED),
    ("under way", RUNNING_JOB, INCOMING, v.IN_PROGRESS),
    ("in its switch-over", end("paused", "migration", job=True), INCOMING, v.IN_PROGRESS),
    ("under way to a host that cannot be asked", RUNNING_JOB, UNREACHABLE, v.IN_PROGRESS),
    ("failed, with a copy left", RUNNING, INCOMING, v.LEFTOVER_ON_DESTINATION),
    ("switch-over lost before the destination began", SWITCHING, ABSENT, v.SOURCE_PAUSED),
    ("switch-over lost between the hosts", SWITCHING, INCOMING, v.BOTH_PAUSED),
    ("the destination runs, its confirmation was lost", SWITCHING, ARRIVED, v.SOURCE_NOT_RELEASED),
    ("the destination may run", SWITCHING, UNREACHABLE, v.UNKNOWN),
    ("arrived", ABSENT, ARRIVED, v.MOVED),
    ("arrived, its old definition is still here", HANDED_OVER, ARRIVED, v.MOVED),
    ("arrived as its user had paused it", ABSENT, BY_USER, v.MOVED),
    ("handed over and not begun", HANDED_OVER, INCOMING, v.DESTINATION_PAUSED),
    ("handed over to a host that cannot be asked", HANDED_OVER, UNREACHABLE, v.UNKNOWN),
    ("gone from here, and the destination cannot be asked", ABSENT, UNREACHABLE, v.UNKNOWN),
    ("shut down by its guest", SHUT_DOWN, ABSENT, v.STOPPED),
    ("shut down, and the destination cannot be asked", SHUT_DOWN, UNREACHABLE, v.STOPPED),
    ("shut down after it arrived", ABSENT, SHUT_DOWN, v.STOPPED),
    ("known to nobody", ABSENT, ABSENT, v.GONE),
    ("running twice", RUNNING, ARRIVED, v.SPLIT_BRAIN),
    ("running here, paused by a user there", RUNNING, BY_USER, v.SPLIT_BRAIN),
    ("post-copy broke", POSTCOPY_BROKEN, end("paused", "postcopy_failed"), v.POST_COPY_BROKEN),
    ("post-copy broke, its job waits", BROKEN_JOB, BROKEN_THERE, v.POST_COPY_BROKEN),
    ("post-copy broke and the destination died", POSTCOPY_BROKEN, ABSENT, v.UNKNOWN),
    ("post-copy broke, and its job waits for a silent host", BROKEN_JOB, UNREACHABLE, v.UNKNOWN),
    ("post-copy broke and the destination cannot be asked", POSTCOPY_BROKEN, UNREACHABLE, v.UNKNOWN),
    ("post-copy broke and the source died", ABSENT, BROKEN_THERE, v.UNKNOWN),
    ("post-copy under way", end("paused", "postcopy", job=True), end("running", "postcopy"), v.IN_PROGRESS),
    ("the source cannot be asked", UNREACHABLE, ARRIVED, v.UNKNOWN),
]


@pytest.mark.parametrize(("case", "source", "destination", "expected"), TABLE, ids=[row[0] for row in TABLE])
def test_two_states_mean_one_thing(case: str, source: End, destination: End, expected: str) -> None:
    assert judge(source, destination) == expected


EVERY_END = [
    UNREACHABLE,
    ABSENT,
    *(
        end(state, reason, job)
        for state, reasons in {
            "running": ("booted", "migrated", "postcopy", "crashed"),
            "paused": ("user", "migration", "starting_up", "unknown", "ioerror", "postcopy", "postcopy_failed"),
            "shutoff": ("shutdown", "migrated", "destroyed"),
            "pmsuspended": ("unknown",),
            "crashed": ("unknown",),
        }.items()
        for reason in reasons
        for job in (False, True)
    ),
]
PAIRS = list(itertools.product(EVERY_END, EVERY_END))

DESTROYS_SOURCE = (v.SOURCE_NOT_RELEASED,)
DESTROYS_DESTINATION = (v.LEFTOVER_ON_DESTINATION, v.BOTH_PAUSED)
RESUMES_SOURCE = (v.SOURCE_PAUSED, v.BOTH_PAUSED)


def test_every_transient_verdict_has_its_step() -> None:
    assert set(_STEPS) == set(TRANSIENT)


def test_no_copy_is_destroyed_unless_the_other_host_has_the_vm() -> None:
    for source, destination in PAIRS:
        found = judge(source, destination)
        if found in DESTROYS_SOURCE:
            assert destination.whole
            assert not source.whole
        if found in DESTROYS_DESTINATION:
            assert source.active
            assert not destination.whole


def test_the_source_is_resumed_only_if_the_destination_is_known_not_to_run() -> None:
    for source, destination in PAIRS:
        if judge(source, destination) in RESUMES_SOURCE:
            assert destination.reachable
            assert not destination.whole


def test_nothing_is_judged_with_a_host_that_may_hold_the_vm_unasked() -> None:
    for source in EVERY_END:
        found = judge(source, UNREACHABLE)
        assert found not in TRANSIENT
        assert found != v.MOVED


def test_two_whole_vms_are_always_called_split_brain() -> None:
    for source, destination in PAIRS:
        if source.whole and destination.whole and source.reachable and not source.job:
            assert judge(source, destination) == v.SPLIT_BRAIN


def test_a_memory_spread_by_postcopy_is_never_touched() -> None:
    for source, destination in PAIRS:
        if source.in_postcopy or destination.in_postcopy:
            found = judge(source, destination)
            assert found in (v.IN_PROGRESS, v.UNKNOWN, v.POST_COPY_BROKEN)
            assert found not in TRANSIENT
            if found == v.POST_COPY_BROKEN:
                assert source.in_postcopy
                assert destination.in_postcopy


STAYED = [
    ("runs here as before", RUNNING, ABSENT, True, False, True),
    ("the same, and there is an old definition", RUNNING, SHUT_DOWN, True, True, True),
    ("was away, or was started anew", RUNNING, ABSENT, False, True, False),
    ("still under way", RUNNING_JOB, INCOMING, True, True, False),
    ("a copy is left", RUNNING, INCOMING, True, True, False),
    ("the destination cannot be asked", RUNNING, UNREACHABLE, True, True, False),
    ("arrived", ABSENT, ARRIVED, False, True, False),
    ("handed over", HANDED_OVER, ABSENT, False, True, False),
    ("shut down while it was watched", SHUT_DOWN, ABSENT, False, True, True),
    ("shut down while nobody watched", SHUT_DOWN, ABSENT, False, False, False),
    ("shut down, and known there too", SHUT_DOWN, SHUT_DOWN, False, True, False),
    ("shut down after it arrived", ABSENT, SHUT_DOWN, False, True, False),
    ("shut down, and the destination cannot be asked", SHUT_DOWN, UNREACHABLE, False, True, False),
    ("off since the host started", end("shutoff", "unknown"), ABSENT, False, True, False),
    ("known to nobody", ABSENT, ABSENT, False, True, False),
    ("its post-copy broke", BROKEN_JOB, BROKEN_THERE, True, True, False),
]


@pytest.mark.parametrize(("source", "destination", "same", "watched", "stayed"), [row[1:] for row in STAYED])
def test_only_a_vm_that_never_left_needs_nothing_elsewhere(
    source: End, destination: End, same: bool, watched: bool, stayed: bool
) -> None:
    assert has_stayed(source, destination, same, watched) is stayed
