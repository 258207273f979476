# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What a host can have once only: a VM's name, and one VM of each group that is to be kept apart.

Both hold at both ends of a move until it has ended. A stopped VM has its name, but no place in its groups.
"""

from __future__ import annotations

from typing import FrozenSet, Optional, Tuple

from ..model import Vm
from ..reasons import Reason
from .base import There

# What kind of label it is, and its text.
Label = Tuple[str, str]

NAME, APART = "name", "apart"


def labels(vm: Vm) -> FrozenSet[Label]:
    """Return what a VM takes from the host it is on."""
    groups = ((APART, group) for group in vm.keep_apart) if vm.active else ()
    return frozenset(((NAME, vm.name), *groups))


def name_taken(vm: Vm, there: There) -> Optional[Reason]:
    others = there.holders.get((NAME, vm.name), frozenset()) - {vm.key}
    if not others:
        return None
    return Reason("name_taken", f"has another VM of the name {vm.name}", facts={"other": min(others)})


def keep_apart(vm: Vm, there: There) -> Optional[Reason]:
    for group in sorted(vm.keep_apart):
        others = sorted(there.holders.get((APART, group), frozenset()) - {vm.key})
        if others:
            text = f"has a VM of the group {group}, whose VMs are kept apart"
            return Reason("keep_apart", text, facts={"group": group, "others": others})
    return None
