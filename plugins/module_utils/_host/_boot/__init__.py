# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The kernel command line: what runs, what the next boot gives, and the boot loaders that hold our part of it.

``cmdline`` knows arguments, ``config`` what all boot loaders have in common, ``record`` which arguments are ours, and
``detect`` finds the boot loader. ``tuned`` is the alternative that leaves the command line to tuned.
"""

from __future__ import annotations

from .cmdline import Argument, arguments, difference, format_line, parse, running, same_name
from .config import BootConfig, BootLoader, Conflict, conflicts, missing
from .detect import BOOT_LOADERS, boot_loader

__all__ = [
    "BOOT_LOADERS",
    "Argument",
    "BootConfig",
    "BootLoader",
    "Conflict",
    "arguments",
    "boot_loader",
    "conflicts",
    "difference",
    "format_line",
    "missing",
    "parse",
    "running",
    "same_name",
]
