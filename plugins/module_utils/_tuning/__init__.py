# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What the inventory wants of VMs: profiles and settings of their own, as lists for the modules that bring it about."""

from __future__ import annotations

from .lists import tuned_vms
from .show import tuning_report

__all__ = ["tuned_vms", "tuning_report"]
