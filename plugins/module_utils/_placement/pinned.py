# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""VMs that cannot move live while their host is serviced: they are shut down for that time, or the host is skipped.

A VM that is shut down keeps everything it has in the books, for it starts again where it is. That costs nobody room:
no VM comes to its host before the host is back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Container, Dict, List, Sequence, Tuple

from .answer import Shutdown, Skipped, StayingVm
from .constraints import vm_reasons
from .model import EXECUTING_STATES, Snapshot, Vm
from .reasons import Reason
from .request import Options, Request

# Why a VM cannot move that shutting it down would end.
_PINNED = ("migration_pinned", "blockers")

# The questions that take hosts out of service.
_SERVICING = ("drain", "rollout")


def is_shut_down(vm: Vm, options: Options) -> bool:
    """Whether a VM is shut down while its host is serviced.

    One that does not execute could not react, and one with another obstacle has to be seen by somebody first.
    """
    if options.pinned != "shutdown" or vm.state not in EXECUTING_STATES:
        return False
    codes = [reason.code for reason in vm_reasons(vm, options)]
    return bool(codes) and all(code in _PINNED for code in codes)


def shutdowns(snapshot: Snapshot, hosts: Container[str], options: Options) -> Tuple[Shutdown, ...]:
    """Return the VMs of hosts that are shut down while these are serviced, in the order in which they start again."""
    asleep = (vm for vm in snapshot.vms if vm.host in hosts and is_shut_down(vm, options))
    return in_order([Shutdown(vm.name, vm.uuid, vm_reasons(vm, options), vm.host, vm.priority) for vm in asleep])


def in_order(items: Sequence[Shutdown]) -> Tuple[Shutdown, ...]:
    """Return VMs in the order in which they start again: the important ones first, then by name."""
    return tuple(sorted(items, key=lambda item: (-item.priority, item.vm, item.host)))


def without_skipped(request: Request, snapshot: Snapshot) -> Tuple[Request, Tuple[Skipped, ...]]:
    """Return a request without the hosts that are skipped because of VMs that cannot move, and these hosts."""
    if request.options.pinned != "skip" or request.question not in _SERVICING:
        return request, ()
    staying: Dict[str, List[StayingVm]] = {}
    for vm in snapshot.vms:
        reasons = _pinning_reasons(vm, request.options) if vm.active else ()
        if reasons:
            staying.setdefault(vm.host, []).append(StayingVm(vm.name, vm.uuid, reasons))
    left = tuple(host for host in request.hosts if host.name not in staying)
    skipped = tuple(Skipped(host.name, tuple(staying[host.name])) for host in request.hosts if host.name in staying)
    return replace(request, hosts=left), skipped


def _pinning_reasons(vm: Vm, options: Options) -> Tuple[Reason, ...]:
    return tuple(reason for reason in vm_reasons(vm, options) if reason.code in _PINNED)
