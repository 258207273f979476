#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_machine_type
short_description: Give VMs a versioned machine type, and report the addresses of their devices
description:
  - Changes the machine type in the persistent definitions of any number of VMs in one call, or only reports it. All
    else in a definition stays as it is.
  - A running VM keeps what it was started with, and so does one with a managed-save image, which resumes with it.
    RV(vms[].restart_required) tells when that differs.
  - Everything is checked before the first definition is written. Each is read again just before it is written and read
    back afterwards. If a device has another address then, or is gone, or anything else fails, what was written already
    is changed back.
options:
  name:
    description:
      - Name or UUID of a VM.
      - Either O(name) or O(vms) is needed.
    type: str
  machine: &machine
    description:
      - The machine type, such as V(pc-q35-10.0). It must be one of the board that the VM has, for controllers and
        addresses do not carry over from V(pc) to V(q35).
      - Of an alias such as V(q35) the type is stored that it stands for on this host now.
      - V(newest) is the newest one of the family of the VM's own that is not deprecated, on this host and on all in
        O(available_on). That may be an older one than the VM has. Versions of distributions are families of their own.
      - If not given, the VM is only reported on.
    type: str
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
      machine: *machine
  available_on:
    description:
      - Hosts that the VMs may come to, with their machine types. A wanted type that one of them lacks is refused as
        C(machine_type_missing); in a report RV(vms[].missing_on) names the host.
      - They count for VMs of the hosts' own architecture only.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description:
          - Name of the host.
        type: str
        required: true
      machine_types:
        description:
          - What M(virtops.kvm_fleet.host_info) returns as C(host.machine_types).
        type: list
        elements: str
        required: true
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.full
  - virtops.kvm_fleet.libvirt
notes:
  - The types are those of the host's default emulator for the architecture of the VM.
seealso:
  - module: virtops.kvm_fleet.host_info
  - module: virtops.kvm_fleet.vm_cpu
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Report the machine type and the addresses of db1
  virtops.kvm_fleet.vm_machine_type:
    name: db1
  register: found

- name: Give db1 the type that q35 stands for here, from its next start on
  virtops.kvm_fleet.vm_machine_type:
    name: db1
    machine: q35

- name: Describe the hosts of the pool
  virtops.kvm_fleet.host_info:
  register: described

- name: Give two VMs the newest types that all hosts have
  vars:
    types: "{{ ansible_play_hosts | map('extract', hostvars, ['described', 'host', 'machine_types']) }}"
  virtops.kvm_fleet.vm_machine_type:
    vms:
      - {name: web1, machine: newest}
      - {name: web2, machine: newest}
    available_on: >-
      {{ dict(ansible_play_hosts | zip(types)) | dict2items(key_name='host', value_name='machine_types') }}
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
    machine_type:
      description: The machine type in the definition, as it is written there.
      type: str
      sample: pc-q35-10.0
    canonical:
      description: The versioned type that this stands for, null if this host has no such type.
      type: str
    is_alias:
      description: Whether the definition has an alias, which may stand for another type after an update of QEMU.
      type: bool
    deprecated:
      description: Whether QEMU of this host calls the type deprecated, null if it does not have it.
      type: bool
    running:
      description:
        - The type that the VM runs with, null if it is off. A managed-save image counts as running.
      type: str
    restart_required:
      description: Whether the VM runs with another type than its definition says.
      type: bool
    missing_on:
      description:
        - The hosts in O(available_on) that do not have the type, null for VMs of another architecture than the hosts'.
      type: list
      elements: str
    newer:
      description:
        - What O(machine=newest) would give the VM, null if that is not newer than what it has.
      type: str
      sample: pc-q35-10.1
    addresses:
      description: The devices whose addresses are not settled. In check mode it is what there is now.
      type: dict
      contains:
        missing:
          description: The devices in the definition without the address that libvirt gives them when it defines a VM.
          type: list
          elements: str
          sample: [disk vdb]
        differing:
          description:
            - The devices that have another address in the running VM than in its definition, as after a hot plug, or
              that only one of these has.
            - Each has C(device), the addresses C(running) and C(defined), and C(only), which is V(running) or
              V(defined) if only that has the device, else null.
          type: list
          elements: dict
          sample:
            - {device: disk vdb, running: "pci 0000:07:00.0", defined: "pci 0000:08:00.0", only: null}
error:
  description:
    - Stable word for the failure.
    - Own ones are C(bad_input), C(vm_unknown), C(vm_transient), C(machine_type_missing), C(machine_board),
      C(no_newest), C(vcpus), C(addresses_changed), C(define_refused), C(not_applied), C(changed_meanwhile) and
      C(interrupted).
  returned: failure
  type: str
  sample: machine_type_missing
vm:
  description: The VM at which it failed.
  returned: failure, if it was one VM
  type: str
machine:
  description: The machine type that it is about.
  returned: when the error is C(machine_type_missing) or C(no_newest)
  type: str
missing_on:
  description: The hosts that do not have it.
  returned: when the error is C(machine_type_missing)
  type: list
  elements: str
board:
  description: The board that the VM has.
  returned: when the error is C(machine_board)
  type: str
  sample: pc-i440fx
wanted_board:
  description: The board that the wanted type is of.
  returned: when the error is C(machine_board)
  type: str
  sample: pc-q35
maximum:
  description: How many vCPUs the machine type can have.
  returned: when the error is C(vcpus)
  type: int
devices:
  description: The devices that would have other addresses.
  returned: when the error is C(addresses_changed)
  type: list
  elements: str
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
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import (
    LIBVIRT,
    ArgumentSpec,
    each_vm,
    per_vm,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.vm_machine_type import (
    HostTypes,
    MachineWish,
    diff_texts,
    set_machine_types,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

OPTIONS: Dict[str, Any] = {"machine": {"type": "str"}}
HOSTS = ArgumentSpec(
    {
        "available_on": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "host": {"type": "str", "required": True},
                "machine_types": {"type": "list", "elements": "str", "required": True},
            },
        },
    }
)


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    params = module.params
    wishes = [MachineWish(vm["name"], vm["machine"]) for vm in each_vm(params, OPTIONS)]
    hosts = [HostTypes(each["host"], frozenset(each["machine_types"])) for each in params["available_on"]]
    with connection(params["uri"]) as conn:
        changes = set_machine_types(conn, wishes, hosts, module.check_mode)
    before, after = diff_texts(changes)
    warnings = [warning for change in changes for warning in change.warnings]
    return Outcome(before, after, {"vms": [change.as_dict() for change in changes]}, warnings)


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(per_vm(OPTIONS), HOSTS), work)


if __name__ == "__main__":
    main()
