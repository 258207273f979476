# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""How a live migration is to go, as values: what is done when it does not converge, what to expect, which VM is next.

Read top to bottom: ``schedule`` has the policies, ``given`` makes a schedule of the user's options, ``course`` says
which of its steps are due, ``forecast`` what will come of it, ``queue`` which move begins next.
"""

from __future__ import annotations

from .course import Course
from .forecast import Forecast, forecast_move
from .given import schedule_from
from .queue import Limits, Waiting, startable
from .schedule import ACTIONS, POLICIES, Schedule, Step

__all__ = [
    "ACTIONS",
    "POLICIES",
    "Course",
    "Forecast",
    "Limits",
    "Schedule",
    "Step",
    "Waiting",
    "forecast_move",
    "schedule_from",
    "startable",
]
