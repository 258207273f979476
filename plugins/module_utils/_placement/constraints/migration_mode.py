# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""A VM moves only as its policy lets it."""

from __future__ import annotations

from typing import Optional

from ..model import Vm
from ..reasons import Reason
from ..request import Options


def migration_mode(vm: Vm, options: Options) -> Optional[Reason]:
    if vm.migration == "pinned":
        text = f"the policy of {vm.name} is migration: pinned. Shut it down, or change its policy."
        return Reason("migration_pinned", text)
    if vm.migration == "manual" and not options.move_manual:
        text = f"{vm.name} moves by hand only (migration: manual), and move_manual is off."
        return Reason("migration_manual", text)
    return None
