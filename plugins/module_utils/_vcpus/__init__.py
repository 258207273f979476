# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The number of vCPUs of a running VM: what it has, what may change, and which vCPUs come and go."""

from __future__ import annotations

from ._change import KEEP, REFUSE, Change, Limits, change_of
from ._guest_os import GuestOs, Support, from_agent, from_metadata, support_of
from ._slots import Slot, count_of, online_of, slots_of
from ._wish import AGENT, LIVE, NEXT_START, VcpuWish

__all__ = [
    "AGENT",
    "KEEP",
    "LIVE",
    "NEXT_START",
    "REFUSE",
    "Change",
    "GuestOs",
    "Limits",
    "Slot",
    "Support",
    "VcpuWish",
    "change_of",
    "count_of",
    "from_agent",
    "from_metadata",
    "online_of",
    "slots_of",
    "support_of",
]
