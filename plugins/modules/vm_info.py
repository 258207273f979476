#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_info
short_description: Describe the VMs of a hypervisor
description:
  - Returns the VMs of this host as the fleet snapshot describes them, with state, memory, vCPUs, CPU, pins, policy and
    what would block a live migration, in libvirt's words.
options:
  host:
    description:
      - The name of this host in results and snapshots.
      - In a playbook it is the name in the inventory unless given.
    type: str
  name:
    description:
      - Names or UUIDs of the VMs to describe; all VMs if not given.
      - A name that this host does not know is an error.
    type: list
    elements: str
  state:
    description:
      - Only VMs in one of these states, with libvirt's names.
    type: list
    elements: str
    choices: [nostate, running, blocked, paused, shutdown, shutoff, crashed, pmsuspended]
  vcpu_details:
    description:
      - Tell of each VM also which vCPUs can be unplugged, what its definition has, and how many CPUs its guest uses.
        That asks its agent, which may take seconds for one that does not answer.
      - They are C(vcpu_details), with what M(virtops.kvm_fleet.vm_vcpus) returns as C(running), C(defined) and
        C(guest_online).
    type: bool
    default: false
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.info_module
  - virtops.kvm_fleet.libvirt
seealso:
  - module: virtops.kvm_fleet.host_info
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: List the running VMs
  virtops.kvm_fleet.vm_info:
    state: [running]
  register: running

- name: Show what keeps db1 from migrating
  virtops.kvm_fleet.vm_info:
    name: [db1]
  register: db1
"""

RETURN = r"""
vms:
  description: The VMs, sorted by name.
  returned: success
  type: list
  elements: dict
  sample:
    - name: db1
      uuid: 3f1c0c3e-6f5b-4f0e-9d3e-0f7b8a3f2f10
      host: hv1
      state: running
      memory_kib: 8388608
      cpu: c0a1b2c3d4e5f
      blockers: []
cpus:
  description: The CPUs that the VMs refer to, by identifier.
  returned: success
  type: dict
"""

from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._vcpus.look import look_at
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._vcpus.standing import stands
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.domains import STATES, get
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.host import own_cpu
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.snapshot import CpuTable, host_name
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.vms import read_vms
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

SPEC = ArgumentSpec(
    {
        "host": {"type": "str"},
        "name": {"type": "list", "elements": "str"},
        "state": {"type": "list", "elements": "str", "choices": list(STATES)},
        "vcpu_details": {"type": "bool", "default": False},
    }
)


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    params = module.params
    with connection(params["uri"]) as conn:
        name = host_name(conn, params["host"])
        cpus = CpuTable(conn)
        vms = read_vms(conn, name, own_cpu(conn, cpus), cpus)
        vms = wanted(vms, params["name"], params["state"], name)
        if params["vcpu_details"]:
            vms = [{**vm, "vcpu_details": stands(look_at(get(conn, vm["uuid"])))} for vm in vms]
    used = {vm["cpu"] for vm in vms if "cpu" in vm}
    return Outcome(facts={"vms": vms, "cpus": {key: cpus.entries[key] for key in sorted(used)}})


def wanted(vms: List[Dict[str, Any]], names: Any, states: Any, host: str) -> List[Dict[str, Any]]:
    """Return the VMs with these names or UUIDs and in these states; ``None`` means all."""
    known = {key for vm in vms for key in (vm["name"], vm["uuid"])}
    unknown = sorted(set(names or []) - known)
    if unknown:
        raise FleetError(
            f"{', '.join(unknown)}: no such VM on {host}; check the name, or look on the other hosts.",
            "vm_unknown",
            vms=unknown,
        )
    return [
        vm
        for vm in vms
        if (names is None or vm["name"] in names or vm["uuid"] in names) and (states is None or vm["state"] in states)
    ]


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(SPEC), work)


if __name__ == "__main__":
    main()
