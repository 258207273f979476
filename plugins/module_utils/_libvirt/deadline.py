# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The time that something may take, and waiting within it."""

from __future__ import annotations

import time
from typing import Callable

# How often a VM is looked at that is waited for.
PAUSE_S = 0.2


class Deadline:
    """The ``bound_s`` seconds that may pass for one VM from now on."""

    def __init__(self, bound_s: float) -> None:
        self.bound_s = bound_s
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """How many have passed."""
        return round(time.monotonic() - self._start, 1)

    def left(self, share: float = 1.0) -> float:
        """Return the seconds that are left of a share of the whole time."""
        return max(0.0, self._start + self.bound_s * share - time.monotonic())

    def until(self, reached: Callable[[], bool], share: float = 1.0) -> bool:
        """Return whether something comes true before a share of the whole time has passed."""
        while not reached():
            left = self.left(share)
            if left <= 0:
                return False
            time.sleep(min(PAUSE_S, left))
        return True
