# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What the states on both hosts mean, whatever a call returned.

Protocol version 3 of libvirt's migration runs Begin and Perform and Confirm on the source, Prepare and Finish on the
destination; each may be lost. The table is derived from these steps (https://libvirt.org/migration.html and
``src/qemu/qemu_migration.c``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ..domains import POST_COPY_FAILED, DomainState

# How a VM relates to its move. The texts are part of the module's results.
MOVED = "moved"
STAYED = "stayed"
IN_PROGRESS = "in_progress"
LEFTOVER_ON_DESTINATION = "leftover_on_destination"
SOURCE_PAUSED = "source_paused"
DESTINATION_PAUSED = "destination_paused"
BOTH_PAUSED = "both_paused"
SOURCE_NOT_RELEASED = "source_not_released"
POST_COPY_BROKEN = "post_copy_broken"
STOPPED = "stopped"
GONE = "gone"
SPLIT_BRAIN = "split_brain"
UNKNOWN = "unknown"

# How a VM ends by itself or by its owner.
_ENDS = ("shutdown", "destroyed", "crashed")

# Pauses that a migration makes; every other pause is somebody's will and stays.
_MIGRATION_PAUSES = ("migration", "starting_up", "unknown")


@dataclass(frozen=True)
class End:
    """One end of a move: what that host says about the VM.

    ``reachable`` is false if the host could not be asked; ``state`` is ``None`` if it does not know the VM.
    ``job`` tells that a migration of the VM is under way there.
    """

    reachable: bool = True
    state: Optional[DomainState] = None
    job: bool = False
    persistent: bool = False

    @property
    def active(self) -> bool:
        """Whether a hypervisor process of the VM exists on this host."""
        return self.state is not None and self.state.active

    @property
    def in_migration_pause(self) -> bool:
        """Whether the VM stands still here because of a migration, not because somebody paused it."""
        return self.state is not None and self.state.state == "paused" and self.state.reason in _MIGRATION_PAUSES

    @property
    def in_postcopy(self) -> bool:
        """Whether the VM's memory is spread over both hosts."""
        return self.state is not None and self.state.reason in ("postcopy", POST_COPY_FAILED)

    @property
    def in_broken_postcopy(self) -> bool:
        """Whether this end waits for the rest of the memory to be sent again."""
        return self.state is not None and self.state.reason == POST_COPY_FAILED

    @property
    def whole(self) -> bool:
        """Whether this is the VM as its users know it: running, or paused by somebody's will."""
        return self.active and not self.in_migration_pause and not self.in_postcopy


def judge(source: End, destination: End) -> str:
    """Return what the two ends mean; one of the constants of this module."""
    if not source.reachable:
        return UNKNOWN
    if source.in_postcopy or destination.in_postcopy:
        return _judge_postcopy(source, destination)
    if source.job and source.active:
        return IN_PROGRESS
    if source.whole:
        return _judge_whole_source(destination)
    if source.in_migration_pause:
        return _judge_paused_source(destination)
    return _judge_inactive_source(source, destination)


def has_stayed(source: End, destination: End, same: bool, watched: bool) -> bool:
    """Return whether both ends prove that a VM has been at its source ever since, so that it needs nothing elsewhere.

    ``same`` tells that it runs as it did when the move began, neither started anew nor come back. One that is off has
    stayed if it was ``watched`` since then and ended by itself or by its owner.
    """
    if not destination.reachable or destination.active:
        return False
    if judge(source, destination) == STAYED:
        return same
    ended = source.state is not None and not source.active and source.state.reason in _ENDS
    return watched and ended and destination.state is None


def _judge_postcopy(source: End, destination: End) -> str:
    if source.in_broken_postcopy or destination.in_broken_postcopy:
        # Only with both parts of the memory can it be taken up again. Its job goes on for ever.
        return POST_COPY_BROKEN if source.in_postcopy and destination.in_postcopy else UNKNOWN
    return IN_PROGRESS if source.job else UNKNOWN


def _judge_whole_source(destination: End) -> str:
    if destination.whole:
        return SPLIT_BRAIN
    return LEFTOVER_ON_DESTINATION if destination.active else STAYED


def _judge_paused_source(destination: End) -> str:
    # A destination that cannot be asked may be running the VM: resuming the source would make two of it.
    if not destination.reachable:
        return UNKNOWN
    if destination.whole:
        return SOURCE_NOT_RELEASED
    return BOTH_PAUSED if destination.active else SOURCE_PAUSED


def _judge_inactive_source(source: End, destination: End) -> str:
    if not destination.reachable:
        # "migrated" is the source's own word that it handed the VM over; any other reason is the VM's own end.
        stopped_here = source.state is not None and source.state.reason != "migrated"
        return STOPPED if stopped_here else UNKNOWN
    if destination.whole:
        return MOVED
    if destination.active:
        return DESTINATION_PAUSED
    return STOPPED if source.state is not None or destination.state is not None else GONE
