# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""A host must have the memory and, where overcommit is limited, the vCPUs for a VM."""

from __future__ import annotations

from typing import Optional

from ..._amount import amount
from ..model import Vm
from ..reasons import Reason
from ..resources import demand, known
from .base import There


def memory(vm: Vm, there: There) -> Optional[Reason]:
    needed, left = demand(vm)[0], there.free[0]
    if not needed or needed <= left:
        return None
    text = f"has {amount(max(0, left))} of memory left for VMs, the VM needs {amount(needed)}"
    facts = {"needed_kib": needed, "free_kib": left, "capacity_kib": known(there.capacity[0])}
    return Reason("memory", text, facts=facts)


def vcpus(vm: Vm, there: There) -> Optional[Reason]:
    needed, left = demand(vm)[1], there.free[1]
    if not needed or needed <= left:
        return None
    text = f"has room for {max(0, left)} more vCPUs within its overcommit limit, the VM has {needed}"
    facts = {"needed_vcpus": needed, "free_vcpus": left, "capacity_vcpus": known(there.capacity[1])}
    return Reason("vcpus", text, facts=facts)
