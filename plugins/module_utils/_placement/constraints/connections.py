# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""A host must have the networks and the storage of a VM."""

from __future__ import annotations

from typing import FrozenSet, Hashable, Optional

from ..model import Host, Vm
from ..reasons import Reason
from .base import Context, HostFilter


class Networks(HostFilter):
    code = "networks"

    def of_vm(self, vm: Vm, context: Context) -> Hashable:
        return vm.networks

    def of_host(self, host: Host, context: Context) -> Hashable:
        return host.networks

    def judge(self, vm: Vm, host: Host, context: Context) -> Optional[Reason]:
        return _lacking(self.code, vm.networks, host.networks)


class Storage(HostFilter):
    code = "storage"

    def of_vm(self, vm: Vm, context: Context) -> Hashable:
        return vm.storage

    def of_host(self, host: Host, context: Context) -> Hashable:
        return host.storage

    def judge(self, vm: Vm, host: Host, context: Context) -> Optional[Reason]:
        return _lacking(self.code, vm.storage, host.storage)


def _lacking(what: str, wanted: FrozenSet[str], offered: Optional[FrozenSet[str]]) -> Optional[Reason]:
    if offered is None or wanted <= offered:
        return None
    missing = sorted(wanted - offered)
    return Reason(what, f"lacks the {what} {', '.join(missing)}", facts={"missing": missing})
