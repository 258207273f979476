# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""A VM goes only to hosts that its policy names, if it names any."""

from __future__ import annotations

from typing import Optional

from ..model import Host, Vm
from ..reasons import Reason
from .base import Context, HostFilter


class AllowedHosts(HostFilter):
    code = "allowed_hosts"

    def is_single(self, vm: Vm) -> bool:
        return bool(vm.allowed_hosts)

    def judge(self, vm: Vm, host: Host, context: Context) -> Optional[Reason]:
        if not vm.allowed_hosts or any(host.is_called(name) for name in vm.allowed_hosts):
            return None
        text = f"is not one of the hosts the VM's policy allows ({', '.join(vm.allowed_hosts)})"
        return Reason(self.code, text, facts={"allowed": list(vm.allowed_hosts)})
