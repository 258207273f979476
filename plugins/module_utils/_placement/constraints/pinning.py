# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""A host must have CPUs and cells for a VM's pins, or a CPU to share for a VM without pins."""

from __future__ import annotations

from typing import Hashable, Optional

from ..._pinning import Misfit, fit_pinning
from ..model import Host, Vm
from ..reasons import Reason
from ..seat import wanted_pinning
from .base import Context, HostFilter, There


class Pinning(HostFilter):
    code = "pinning"

    def of_vm(self, vm: Vm, context: Context) -> Hashable:
        return vm.tied

    def of_host(self, host: Host, context: Context) -> Hashable:
        return context.books.crowded(host.name) is None

    def is_single(self, vm: Vm) -> bool:
        # Pins that the VM's policy made say nothing about other hosts.
        return vm.tied and not vm.is_placed

    def judge(self, vm: Vm, host: Host, context: Context) -> Optional[Reason]:
        if not vm.tied:
            return _reason(context.books.crowded(host.name))
        return None if vm.is_placed else _reason(fit_pinning(wanted_pinning(vm, host), host.cpus, host.nodes))


def pins(vm: Vm, there: There) -> Optional[Reason]:
    """Refuse a host that cannot give the VM its CPUs and cells beside others."""
    reason = _reason(there.misfit)
    if reason is None or not vm.is_placed:
        return reason
    return Reason(reason.code, f"cannot give {vm.name} its pins: {reason.text}", facts=reason.facts)


def _reason(misfit: Optional[Misfit]) -> Optional[Reason]:
    return None if misfit is None else Reason(misfit.code, misfit.text, facts=misfit.facts)
