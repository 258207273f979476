# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""No VM goes to a host in maintenance, to one that is to be emptied, or to one that is excluded."""

from __future__ import annotations

from typing import Hashable, Optional

from ..model import Host, Vm
from ..reasons import Reason
from .base import Context, HostFilter


class Maintenance(HostFilter):
    code = "maintenance"

    def of_host(self, host: Host, context: Context) -> Hashable:
        return host.maintenance

    def judge(self, vm: Vm, host: Host, context: Context) -> Optional[Reason]:
        return Reason(self.code, "is in maintenance") if host.maintenance else None


class Draining(HostFilter):
    code = "draining"

    def of_host(self, host: Host, context: Context) -> Hashable:
        return host.name in context.draining

    def judge(self, vm: Vm, host: Host, context: Context) -> Optional[Reason]:
        return Reason(self.code, "is to be emptied too") if host.name in context.draining else None


class Excluded(HostFilter):
    code = "excluded"

    def of_host(self, host: Host, context: Context) -> Hashable:
        return host.name in context.options.exclude_hosts

    def judge(self, vm: Vm, host: Host, context: Context) -> Optional[Reason]:
        return Reason(self.code, "is in exclude_hosts") if host.name in context.options.exclude_hosts else None
