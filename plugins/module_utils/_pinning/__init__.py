# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Pins of one VM on one host: whether they can be kept, and what they become elsewhere."""

from __future__ import annotations

from ._floating import float_on, forget_shared, shared_cpus
from ._move import Misfit, count_pins, fit_pinning, keeps_pinning, move_pinning, pinned_cpus

__all__ = [
    "Misfit",
    "count_pins",
    "fit_pinning",
    "float_on",
    "forget_shared",
    "keeps_pinning",
    "move_pinning",
    "pinned_cpus",
    "shared_cpus",
]
