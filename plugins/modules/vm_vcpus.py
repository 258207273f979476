#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_vcpus
short_description: Plug vCPUs into running VMs and unplug them
description:
  - Gives VMs another number of vCPUs, while they run or for their next start.
  - What was done is read back from libvirt, from QEMU's threads and, with an agent, from the guest. The definition
    changes only when the running VM has changed.
  - All VMs are checked before the first one is changed. New vCPUs are pinned at once, as the policy of the VM or its
    definition says, and CPUs that a V(dedicated) VM gives back are free for others.
  - A VM that is off gets another definition.
options:
  name:
    description:
      - Name or UUID of a VM.
      - Either O(name) or O(vms) is needed.
    type: str
  count: &count
    description:
      - How many vCPUs the VM is to have.
    type: int
  sockets: &sockets
    description:
      - The same in sockets of the topology that the guest sees. Not together with O(count).
    type: int
  maximum: &maximum
    description:
      - How many vCPUs the VM may have from its next start on. A running VM keeps the maximum it was started with.
    type: int
  topology: &topology
    description:
      - What the guest sees from its next start on. The product must be the maximum.
      - Without C(sockets) and C(cores) there is one socket. The one of them that is not given makes the product.
    type: dict
    suboptions:
      sockets:
        description:
          - Number of sockets.
        type: int
      dies:
        description:
          - Dies of each socket, 1 if not given.
        type: int
      cores:
        description:
          - Cores of each die.
        type: int
      threads:
        description:
          - Threads of each core, 1 if not given.
        type: int
  unpluggable: &unpluggable
    description:
      - Whether the vCPUs that the VM starts with the next time can be unplugged later, all but the first core.
        libvirt makes them fixed otherwise, and only those can be unplugged that were plugged while it ran.
    type: bool
  method: &method
    description:
      - V(live) plugs and unplugs vCPUs of the running VM, and changes its definition afterwards.
      - V(agent) lets the guest use fewer CPUs or more by its agent. The VM keeps its vCPUs, and a guest that boots uses
        all of them again.
      - V(next_start) changes the definition only.
      - If not given, it is V(live).
    type: str
    choices: [live, agent, next_start]
  unplug_pinned: &pinned
    description:
      - What becomes of a vCPU that is to go and for which somebody has named CPUs. V(refuse) refuses the change,
        V(keep) lets the vCPU go and keeps its pin in the definition for when it comes back.
      - Pins that the policy of the VM has chosen go with their vCPUs.
      - If not given, it is V(refuse).
    type: str
    choices: [refuse, keep]
  can_plug: &plug
    description:
      - Whether the guest uses a vCPU that comes while it runs, if you know better than the matrix of operating systems.
    type: bool
  can_unplug: &unplug
    description:
      - Whether the guest gives a vCPU back, if you know better than the matrix of operating systems.
    type: bool
  vms:
    description:
      - Several VMs, each with its own options.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name or UUID of the VM.
        type: str
        required: true
      count: *count
      sockets: *sockets
      maximum: *maximum
      topology: *topology
      unpluggable: *unpluggable
      method: *method
      unplug_pinned: *pinned
      can_plug: *plug
      can_unplug: *unplug
  wait_timeout:
    description:
      - How many seconds the guest may take to use what it gets, or to give back what it is to lose.
    type: int
    default: 60
  count_threads_as_cores:
    description:
      - Whether a VM may have as many vCPUs as the host has threads. Otherwise it may have as many as there are cores.
    type: bool
    default: true
  reserved_cpus:
    description:
      - CPUs of the host that no VM gets for itself, as a set such as V(0-1).
    type: str
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.full
  - virtops.kvm_fleet.libvirt
notes:
  - Executables in C(/etc/kvm_fleet/hooks/before_set_vcpus.d) and C(/etc/kvm_fleet/hooks/after_set_vcpus.d) of the host
    run in the order of their names, with the name and UUID of the VM, the method, and the number of vCPUs before and
    afterwards as arguments. If one of the former fails, nothing is changed. If one of the latter fails, a warning says
    so. They and their directories must belong to root and be writable for nobody else.
seealso:
  - module: virtops.kvm_fleet.vm_pinning
  - module: virtops.kvm_fleet.vm_policy
  - module: virtops.kvm_fleet.vm_resources
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Prepare web1 for up to eight vCPUs from its next start on
  virtops.kvm_fleet.vm_vcpus:
    name: web1
    method: next_start
    maximum: 8
    count: 2
    unpluggable: true

- name: Give web1 four vCPUs now
  virtops.kvm_fleet.vm_vcpus:
    name: web1
    count: 4

- name: Let the guest of old1, which gives no vCPU back, use two
  virtops.kvm_fleet.vm_vcpus:
    name: old1
    count: 2
    method: agent
"""

RETURN = r"""
vms:
  description: The VMs, in the order given.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the VM.
      type: str
    uuid:
      description: UUID of the VM.
      type: str
    method:
      description: How it was changed. A VM that is off is changed for its next start.
      type: str
    changed:
      description: Whether anything is different.
      type: bool
    running:
      description: The vCPUs of the running VM, null if it is off.
      type: dict
      contains: &state
        count:
          description: How many there are.
          type: int
        maximum:
          description: How many there can be.
          type: int
        online:
          description: The numbers of those that are there, as a set.
          type: str
        unpluggable:
          description: The numbers of those that can be unplugged, as a set.
          type: str
        topology:
          description: The C(sockets), C(dies), C(cores) and C(threads) that the guest sees.
          type: dict
        pins:
          description: The host CPUs of vCPUs, with C(vcpu) and C(cpus).
          type: list
          elements: dict
    defined:
      description: The same of the definition, null for a VM that has none.
      type: dict
      contains: *state
    guest_online:
      description: How many CPUs the guest uses, as its agent tells; null if none does.
      type: int
    restart_required:
      description: Whether the VM runs with another number, maximum or topology than its definition has.
      type: bool
error:
  description:
    - Stable word for the failure.
    - Own ones are C(bad_options), C(bad_input), C(vm_unknown), C(vm_transient), C(vm_not_running), C(in_transit),
      C(settling), C(too_few), C(above_maximum), C(above_host), C(threads_split), C(not_hotpluggable),
      C(plug_unsupported), C(unplug_unsupported), C(unplug_forbidden), C(pinned_vcpus), C(plug_failed),
      C(unplug_failed), C(unplug_timeout), C(guest_not_using), C(no_agent), C(above_plugged), C(not_offlinable),
      C(agent_refused), C(hook_failed), C(hook_unsafe), C(pin_failed), C(not_applied), C(vcpus), C(topology), C(cells),
      C(pins_left), C(in_use), C(define_refused), C(changed_meanwhile) and C(interrupted), and those of
      M(virtops.kvm_fleet.vm_pinning).
  returned: failure
  type: str
  sample: above_maximum
vm:
  description: The VM at which it failed.
  returned: failure, if it was one VM
  type: str
current:
  description: How many vCPUs the VM has, or how many CPUs its guest uses.
  returned: failure, if the number is what is wrong
  type: int
rolled_back:
  description: Whether everything is as it was before the task.
  returned: failure while vCPUs are plugged or pinned
  type: bool
not_rolled_back:
  description: The VMs that could not be changed back, with C(vm) and C(msg).
  returned: failure while vCPUs are plugged or pinned
  type: list
  elements: dict
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import (
    LIBVIRT,
    TOPOLOGY,
    ArgumentSpec,
    each_vm,
    per_vm,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.vm_vcpus import Settings, set_vcpus
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run, runner
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import parse_cpuset
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._vcpus import AGENT, LIVE, NEXT_START, VcpuWish

OPTIONS: Dict[str, Any] = {
    "count": {"type": "int"},
    "sockets": {"type": "int"},
    "maximum": {"type": "int"},
    "topology": {"type": "dict", "options": TOPOLOGY},
    "unpluggable": {"type": "bool"},
    "method": {"type": "str", "choices": [LIVE, AGENT, NEXT_START]},
    "unplug_pinned": {"type": "str", "choices": ["refuse", "keep"]},
    "can_plug": {"type": "bool"},
    "can_unplug": {"type": "bool"},
}
SPEC = per_vm(OPTIONS).merge(
    ArgumentSpec(
        {
            "wait_timeout": {"type": "int", "default": 60},
            "count_threads_as_cores": {"type": "bool", "default": True},
            "reserved_cpus": {"type": "str"},
        }
    )
)


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    params = module.params
    wishes = [VcpuWish.from_dict(vm) for vm in each_vm(params, OPTIONS)]
    reserved = parse_cpuset(params["reserved_cpus"] or "")
    settings = Settings(runner(module), params["wait_timeout"], params["count_threads_as_cores"], reserved)
    with connection(params["uri"]) as conn:
        results = set_vcpus(conn, wishes, settings, module.check_mode)
    changed = [result for result in results if result.changed]
    return Outcome(
        {result.name: result.before for result in changed},
        {result.name: result.after for result in changed},
        {"vms": [result.as_dict() for result in results]},
        [warning for result in results for warning in result.warnings],
    )


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(SPEC), work)


if __name__ == "__main__":
    main()
