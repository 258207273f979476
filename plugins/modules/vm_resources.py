#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_resources
short_description: Define vCPUs, guest NUMA cells, huge pages and I/O threads of VMs
description:
  - Changes the persistent definitions of any number of VMs in one call. Options that are not given, and everything else
    in a definition, stay as they are.
  - A running VM keeps what it was started with, and so does one with a managed-save image, which resumes with it.
    RV(vms[].restart_required) tells when that differs.
  - Everything is checked before the first definition is written. Each is read again just before it is written and read
    back afterwards, for libvirt corrects some of what does not fit together without a word. A failure in the middle
    changes back what was written already.
options:
  name:
    description:
      - Name or UUID of a VM.
      - Either O(name) or O(vms) is needed.
    type: str
  vcpus: &vcpus
    description:
      - The vCPUs.
    type: dict
    suboptions:
      maximum:
        description:
          - How many the VM may have.
        type: int
      current:
        description:
          - How many it has when it starts; more can be plugged in while it runs.
        type: int
      topology:
        description:
          - What the guest sees. The product must be the maximum.
          - Without C(sockets) and C(cores) there is one socket. The one of them that is not given makes the product.
          - If not given, a VM whose vCPUs are a socket each stays like this, and one with another topology keeps it.
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
  cells: &cells
    description:
      - The NUMA cells that the guest sees; all of them have to have every vCPU and all memory once.
      - A list of mappings with C(vcpus), a set such as V(0-3), and C(memory_kib).
      - A number shares out whole cores and huge pages to that many cells. V(0) is a guest without cells.
    type: raw
  huge_pages_kib: &pages
    description:
      - Size of the huge pages that all memory of the VM consists of. V(0) is none.
    type: int
  iothreads: &iothreads
    description:
      - Number of I/O threads. New ones get the lowest free numbers, and those with the highest go first.
    type: int
  drop_pins: &drop
    description:
      - Remove pins of vCPUs, I/O threads and cells that go, those kept for its home too. Otherwise they are refused as
        C(pins_left), for libvirt would drop them without a word, or not start the VM.
      - Pin the VM anew afterwards, with M(virtops.kvm_fleet.vm_pinning).
      - If not given, it is V(false).
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
      vcpus: *vcpus
      cells: *cells
      huge_pages_kib: *pages
      iothreads: *iothreads
      drop_pins: *drop
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.full
  - virtops.kvm_fleet.libvirt
seealso:
  - module: virtops.kvm_fleet.vm_cpu
  - module: virtops.kvm_fleet.vm_pinning
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Give db1 two NUMA cells on huge pages from its next start on
  virtops.kvm_fleet.vm_resources:
    name: db1
    vcpus:
      maximum: 8
      current: 8
      topology: {sockets: 2, threads: 2}
    cells: 2
    huge_pages_kib: 2048
    iothreads: 1

- name: Shape two VMs at once
  virtops.kvm_fleet.vm_resources:
    vms:
      - name: web1
        vcpus: {maximum: 4, current: 2}
      - name: web2
        cells:
          - {vcpus: 0-1, memory_kib: 1048576}
          - {vcpus: 2-3, memory_kib: 3145728}
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
    changed:
      description: Whether its definition changed.
      type: bool
    vcpus:
      description: The vCPUs in the definition.
      type: dict
      contains:
        maximum:
          description: How many the VM may have.
          type: int
        current:
          description: How many it has when it starts.
          type: int
        topology:
          description: The C(sockets), C(dies), C(cores) and C(threads) that the guest sees.
          type: dict
    cells:
      description: The guest's NUMA cells, with C(id), C(vcpus) and C(memory_kib).
      type: list
      elements: dict
    huge_pages_kib:
      description: Size of the huge pages, 0 without them.
      type: int
    iothreads:
      description: Numbers of the I/O threads.
      type: list
      elements: int
    restart_required:
      description:
        - Whether the VM runs with something else than its definition says. A managed-save image counts as running.
      type: bool
    difference:
      description:
        - What differs, of C(maximum), C(current), C(topology), C(cells), C(huge_pages_kib) and C(iothreads), each with
          C(running) and C(defined); null if nothing does.
      type: dict
error:
  description:
    - Stable word for the failure.
    - Own ones are C(bad_options), C(bad_input), C(vm_unknown), C(vm_transient), C(vcpus), C(topology), C(cells),
      C(huge_pages), C(pins_left), C(in_use), C(define_refused), C(not_applied), C(changed_meanwhile) and
      C(interrupted).
  returned: failure
  type: str
  sample: pins_left
vm:
  description: The VM at which it failed.
  returned: failure, if it was one VM
  type: str
option:
  description: The option that makes no sense.
  returned: when the error is C(bad_options)
  type: str
cause:
  description: What does not fit together.
  returned: when the error is C(vcpus), C(topology), C(cells) or C(huge_pages)
  type: str
pins:
  description: The pins of what would go.
  returned: when the error is C(pins_left)
  type: list
  elements: str
  sample: [vCPU 7, I/O thread 2]
used:
  description: What needs something that would go.
  returned: when the error is C(in_use)
  type: list
  elements: str
  sample: [disk vda uses I/O thread 2]
libvirt_message:
  description: What libvirt says.
  returned: failure, if libvirt refused something
  type: str
rolled_back:
  description: Whether everything is as it was before the task.
  returned: failure while VMs are changed
  type: bool
not_rolled_back:
  description: The VMs that could not be changed back.
  returned: failure while VMs are changed
  type: list
  elements: dict
  contains:
    vm:
      description: Name of the VM.
      type: str
    msg:
      description: Why it could not be changed back.
      type: str
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, TOPOLOGY, each_vm, per_vm
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import ResourceWish
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.vm_resources import (
    Wish,
    diff_texts,
    set_resources,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

OPTIONS: Dict[str, Any] = {
    "vcpus": {
        "type": "dict",
        "options": {
            "maximum": {"type": "int"},
            "current": {"type": "int"},
            "topology": {"type": "dict", "options": TOPOLOGY},
        },
    },
    "cells": {"type": "raw"},
    "huge_pages_kib": {"type": "int"},
    "iothreads": {"type": "int"},
    "drop_pins": {"type": "bool"},
}


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    given = each_vm(module.params, OPTIONS)
    wishes = [Wish(vm["name"], ResourceWish.from_dict(vm), bool(vm["drop_pins"])) for vm in given]
    with connection(module.params["uri"]) as conn:
        changes = set_resources(conn, wishes, module.check_mode)
    before, after = diff_texts(changes)
    warnings = [warning for change in changes for warning in change.warnings]
    return Outcome(before, after, {"vms": [change.as_dict() for change in changes]}, warnings)


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(per_vm(OPTIONS)), work)


if __name__ == "__main__":
    main()
