# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The placement planner: pure functions from a fleet snapshot and a request to a plan.

Read top to bottom: ``snapshot`` and ``request`` turn JSON into values, ``question`` says what is asked;
``constraints``, ``weights`` and ``resources`` are the rules. ``build`` makes a ``problem`` of blocks of VMs and hosts
in reach. ``solve`` finds who goes where in a ``room`` (``direct``, ``make_room``, ``exact``, ``exact_cp``,
``explore``) and puts the moves in ``order``. ``pinned`` says what becomes of VMs that cannot move. ``one_wave``,
``rollout`` and ``rebalance`` are the questions, ``planner`` chooses among them and completes the ``answer``.
"""

from __future__ import annotations

from .answer import Answer, Candidates, Move, Shortage, Shutdown, Skipped, Unplaced, Wave, counts
from .model import Cpu, Home, Host, Shape, Snapshot, Vm
from .planner import answer, plan
from .reasons import Reason
from .request import Options, Request, parse
from .snapshot import load, merge

__all__ = [
    "Answer",
    "Candidates",
    "Cpu",
    "Home",
    "Host",
    "Move",
    "Options",
    "Reason",
    "Request",
    "Shape",
    "Shortage",
    "Shutdown",
    "Skipped",
    "Snapshot",
    "Unplaced",
    "Vm",
    "Wave",
    "answer",
    "counts",
    "load",
    "merge",
    "parse",
    "plan",
]
