# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""How a live migration is to go, as values: what is done when it does not converge, what to expect, which VM is next.

Read top to bottom: ``schedule`` has the policies, ``given`` makes a schedule of the user's options, ``course`` says
which of its steps are due, ``forecast`` what will come of it, ``queue`` which move begins next; ``address`` says where
memory is sent, ``cargo`` which disks travel along, ``stowage`` where they go.
"""

from __future__ import annotations

from .address import stream_uri
from .cargo import Cargo, Copy, Medium, Place, cargo_of
from .course import Course
from .forecast import Forecast, forecast_move
from .given import schedule_from
from .obstacle import Obstacle
from .queue import Limits, Waiting, startable
from .schedule import ACTIONS, POLICIES, Schedule, Step
from .stowage import DIRECTORIES, Held, Pool, Stowed, Volume, doubles, mib, shortages, stow, taken

__all__ = [
    "ACTIONS",
    "DIRECTORIES",
    "POLICIES",
    "Cargo",
    "Copy",
    "Course",
    "Forecast",
    "Held",
    "Limits",
    "Medium",
    "Obstacle",
    "Place",
    "Pool",
    "Schedule",
    "Step",
    "Stowed",
    "Volume",
    "Waiting",
    "cargo_of",
    "doubles",
    "forecast_move",
    "mib",
    "schedule_from",
    "shortages",
    "startable",
    "stow",
    "stream_uri",
    "taken",
]
