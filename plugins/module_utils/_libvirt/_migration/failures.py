# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What is told of a move that failed: the VM, both hosts, the cause and the next step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Dict, Optional

from ..._errors import FleetError
from ..api import fleet_error
from ..causes import MIGRATION, cause_of
from . import verdict as v
from .watch import NOT_CONVERGED, TIMEOUT, Watch

# The verdicts with which a move cannot go on.
FAILURES: Dict[str, str] = {
    v.STOPPED: "shut down before its migration ended; its definition is where it was. Start it if it should run.",
    v.GONE: "exists neither on its source nor on its destination; look for it with vm_info on the other hosts.",
    v.SPLIT_BRAIN: "runs on both hosts at once. Nothing was touched: stop the one whose data you do not want, now, by "
    "`virsh destroy`, and run this again.",
    v.POST_COPY_BROKEN: "has its memory on both hosts, for its post-copy broke and could not be taken up again. "
    "Nothing is lost while both hosts stay up: mend the link and run this again, with the same destination. "
    "Never resume, reset or destroy the VM on either host.",
    v.UNKNOWN: "is in a state that cannot be judged, for one of the hosts does not answer or a post-copy migration "
    "broke. Nothing was touched: bring the host back and run this again.",
}

_CODES = {
    v.POST_COPY_BROKEN: "post_copy_broken",
    v.STOPPED: "vm_stopped",
    v.GONE: "vm_unknown",
    v.UNKNOWN: "state_unknown",
}


@dataclass(frozen=True)
class Failures:
    """The errors of one move."""

    vm: str
    source: str
    destination: str
    wait_timeout: int

    def impossible(self, found: str) -> FleetError:
        """Return the error for one of the verdicts in ``FAILURES``."""
        return FleetError(
            f"VM {self.vm} on its way from {self.source} to {self.destination} {FAILURES[found]}",
            _CODES.get(found, found),
        )

    def not_cancelled(self, watch: Watch) -> FleetError:
        """Return the error for a migration that goes on although it was to be cancelled."""
        return FleetError(
            f"The migration of VM {self.vm} to {self.destination} was to be cancelled ({self._why(watch)}) and cannot "
            "be; it may still end well. Run this again.",
            watch.cancelled or TIMEOUT,
        )

    def cannot_resume(self, release: str) -> FleetError:
        """Return the error for a broken post-copy that the destination's libvirt would not survive."""
        return FleetError(
            f"{self.impossible(v.POST_COPY_BROKEN).msg} It was not tried, for libvirt {release} of {self.destination} "
            "crashes when it is asked to. Update libvirt there, which its VMs survive, and run this again.",
            "post_copy_broken",
        )

    def refused(self, watch: Optional[Watch], error: Optional[Exception]) -> FleetError:
        """Return the error for a VM that did not leave; ``error`` is what libvirt's call raised."""
        where = f"VM {self.vm} did not migrate to {self.destination} and is still on {self.source}"
        if watch is not None and watch.cancelled:
            return FleetError(
                f"{where}: {self._why(watch)}, so it was cancelled. "
                "Raise wait_timeout or bandwidth_mib_s, choose another convergence, or try when it is less busy.",
                watch.cancelled,
            )
        if error is None:
            return FleetError(f"{where}, though libvirt reported success.", "migration_failed")
        told = fleet_error(error, where, "migration_failed")
        cause = cause_of(told.msg, MIGRATION)
        if cause is None:
            return told
        step = cause.step.format(**asdict(self))
        return FleetError(f"{told.msg.rstrip('.')}. {step}.", cause.code, **told.facts)

    def _why(self, watch: Watch) -> str:
        if watch.cancelled == NOT_CONVERGED:
            return f"its memory did not get in step within {watch.rounds} rounds"
        return f"not finished within {self.wait_timeout} seconds"
