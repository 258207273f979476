# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""VMs are shut down, started, and seen to answer: ``look`` reads one, ``notes`` remember what is to start again."""

from __future__ import annotations

from .answering import see_answering
from .look import Result, require_all
from .shutdown import Shutdown, shut_down
from .start import Start, start

__all__ = ["Result", "Shutdown", "Start", "require_all", "see_answering", "shut_down", "start"]
