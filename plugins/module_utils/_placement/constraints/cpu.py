# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""A host must have all of the CPU with which a VM runs, whatever their pools are called."""

from __future__ import annotations

from typing import Hashable, Optional

from ..model import Cpu, Host, Vm
from ..reasons import Reason
from .base import Context, HostFilter


class _CpuFilter(HostFilter):
    def of_vm(self, vm: Vm, context: Context) -> Hashable:
        # Entries of a snapshot's cpus are told apart by their ids.
        return None if vm.cpu is None else vm.cpu.id

    def of_host(self, host: Host, context: Context) -> Hashable:
        return None if host.cpu is None else host.cpu.id

    def judge(self, vm: Vm, host: Host, context: Context) -> Optional[Reason]:
        return None if vm.cpu is None or host.cpu is None else self.compare(vm.cpu, host.cpu)

    def compare(self, needed: Cpu, offered: Cpu) -> Optional[Reason]:
        raise NotImplementedError


class CpuVendor(_CpuFilter):
    code = "cpu_vendor"

    def compare(self, needed: Cpu, offered: Cpu) -> Optional[Reason]:
        if None in (needed.vendor, offered.vendor) or needed.vendor == offered.vendor:
            return None
        text = f"has a CPU of vendor {offered.vendor}, the VM has one of {needed.vendor}"
        return Reason(self.code, text, facts={"vendor": offered.vendor, "needed_vendor": needed.vendor})


class CpuFeatures(_CpuFilter):
    code = "cpu_features"

    def compare(self, needed: Cpu, offered: Cpu) -> Optional[Reason]:
        if needed.features is None or offered.features is None or needed.features <= offered.features:
            return None
        missing = sorted(needed.features - offered.features)
        return Reason(self.code, f"lacks the CPU features {', '.join(missing)}", facts={"missing": missing})


class AddressBits(_CpuFilter):
    code = "address_bits"

    def compare(self, needed: Cpu, offered: Cpu) -> Optional[Reason]:
        bits, wanted = offered.address_bits, needed.address_bits
        if bits is None or wanted is None or wanted <= bits:
            return None
        text = f"has {bits} physical address bits, the VM has {wanted}"
        return Reason(self.code, text, facts={"address_bits": bits, "needed_address_bits": wanted})
