# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Pins of one VM on one host: whether they can be kept, what they become elsewhere, and what they rule out."""

from __future__ import annotations

from ._floating import float_on, forget_shared, shared_cpus
from ._isolation_guard import ThreadPin, pins_lost, pins_outside, pins_refusal, thread_pins
from ._move import Misfit, count_pins, fit_pinning, keeps_pinning, move_pinning, pinned_cpus

__all__ = [
    "Misfit",
    "ThreadPin",
    "count_pins",
    "fit_pinning",
    "float_on",
    "forget_shared",
    "keeps_pinning",
    "move_pinning",
    "pinned_cpus",
    "pins_lost",
    "pins_outside",
    "pins_refusal",
    "shared_cpus",
    "thread_pins",
]
