# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Convergence schedules: what is done, and when, with a VM that writes faster than its memory can be sent.

The policies follow those of oVirt (``MigrationPolicies`` in ``0000_config.sql`` of ovirt-engine).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Tuple

ACTIONS = ("downtime", "post_copy", "pause", "abort")


@dataclass(frozen=True)
class Step:
    """What is done once ``after`` rounds of copying memory are complete.

    ``downtime`` lets the VM stand still for ``downtime_ms`` at the end, ``post_copy`` lets it run on at its destination
    while its memory follows, ``pause`` stops it so that it writes no more, ``abort`` cancels the migration.
    """

    after: int
    action: str
    downtime_ms: Optional[int] = None


@dataclass(frozen=True)
class Schedule:
    """What is done to make a migration end, in the order of the steps.

    ``initial_downtime_ms`` applies from the start, ``None`` leaves QEMU's default. ``auto_converge`` lets QEMU slow the
    VM down.
    """

    name: str
    initial_downtime_ms: Optional[int]
    auto_converge: bool
    steps: Tuple[Step, ...] = ()

    @property
    def uses_post_copy(self) -> bool:
        """Whether libvirt has to be told at the start that post-copy may come."""
        return any(step.action == "post_copy" for step in self.steps)

    @property
    def final_downtime_ms(self) -> Optional[int]:
        """The downtime after the last step that sets one."""
        given = [step.downtime_ms for step in self.steps if step.action == "downtime"]
        return given[-1] if given else self.initial_downtime_ms

    @property
    def last_resort(self) -> Optional[Step]:
        """The first step that does more than allow a longer downtime."""
        return next((step for step in self.steps if step.action != "downtime"), None)


def counted(rounds: int, seconds: float) -> int:
    """Return how many of the rounds that were completed within ``seconds`` count.

    One a second at most: a VM with little memory in use goes through thirty rounds in two seconds on a fast link, while
    QEMU considers slowing it down once a second only (``migration_bitmap_sync``). Without this it would be given up
    before anything could help, or stand still longer than it has to.
    """
    return min(rounds, int(seconds))


def _growing(*downtimes: Tuple[int, int]) -> Tuple[Step, ...]:
    return tuple(Step(after, "downtime", downtime_ms) for after, downtime_ms in downtimes)


_MINIMAL = _growing((1, 150), (2, 200), (3, 300), (4, 400), (6, 500))

# Auto-converge needs about two rounds for each of its steps up to 99 %. oVirt aborts right after the last downtime,
# which leaves it no chance.
_ABORT = Step(30, "abort")

POLICIES: Dict[str, Schedule] = {
    schedule.name: schedule
    for schedule in (
        Schedule("minimal_downtime", 100, True, (*_MINIMAL, _ABORT)),
        # The abort comes only if post-copy could not begin.
        Schedule("post_copy", 100, True, (*_MINIMAL[:2], Step(3, "post_copy"), _ABORT)),
        # A paused VM always converges, and wait_timeout bounds how long that takes.
        Schedule("suspend", 100, True, (*_MINIMAL, *_growing((8, 5000)), Step(12, "pause"))),
        Schedule("legacy", None, True),
    )
}
