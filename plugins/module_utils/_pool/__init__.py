# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The planner of CPU pools: pure functions from a fleet snapshot and a request to an answer.

Read top to bottom: ``reading`` and ``request`` turn JSON into values, ``settle`` says what pools are by their records,
``policy`` and ``aims`` what is wanted, ``guards``, ``pairs`` and ``founding`` who may not join, ``draft`` who is where
after the plan, ``target`` which CPU a pool is to have, ``agreement`` what the proofs say, ``judge`` what follows from
them. ``answer`` and ``stat`` are the two answers.
"""

from __future__ import annotations

from .planner import plan

__all__ = ["plan"]
