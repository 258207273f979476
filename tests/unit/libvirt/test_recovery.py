# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long libvirt may take to clear up what a broken migration left, and what if it does so at the last moment."""

from __future__ import annotations

from typing import Any, cast

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration import recovery
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration import verdict as v
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration.move import Move
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration.sides import Sides
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration.verdict import End
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.domains import DomainState

PAUSED, RUNNING = DomainState("paused", "migration"), DomainState("running", "migrated")
ABSENT = End()
Pair = tuple[End, End]


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(recovery, "time", found)
    return found


def seen(clock: Clock, *states: tuple[float, Pair]) -> Sides:
    """Sides that look so from the times given on."""

    class Seen:
        def look(self) -> Pair:
            return [pair for since, pair in states if since <= clock.now][-1]

    return cast(Sides, Seen())


QUIET = (End(state=PAUSED), End(state=RUNNING))
SOURCE_BUSY = (End(state=RUNNING), End(state=PAUSED, job=True))
LEFT = (End(state=RUNNING), ABSENT)


def test_what_nobody_works_on_is_mended_soon(clock: Clock) -> None:
    assert recovery.settled(seen(clock, (0, QUIET))) == v.SOURCE_NOT_RELEASED
    assert recovery.QUIET_S <= clock.now <= recovery.QUIET_S + 2 * recovery.POLL_S


def test_libvirt_is_waited_for_while_it_has_a_job(clock: Clock) -> None:
    assert recovery.settled(seen(clock, (0, SOURCE_BUSY), (9, LEFT))) == v.STAYED
    assert 9 <= clock.now <= 9 + recovery.POLL_S


def test_a_job_that_does_not_end_is_not_waited_for_any_longer(clock: Clock) -> None:
    assert recovery.settled(seen(clock, (0, SOURCE_BUSY))) == v.LEFTOVER_ON_DESTINATION
    assert recovery.SETTLE_S <= clock.now <= recovery.SETTLE_S + 2 * recovery.POLL_S


def test_a_pause_between_two_jobs_is_no_end(clock: Clock) -> None:
    idle = (End(state=RUNNING), End(state=PAUSED))
    states = ((0, SOURCE_BUSY), (3, idle), (4, SOURCE_BUSY), (7, LEFT))
    assert recovery.settled(seen(clock, *states)) == v.STAYED


class Refusing:
    """A host whose VM cannot be touched; afterwards it looks as ``after``."""

    move = Move("web1", "hv2", "qemu+ssh://hv2/system")

    def __init__(self, after: Pair) -> None:
        self._looks = [QUIET, after]

    def look(self) -> Pair:
        return self._looks.pop(0)

    def source_domain(self) -> Any:
        raise FleetError("refused", "not_recovered")


def test_what_libvirt_did_in_the_same_moment_is_no_failure() -> None:
    recovery.recover(cast(Sides, Refusing(after=(ABSENT, End(state=RUNNING)))), v.SOURCE_NOT_RELEASED)


def test_what_could_not_be_done_and_is_still_to_be_done_is_a_failure() -> None:
    with pytest.raises(FleetError, match="refused"):
        recovery.recover(cast(Sides, Refusing(after=QUIET)), v.SOURCE_NOT_RELEASED)
