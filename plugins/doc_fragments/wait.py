# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """The bound of every wait; fits C(_argspec.WAIT)."""

    DOCUMENTATION = r"""
options:
  wait_timeout:
    description:
      - How long to wait, in seconds.
      - When it expires, the module cancels what it waits for, reads the state back and fails with it.
    type: int
    default: 600
"""
