# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""A host's QEMU must know the machine type of a VM."""

from __future__ import annotations

from typing import Hashable, Optional

from ..model import Host, Vm
from ..reasons import Reason
from .base import Context, HostFilter


class MachineType(HostFilter):
    code = "machine_type"

    def of_vm(self, vm: Vm, context: Context) -> Hashable:
        return vm.machine_type

    def of_host(self, host: Host, context: Context) -> Hashable:
        return host.machine_types

    def judge(self, vm: Vm, host: Host, context: Context) -> Optional[Reason]:
        if vm.machine_type is None or host.machine_types is None or vm.machine_type in host.machine_types:
            return None
        text = f"does not know the machine type {vm.machine_type}"
        return Reason(self.code, text, facts={"machine_type": vm.machine_type})
