# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Live migration of several VMs of one host, judged from both hosts."""

from .attempt import Options
from .executor import plan_moves, run_moves
from .move import Move, move_from_dict
from .outlook import warnings
from .reach import reach
from .transport import COMPRESSIONS, Transport, require_possible

__all__ = [
    "COMPRESSIONS",
    "Move",
    "Options",
    "Transport",
    "move_from_dict",
    "plan_moves",
    "reach",
    "require_possible",
    "run_moves",
    "warnings",
]
