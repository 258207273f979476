# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""One UUID or name seen twice: cloned hosts, domains listed twice, migrations under way, and split brain.

The rules follow the table of end states in OpenStack nova's ``_live_migration_operation``
(nova/virt/libvirt/driver.py): the domain that executes is the VM, whatever the other side shows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, Iterable, List, Sequence, Tuple

from .._errors import FleetError
from .model import EXECUTING_STATES, Host, Vm


def check_hosts(hosts: Sequence[Host]) -> None:
    """Raise ``FleetError`` (``duplicate_host``) where two hosts share a name or a UUID; in the snapshot's order."""
    names: Dict[str, int] = {}
    uuids: Dict[str, int] = {}
    for index, host in enumerate(hosts):
        first = names.setdefault(host.name, index)
        if first != index:
            raise FleetError(
                f"Host {host.name} is in the snapshot twice, as hosts[{first}] and hosts[{index}]."
                " Remove one of the two parts or entries.",
                code="duplicate_host",
                hosts=[host.name],
                paths=[f"hosts[{first}]", f"hosts[{index}]"],
            )
        if host.uuid is None:
            continue
        first = uuids.setdefault(host.uuid, index)
        if first != index:
            raise FleetError(
                f"Hosts {hosts[first].name} and {host.name} have the same libvirt UUID {host.uuid}, as cloned machines"
                " do; libvirt would refuse every migration between them. Set a different host_uuid in"
                " /etc/libvirt/libvirtd.conf of one and restart its daemon.",
                code="duplicate_host",
                hosts=[hosts[first].name, host.name],
                uuid=host.uuid,
                paths=[f"hosts[{first}].uuid", f"hosts[{index}].uuid"],
            )


def check_vms(vms: Sequence[Vm]) -> None:
    """Raise ``FleetError`` (``duplicate_vm``) where two domains of one host share a name or a UUID.

    The VMs are in the snapshot's order.
    """
    seen: Dict[Tuple[str, str, str], int] = {}
    for index, vm in enumerate(vms):
        for kind, value in (("name", vm.name), ("UUID", vm.uuid)):
            first = index if value is None else seen.setdefault((vm.host, kind, value), index)
            if first != index:
                raise FleetError(
                    f"vms[{first}] and vms[{index}] have one {kind} ({value}) on one host ({vm.host}), which libvirt"
                    " does not allow. Remove one of them, or correct it.",
                    code="duplicate_vm",
                    vm=vm.name,
                    host=vm.host,
                    paths=[f"vms[{first}]", f"vms[{index}]"],
                )


def one_per_uuid(seen: Iterable[Vm]) -> Tuple[List[Vm], List[Vm]]:
    """Return the VMs, and the further domains with a UUID of theirs; both ordered by name and host.

    Raises ``FleetError`` (``split_brain``) where two domains of one UUID execute.
    """
    groups: Dict[str, List[Vm]] = {}
    for vm in sorted(seen, key=lambda vm: (vm.name, vm.host, vm.uuid or "")):
        groups.setdefault(vm.key, []).append(vm)
    vms: List[Vm] = []
    leftovers: List[Vm] = []
    for group in groups.values():
        vm, others = _choose(group)
        vms.append(vm)
        leftovers.extend(others)
    return vms, leftovers


def _choose(group: List[Vm]) -> Tuple[Vm, List[Vm]]:
    if len(group) == 1:
        return group[0], []
    executing = [vm for vm in group if vm.state in EXECUTING_STATES]
    if len(executing) > 1:
        hosts = [vm.host for vm in executing]
        raise FleetError(
            f"VM {executing[0].name} ({executing[0].uuid}) runs on {' and '.join(hosts)} at once and may destroy"
            " its disks. Find out which one is right and destroy the other before planning anything.",
            code="split_brain",
            vm=executing[0].name,
            uuid=executing[0].uuid,
            hosts=hosts,
        )
    ordered = [_with_twins(vm, group) for vm in sorted(group, key=_rank)]
    return ordered[0], ordered[1:]


def _with_twins(vm: Vm, group: List[Vm]) -> Vm:
    return replace(vm, twins=tuple(other.host for other in group if other is not vm and other.active))


def _rank(vm: Vm) -> Tuple[bool, bool, bool, str]:
    """Order domains of one UUID: the executing one first, then the end that sends, then any that is active."""
    return (vm.state not in EXECUTING_STATES, vm.job != "migration_out", not vm.active, vm.host)
