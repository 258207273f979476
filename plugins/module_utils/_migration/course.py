# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which steps of a schedule are due in one migration."""

from __future__ import annotations

from typing import List, Optional, Tuple

from .schedule import Schedule, Step, counted


class Course:
    """The steps that one migration has still before it. A migration that is tried again needs a new one.

    ``rounds`` is how often memory was gone through after the first time, whether or not all of these count.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.rounds = 0
        self._left: List[Step] = list(schedule.steps)
        self._first: Optional[int] = None
        self._counted = 0
        # The rounds and the time when one counted last: a long one lends nothing to the short ones that follow it.
        self._last = (0, 0.0)

    def due(self, iteration: int, elapsed_s: float, post_copy: bool = False) -> Tuple[Step, ...]:
        """Return what is to be done now, each step once, whatever comes of it: a downtime at most, then one other.

        ``iteration`` is libvirt's ``memory_iteration``, ``elapsed_s`` a clock that runs with it (``time_elapsed`` in
        seconds), ``post_copy`` whether the VM runs on at its destination already. Then nothing is left to do: it can
        neither be cancelled nor come back.
        """
        if post_copy:
            self._left = []
        rounds = self._count(iteration, elapsed_s)
        due: List[Step] = []
        while rounds is not None and self._left and self._left[0].after <= rounds:
            step = self._left.pop(0)
            if step.action != "downtime":
                # An abort must not follow at once if both are late: the caller has to see first whether this helped.
                return (*due, step)
            due = [step]
        return tuple(due)

    def _count(self, iteration: int, elapsed_s: float) -> Optional[int]:
        """Return how many of the complete rounds count, ``None`` before the first begins.

        The count is 1 in the first round. It may include rounds of migrations that were cancelled, and what is left of
        such a one may be seen before the count starts anew, so it is the lowest one that is counted from. From QEMU 9.2
        on it also grows every five seconds within a long round while auto-converge is allowed.
        """
        if iteration > 0 and (self._first is None or iteration < self._first):
            self._first, self._counted, self._last = iteration, 0, (0, elapsed_s)
        if self._first is None:
            return None
        self.rounds = max(0, iteration - self._first)
        rounds, since = self._last
        more = counted(self.rounds - rounds, elapsed_s - since)
        if more > 0:
            self._counted += more
            self._last = (self.rounds, elapsed_s)
        return self._counted
