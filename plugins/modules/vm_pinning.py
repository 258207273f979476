#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_pinning
short_description: Choose the CPUs and NUMA cells of VMs
description:
  - Chooses the host CPUs and NUMA cells of one VM or of several VMs of a host by a policy, writes them into the running
    VMs and into the definitions, and verifies them, down to where the kernel really lets each thread run.
  - Threads for which nobody chose CPUs share those that nobody has for itself. When the CPUs that VMs own change, these
    threads of all VMs of the host leave them, or get them back. What the module wrote for them is recorded with the VM,
    so that the user's own pins stay known. Without O(name) and O(vms) only this is done.
  - All or nothing. The pins of all VMs are chosen before the first one is changed, and if anything fails afterwards,
    all is put back as it was. RV(rolled_back) tells whether that succeeded.
  - The memory of a running VM stays where it is, but for memory that is bound with V(restrictive) before and after.
    RV(vms[].restart_or_migrate_required) tells when it is elsewhere than it should be.
  - A VM whose pins already are what its policy asks for keeps them, even if others were better by now. See O(repin).
options:
  name:
    description:
      - Name or UUID of the VM.
      - At most one of O(name) and O(vms) may be given.
    type: str
  policy:
    description:
      - How the CPUs of the VM are chosen.
      - V(none) lets all its threads share the CPUs that no VM has for itself.
      - V(manual) uses O(pins) as they are given. They must not touch what other VMs have for themselves.
      - V(numa) keeps the VM in the fewest NUMA cells that hold its vCPUs and memory, sharing the CPUs there.
      - V(dedicated) gives each vCPU a CPU that nobody else uses, in the fewest NUMA cells that can give all.
      - A policy that is given is complete. What is not said beside it has its default. Without one, the policy that is
        stored with the VM stays, changed in what is given. It must be given where the running VM and its definition
        have different ones and O(apply_to=both).
    type: str
    choices: [none, manual, numa, dedicated]
  thread_policy:
    description:
      - What the threads of a core mean to a V(dedicated) VM. V(prefer) uses sibling threads where there are such,
        V(require) nothing else, V(isolate) one thread of a core and nobody gets the others.
      - The default is V(prefer).
    type: str
    choices: [prefer, isolate, require]
  emulator_threads:
    description:
      - Where the emulator and the I/O threads of a V(dedicated) VM run. V(share) puts them onto shared CPUs near it,
        V(isolate) onto one more CPU that nobody else uses.
      - The default is V(share).
    type: str
    choices: [share, isolate]
  memory_mode:
    description:
      - How the memory of a V(numa) or V(dedicated) VM is bound to its NUMA cells, in libvirt's words.
      - The default is V(strict).
    type: str
    choices: [strict, preferred, interleave, restrictive]
  host_cells:
    description:
      - The NUMA cells of the host that a V(numa) or V(dedicated) VM may use, such as V(0) or V(0-1). By default all.
    type: str
  pins:
    description:
      - The pins of a V(manual) VM, as in C(vms[].pinning) of the fleet snapshot. Without it the VM keeps those it has.
      - The lists C(vcpus) of C({vcpu, cpus}) and C(iothreads) of C({iothread, cpus}), the sets C(emulator) and
        C(cpuset), C(memory) as C({mode, nodes}), and the list C(cells) of C({id, mode, node}) for the guest's cells.
      - With V(none) only C(cpuset), which is a limit within the shared CPUs.
    type: dict
  vms:
    description:
      - Several VMs, each with the options above.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name or UUID of the VM.
        type: str
        required: true
      policy:
        description:
          - See O(policy).
        type: str
        choices: [none, manual, numa, dedicated]
      thread_policy:
        description:
          - See O(thread_policy).
        type: str
        choices: [prefer, isolate, require]
      emulator_threads:
        description:
          - See O(emulator_threads).
        type: str
        choices: [share, isolate]
      memory_mode:
        description:
          - See O(memory_mode).
        type: str
        choices: [strict, preferred, interleave, restrictive]
      host_cells:
        description:
          - See O(host_cells).
        type: str
      pins:
        description:
          - See O(pins).
        type: dict
  apply_to:
    description:
      - What of the VMs in O(name) or O(vms) is changed, V(live) the running VM, V(definition) what it is started with
        the next time, V(both) whatever of these a VM has.
    type: str
    choices: [both, live, definition]
    default: both
  repin:
    description:
      - Choose the CPUs of the VMs in O(name) or O(vms) anew, even of those whose pins already are what is asked for.
    type: bool
    default: false
  float_others:
    description:
      - Let threads without pins of all other VMs follow, too. Without it they may run on CPUs that a VM has for itself.
    type: bool
    default: true
  keep_free:
    description:
      - CPUs that threads without pins leave, although no VM of this host owns them, such as those of a VM that is about
        to arrive.
    type: str
  arriving:
    description:
      - UUIDs of the VMs for which the CPUs in O(keep_free) are. A stopped definition that one of them has left on this
        host does not own CPUs any more, because its arrival replaces it.
    type: list
    elements: str
    default: []
  reserved_cpus:
    description:
      - CPUs that no VM is given for itself.
    type: str
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.full
  - virtops.kvm_fleet.libvirt
seealso:
  - module: virtops.kvm_fleet.host_isolation
  - module: virtops.kvm_fleet.vm_info
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Give each vCPU of db1 a CPU of its own, beside its memory
  virtops.kvm_fleet.vm_pinning:
    name: db1
    policy: dedicated
    host_cells: 0

- name: Choose the CPUs of several VMs together
  virtops.kvm_fleet.vm_pinning:
    vms:
      - name: db1
        policy: dedicated
        thread_policy: isolate
      - name: app1
        policy: numa
      - name: router
        policy: manual
        pins:
          vcpus: [{vcpu: 0, cpus: "2"}, {vcpu: 1, cpus: "3"}]
          emulator: 0-1

- name: Let VMs without pins follow after a VM has been removed
  virtops.kvm_fleet.vm_pinning:
"""

RETURN = r"""
vms:
  description: The VMs asked about, and those whose threads had to follow, by name.
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
    changed:
      description: Whether anything of it changed.
      type: bool
    policy:
      description: Its policy, V(manual) or V(none) by its pins where none is stored.
      type: str
    pins:
      description: The pins in its definition, as in C(vms[].pinning) of the fleet snapshot. Null for a transient VM.
      type: dict
    live_pins:
      description: The pins of the running VM, one for each thread. Null if it does not run.
      type: dict
    cells:
      description: The NUMA cells of the host to which a policy bound it.
      type: list
      elements: int
    cpus:
      description: The CPUs that it has for itself, as a set.
      type: str
    blocked:
      description: The CPUs beside these that stay empty for it, as a set.
      type: str
    floating:
      description: Whether nobody asked about this VM, and it is here because its threads without pins had to follow.
      type: bool
    restart_or_migrate_required:
      description: Whether the running VM lacks something that only a restart or a migration brings.
      type: bool
    pending:
      description: What of its memory must wait for a restart or a migration.
      type: list
      elements: dict
      contains:
        kind:
          description: V(memory) for all memory, V(memnode) for the NUMA cells of the guest.
          type: str
        live:
          description: What the running VM has.
          type: raw
        wanted:
          description: What it should have.
          type: raw
    verified:
      description:
        - Whether libvirt and, for a running VM, the kernel were found to say what they should. V(false) with a warning
          where that could not be found out. Null in check mode for a VM that would change.
      type: bool
claims:
  description: Who has which CPUs for itself afterwards, stopped VMs included.
  returned: success
  type: list
  elements: dict
  contains:
    vm:
      description: Name of the VM.
      type: str
    uuid:
      description: UUID of the VM.
      type: str
    running:
      description: Whether it runs.
      type: bool
    cpus:
      description: Its CPUs, as a set.
      type: str
    blocked:
      description: The CPUs that stay empty for it, as a set.
      type: str
host:
  description: How the CPUs of the host are divided afterwards.
  returned: success
  type: dict
  contains:
    shared_cpus:
      description: The CPUs of threads without pins, as a set.
      type: str
    exclusive_cpus:
      description: The CPUs of all claims, as a set.
      type: str
    isolated_cpus:
      description: The CPUs that the kernel isolates, as a set.
      type: str
error:
  description:
    - Stable word for the failure.
    - Own ones are C(bad_options), C(bad_input), C(bad_pins), C(bad_cpuset), C(vm_unknown), C(vm_not_running),
      C(vm_transient), C(policy_version), C(bad_policy), C(no_such_vcpu), C(no_such_iothread), C(no_such_guest_cell),
      C(no_such_cell), C(no_such_cpu), C(cpu_offline), C(cpu_not_allowed), C(cpu_owned), C(policy_isolation),
      C(not_enough_cores), C(no_shared_cpu), C(memory_short), C(huge_pages_short), C(conflict), C(in_transit), C(busy),
      C(pin_failed), C(define_refused), C(not_applied), C(changed_meanwhile) and C(interrupted).
  returned: failure
  type: str
  sample: not_enough_cores
vm:
  description: The VM at which it failed.
  returned: failure, if it was one VM
  type: str
option:
  description: The option that makes no sense.
  returned: when the error is C(bad_options)
  type: str
needed:
  description: How many CPUs, KiB or huge pages the VM needs.
  returned: failure, if there is too little of them for a VM with V(numa) or V(dedicated)
  type: int
missing:
  description: How many more are needed; where there are enough in all, it is how many more in one cell or in each.
  returned: failure, if there is too little of something
  type: int
missing_in:
  description: The NUMA cell in which that many more would do.
  returned: failure, if there is enough in all, but not in one cell
  type: int
shared:
  description: How many CPUs VMs share.
  returned: when the error is C(no_shared_cpu)
  type: int
available:
  description: How many CPUs there are for the VM.
  returned: when the error is C(not_enough_cores)
  type: int
free:
  description: The KiB or huge pages that are C(free) in each C(cell).
  returned: when the error is C(memory_short) or C(huge_pages_short), for a VM with V(numa) or V(dedicated)
  type: list
  elements: dict
  sample: [{cell: 0, free: 524288}, {cell: 1, free: 131072}]
size_kib:
  description: Size of the huge pages.
  returned: when the error is C(huge_pages_short)
  type: int
cells:
  description: The NUMA cells that it is about; for C(not_enough_cores) the CPUs C(available) in each C(cell).
  returned: failure, if it is about cells
  type: list
  elements: raw
  sample: [{cell: 0, available: 1}, {cell: 1, available: 2}]
known:
  description: The numbers of the cells or I/O threads that there are.
  returned: failure, if some were named that are not there
  type: list
  elements: int
cpus:
  description: The CPUs that the VM cannot have, as a set.
  returned: failure, if it is about CPUs that were named
  type: str
  sample: 2-3
owners:
  description: The VMs that have these CPUs for themselves.
  returned: when the error is C(cpu_owned)
  type: list
  elements: str
conflicts:
  description: The C(vms) that own CPUs together, or that own some in O(keep_free), with these C(cpus).
  returned: when the error is C(conflict)
  type: list
  elements: dict
  sample: [{vms: [db1, db2], cpus: 2-3}]
step:
  description: What was being done to the VM.
  returned: failure while VMs are changed
  type: str
libvirt_message:
  description: What libvirt says.
  returned: failure, if libvirt refused something
  type: str
wanted:
  description: What the VM was given.
  returned: when the error is C(not_applied) and a reading differs
  type: raw
found:
  description: What libvirt or the kernel says instead.
  returned: when the error is C(not_applied) and a reading differs
  type: raw
rolled_back:
  description: Whether everything is as it was before the task.
  returned: failure while VMs are changed
  type: bool
not_rolled_back:
  description: The VMs that are not as they were, with the reason.
  returned: failure while VMs are changed
  type: list
  elements: dict
  contains:
    vm:
      description: Name of the VM.
      type: str
    msg:
      description: What is different, or why it could not be put back.
      type: str
"""

from dataclasses import replace

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import (
    LIBVIRT,
    ArgumentSpec,
    each_vm,
    per_vm,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.vm_pinning import request_from, set_pinning
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

VM = {
    "policy": {"type": "str", "choices": ["none", "manual", "numa", "dedicated"]},
    "thread_policy": {"type": "str", "choices": ["prefer", "isolate", "require"]},
    "emulator_threads": {"type": "str", "choices": ["share", "isolate"]},
    "memory_mode": {"type": "str", "choices": ["strict", "preferred", "interleave", "restrictive"]},
    "host_cells": {"type": "str"},
    "pins": {"type": "dict"},
}
HOST = ArgumentSpec(
    {
        "apply_to": {"type": "str", "choices": ["both", "live", "definition"], "default": "both"},
        "repin": {"type": "bool", "default": False},
        "float_others": {"type": "bool", "default": True},
        "keep_free": {"type": "str"},
        "arriving": {"type": "list", "elements": "str", "default": []},
        "reserved_cpus": {"type": "str"},
    }
)
# Without a VM, only those follow that nobody asked about.
SPEC = replace(per_vm(VM), required_one_of=())


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    params = module.params
    given = [] if params["name"] is None and params["vms"] is None else each_vm(params, VM)
    request = request_from(given, params, [name for name in VM if params[name] is not None])
    with connection(params["uri"]) as conn:
        found = set_pinning(conn, request, module.check_mode)
    return Outcome(found.before, found.after, found.facts, found.warnings)


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(SPEC, HOST), work)


if __name__ == "__main__":
    main()
