# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The test lab: several real libvirt hypervisors on one Linux machine; see docs/lab.md."""

from __future__ import annotations

from .domain import GuestSpec
from .guests import Presence
from .host import Host
from .lab import HostStatus, Lab
from .shell import LabError
from .spec import HostOptions
from .verdict import Verdict

__all__ = ["GuestSpec", "Host", "HostOptions", "HostStatus", "Lab", "LabError", "Presence", "Verdict"]
