# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""A VM must run or may move though it is off, be in a state that migrates, and be nowhere else."""

from __future__ import annotations

from typing import Optional

from ..model import MOVABLE_STATES, Vm
from ..reasons import Reason
from ..request import Options


def not_running(vm: Vm, options: Options) -> Optional[Reason]:
    if vm.active or options.stopped != "leave":
        return None
    text = f"{vm.name} is {vm.state}; only running VMs can move live. Start it first, or let VMs that are off move too."
    return Reason("not_running", text)


def state(vm: Vm, options: Options) -> Optional[Reason]:
    if not vm.active or vm.state in MOVABLE_STATES:
        return None
    text = f"{vm.name} is in state {vm.state}, which cannot migrate. Wait until it has ended, or destroy it."
    return Reason("state", text, facts={"state": vm.state})


def in_transit(vm: Vm, options: Options) -> Optional[Reason]:
    if vm.twins:
        where = " and ".join(vm.twins)
        text = (
            f"a second domain with the UUID of {vm.name} is on {where}: a migration is under way or has left it behind."
            " Wait for the migration, or clean up the leftover, and collect the snapshot again."
        )
        return Reason("in_transit", text, facts={"twins": list(vm.twins)})
    if vm.job in ("migration_out", "migration_in"):
        text = f"{vm.name} is being migrated already. Wait for that migration and collect the snapshot again."
        return Reason("in_transit", text, facts={"job": vm.job})
    return None


def blockers(vm: Vm, options: Options) -> Optional[Reason]:
    if not vm.blockers:
        return None
    return Reason("blockers", "; ".join(vm.blockers), facts={"blockers": list(vm.blockers)})
