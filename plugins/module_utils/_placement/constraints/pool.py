# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""A VM stays in the CPU pool of the host it runs on, unless asked otherwise."""

from __future__ import annotations

from typing import Hashable, Optional

from ..model import Host, Vm
from ..reasons import Reason
from .base import Context, HostFilter


class Pool(HostFilter):
    code = "pool"

    def of_vm(self, vm: Vm, context: Context) -> Hashable:
        return context.own_hosts[vm.host].pool if context.options.stay_in_pool else None

    def of_host(self, host: Host, context: Context) -> Hashable:
        return host.pool if context.options.stay_in_pool else None

    def judge(self, vm: Vm, host: Host, context: Context) -> Optional[Reason]:
        own = context.own_hosts[vm.host].pool
        if not context.options.stay_in_pool or own == host.pool:
            return None
        text = f"is in {_named(host.pool)}, the VM runs in {_named(own)}, and stay_in_pool is on"
        return Reason(self.code, text, facts={"pool": host.pool, "own_pool": own})


def _named(pool: Optional[str]) -> str:
    return "no pool" if pool is None else f"pool {pool}"
