# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Making one VM out of what a broken migration left. Never two running, never the last copy destroyed.

The order within each step matters: first what could become a second VM goes, then the remaining one runs.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Dict

from ..._errors import FleetError
from ..api import translated
from . import verdict as v
from .sides import Sides
from .verdict import End, judge

# libvirt clears up both ends by itself in most cases; only what is still there afterwards is ours. Without a job on
# either host it has done so, as after a restart of its daemons, and the VM may stand still meanwhile.
SETTLE_S = 20.0
QUIET_S = 2.0
POLL_S = 0.5

TRANSIENT = (v.LEFTOVER_ON_DESTINATION, v.SOURCE_PAUSED, v.DESTINATION_PAUSED, v.BOTH_PAUSED, v.SOURCE_NOT_RELEASED)


def settled(sides: Sides) -> str:
    """Return the verdict on a move once libvirt has had its time to clear up."""
    begun = busy = time.monotonic()
    while True:
        source, destination = sides.look()
        found, now = judge(source, destination), time.monotonic()
        if source.job or destination.job:
            busy = now
        if found not in TRANSIENT or now > begun + SETTLE_S or now > busy + QUIET_S:
            return found
        time.sleep(POLL_S)


def recover(sides: Sides, found: str) -> None:
    """Mend the state ``found``, one of ``TRANSIENT``; raises ``not_recovered`` if that is not safe.

    libvirt may do it at the same moment and refuse it to us then, so a failure counts only if nothing has changed.
    """
    source, destination = sides.look()
    if judge(source, destination) != found:
        return
    try:
        _STEPS[found](sides, source, destination)
    except FleetError:
        if judge(*sides.look()) == found:
            raise


def _drop_leftover(sides: Sides, _source: End, _destination: End) -> None:
    _destroy(sides.destination_domain(), sides.move.destination)


def _resume_source(sides: Sides, _source: End, _destination: End) -> None:
    _resume(sides.source_domain(), "the source")


def _drop_destination_resume_source(sides: Sides, _source: End, _destination: End) -> None:
    _destroy(sides.destination_domain(), sides.move.destination)
    _resume(sides.source_domain(), "the source")


def _release_source(sides: Sides, _source: End, _destination: End) -> None:
    _destroy(sides.source_domain(), "the source")


def _resume_destination(sides: Sides, source: End, destination: End) -> None:
    # Only a source that says it handed the VM over proves that the destination has all of its memory.
    handed_over = source.state is not None and source.state.reason == "migrated"
    if destination.job or not handed_over:
        raise FleetError(
            f"VM {sides.move.vm} stands still on {sides.move.destination} and no longer runs on its source, and "
            "nothing proves that the copy is complete. Nothing was touched: see `virsh domstate --reason` on both "
            "hosts, then `virsh resume` it on the destination or start it on the source, never both.",
            "not_recovered",
            vm=sides.move.vm,
        )
    _resume(sides.destination_domain(), sides.move.destination)


_STEPS: Dict[str, Callable[[Sides, End, End], None]] = {
    v.LEFTOVER_ON_DESTINATION: _drop_leftover,
    v.SOURCE_PAUSED: _resume_source,
    v.BOTH_PAUSED: _drop_destination_resume_source,
    v.SOURCE_NOT_RELEASED: _release_source,
    v.DESTINATION_PAUSED: _resume_destination,
}


def _destroy(domain: Any, host: str) -> None:
    if domain is not None:
        with translated(f"Removing the paused copy of VM {domain.name()} on {host}", "not_recovered"):
            domain.destroy()


def _resume(domain: Any, host: str) -> None:
    if domain is not None:
        with translated(f"Resuming VM {domain.name()} on {host}", "not_recovered"):
            domain.resume()
