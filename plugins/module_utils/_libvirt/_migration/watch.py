# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""A migration under way: watched, helped to converge, bounded, cancelled."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from ..._errors import FleetError
from ..._migration import Course, Step
from ..api import libvirt
from ..domains import POST_COPY_FAILED, DomainState, state_of
from .attempt import Attempt, Options
from .sides import Sides, migration_job

POLL_S = 0.5
# How long a cancelled migration may take to come to rest before the state is read anyway.
CANCEL_S = 60.0

# Why a migration was cancelled.
TIMEOUT, NOT_CONVERGED = "timeout", "not_converged"


class Watch:
    """One migration, ours or one that was found under way.

    ``cancelled`` tells why it was cancelled, if it was; ``throttle_percent`` by how much the guest was slowed down, as
    libvirt told last. ``handed_over`` is called when the VM stands still at its source, perhaps more than once.
    """

    def __init__(
        self,
        sides: Sides,
        options: Options,
        report: Callable[[Mapping[str, Any]], None],
        handed_over: Callable[[], None] = lambda: None,
    ) -> None:
        self.cancelled: Optional[str] = None
        self.throttle_percent = 0
        self._sides = sides
        self._options = options
        self._report = report
        self._handed_over = handed_over
        self._course = Course(options.schedule)
        self._downtime_ms = options.schedule.initial_downtime_ms
        self._allowed_ms: Optional[int] = None
        self._post_copy = False
        self._paused = False

    @property
    def rounds(self) -> int:
        """How often memory was gone through after the first time, as libvirt told last."""
        return self._course.rounds

    def follow(self, attempt: Optional[Attempt] = None) -> None:
        """Return when the migration has ended, whichever way, or could not be cancelled in time."""
        deadline = time.monotonic() + self._options.wait_timeout
        while _under_way(self._sides, attempt):
            stats = _stats(self._sides)
            if stats:
                due = self._due(stats)
                self._note(stats)
                self._help(due)
            # One that is paused so that it converges has much to send yet, and libvirt calls both by one name.
            if not self._paused and _stands_still(self._sides):
                self._handed_over()
            if time.monotonic() > deadline:
                self.cancelled = TIMEOUT
            if self.cancelled:
                # What runs at its destination already cannot be cancelled, and its memory follows as fast as it can.
                if not self._post_copy:
                    _cancel(self._sides, attempt)
                return
            _pause(attempt)

    def _due(self, stats: Mapping[str, Any]) -> Tuple[Step, ...]:
        counted, elapsed_s = int(stats.get("memory_iteration", 0)), stats.get("time_elapsed", 0) / 1000
        return self._course.due(counted, elapsed_s, self._post_copy)

    def _note(self, stats: Mapping[str, Any]) -> None:
        # The last figures of a migration come without it.
        self.throttle_percent = int(stats.get("auto_converge_throttle", self.throttle_percent))
        self._report(progress(stats, self.rounds))

    def _help(self, due: Tuple[Step, ...]) -> None:
        """Take the steps of the schedule that are due."""
        for step in due:
            if step.action == "abort":
                self.cancelled = NOT_CONVERGED
            elif step.action == "downtime":
                self._downtime_ms = step.downtime_ms
            elif step.action == "post_copy":
                self._post_copy = self._done(lambda domain: domain.migrateStartPostCopy(0))
            else:
                self._paused = self._done(lambda domain: domain.suspend())
        wanted = self._downtime_ms
        if wanted in (None, self._allowed_ms) or self._post_copy:
            return
        # Refused while the job is being set up, so it is asked again the next time.
        if self._done(lambda domain: domain.migrateSetMaxDowntime(wanted, 0)):
            self._allowed_ms = wanted

    def _done(self, call: Callable[[Any], Any]) -> bool:
        # What a QEMU cannot do leaves a migration that does not converge; it is cancelled when its time is over.
        with suppress(libvirt.libvirtError, FleetError):
            domain = self._sides.source_domain()
            if domain is not None:
                call(domain)
                return True
        return False


def _under_way(sides: Sides, attempt: Optional[Attempt]) -> bool:
    if attempt is not None:
        return attempt.running
    return _stats(sides) is not None and not is_broken(sides.source_domain())


def is_broken(domain: Any) -> bool:
    """Tell whether a VM stands still in a post-copy that broke: its job goes on for ever, but nothing is sent."""
    with suppress(libvirt.libvirtError):
        return domain is not None and state_of(*domain.state(0)).reason == POST_COPY_FAILED
    return False


def _stands_still(sides: Sides) -> bool:
    """Tell whether a VM waits for its destination to run it: then its memory has been sent, or nearly."""
    with suppress(Exception):
        domain = sides.source_domain()
        return domain is not None and state_of(*domain.state(0)) == DomainState("paused", "migration")
    return False


def _stats(sides: Sides) -> Any:
    # A source that does not answer ends the waiting: both ends are read and judged next.
    with suppress(Exception):
        domain = sides.source_domain()
        return migration_job(domain) if domain is not None else None
    return None


def _cancel(sides: Sides, attempt: Optional[Attempt]) -> None:
    deadline = time.monotonic() + CANCEL_S
    while _under_way(sides, attempt) and time.monotonic() < deadline:
        # Refused while the job is being set up; asked again until it is at rest.
        with suppress(Exception):
            sides.source_domain().abortJob()
        _pause(attempt)


def _pause(attempt: Optional[Attempt]) -> None:
    """Wait until it is time for the next look, not longer than our own call takes."""
    if attempt is not None:
        attempt.wait(POLL_S)
    else:
        time.sleep(POLL_S)


def progress(stats: Mapping[str, Any], rounds: int = 0) -> Dict[str, Any]:
    """Return what a person wants to see of libvirt's job statistics, and the rounds through memory so far."""
    total, remaining = stats.get("data_total", 0), stats.get("data_remaining", 0)
    speed = stats.get("memory_bps", 0)
    return {
        "percent": round(100 * (total - remaining) / total) if total else 0,
        "remaining_kib": remaining // 1024,
        "speed_mib_s": round(speed / 1048576, 1),
        "eta_s": round(remaining / speed) if speed else None,
        "iteration": rounds,
        "throttle_percent": stats.get("auto_converge_throttle", 0),
        "expected_downtime_ms": stats.get("downtime"),
        "elapsed_ms": stats.get("time_elapsed", 0),
    }
