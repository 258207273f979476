#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_info
short_description: Describe a hypervisor and its VMs as a part of the fleet snapshot
description:
  - Reads the CPU that guests can have, the NUMA topology, memory, machine types, networks and versions of a hypervisor,
    and all its VMs, and returns them in the shape that M(virtops.kvm_fleet.placement_plan) takes.
  - VMs are listed in bulk, so a host with many VMs takes few calls.
  - The record of the host's CPU pool, and which preset CPUs of M(virtops.kvm_fleet.cpu_pool_plan) the hypervisor can
    give to guests, are part of it. A record that cannot be used is reported in RV(host) and does not fail the task.
  - With O(snapshot_dir) the part is written to a file on the controller instead of being returned. That keeps snapshots
    of large fleets out of variables.
options:
  host:
    description:
      - The name of this host in results and snapshots.
      - In a playbook it is the name in the inventory unless given.
    type: str
  settings:
    description:
      - What the inventory knows about this host and the host cannot tell by itself, with the names of the
        snapshot's fields.
      - V(pool) is the name of the host's CPU pool, which only counts on a host without a record of its pool
        (M(virtops.kvm_fleet.cpu_pool)), V(reserved) what is kept from VMs (V(memory_kib), V(cpus)),
        V(cpu_overcommit) how many vCPUs a CPU may carry, V(count_threads_as_cores) whether threads count as CPUs,
        V(link_mib_s) the speed of the migration network, V(storage) the shared directories present on this host, and
        V(migration) how other hypervisors reach this one (V(uri), V(address)).
      - In a playbook V(migration.uri) is C(qemu+ssh://root@ADDRESS/system) with the inventory's address unless given.
    type: dict
    default: {}
  copy_storage:
    description:
      - Do not count disks that are not on shared storage among the blockers of VMs, for migrations that copy them
        (O(virtops.kvm_fleet.vm_migrate#module:copy_storage)).
    type: bool
    default: false
  snapshot_dir:
    description:
      - A directory on the controller. The snapshot part is written there to a private file C(HOST.json) and is not
        returned.
    type: path
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.info_module
  - virtops.kvm_fleet.libvirt
seealso:
  - module: virtops.kvm_fleet.vm_info
  - module: virtops.kvm_fleet.placement_plan
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Describe this hypervisor
  virtops.kvm_fleet.host_info:
  register: described

- name: Keep 4 GiB of this host from VMs and write its part of the snapshot to the controller
  virtops.kvm_fleet.host_info:
    settings:
      pool: gold
      reserved:
        memory_kib: 4194304
      link_mib_s: 1200
    snapshot_dir: /tmp/snapshot
"""

RETURN = r"""
host:
  description: This host's entry of the snapshot.
  returned: success
  type: dict
  sample:
    name: hv1
    uuid: 4c4c4544-0042-4a10-8054-b2c04f564b32
    maintenance: false
    cpu: c0a1b2c3d4e5f
    pool: gold
    cpu_presets: [default_intel0, default_intel1, default_intel2]
    memory_kib: 134217728
cpu_xml:
  description: The CPU that this hypervisor can give to guests, as C(<cpu>) XML for M(virtops.kvm_fleet.cpu_baseline).
  returned: when the hypervisor offers one
  type: str
cpu_models:
  description:
    - The named CPU models of the hypervisor, in its order, for guests that name one.
    - They are the same on every run until libvirt, QEMU, the kernel or the microcode changes.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: libvirt's name of the model.
      type: str
    usable:
      description: Whether guests on this host can have it as it is.
      type: bool
    vendor:
      description: The vendor of the model; V(null) if it has none, or libvirt does not tell.
      type: str
    deprecated:
      description: Whether QEMU is going to drop it.
      type: bool
    blockers:
      description: The features it has and this host lacks; libvirt tells them since 10.9.
      type: list
      elements: str
  sample:
    - name: Haswell-noTSX
      usable: false
      vendor: Intel
      deprecated: false
      blockers: [bmi2, avx2]
snapshot:
  description:
    - The snapshot part with its V(version), V(cpus), V(hosts) and V(vms).
    - Each of V(cpus) has C(features), and C(address_bits) where the host's width of physical addresses is known or the
      VM's CPU states one. A VM with a managed-save image has C(saved) and the CPU with which it resumes.
  returned: when O(snapshot_dir) is not given
  type: dict
snapshot_file:
  description: The file on the controller that holds the snapshot part.
  returned: when O(snapshot_dir) is given
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.host import read_host
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.host_cpu import models_data, read_host_cpu
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.snapshot import CpuTable, host_name, part
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.vms import read_vms
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

SPEC = ArgumentSpec(
    {
        "host": {"type": "str"},
        "settings": {"type": "dict", "default": {}},
        "copy_storage": {"type": "bool", "default": False},
        "snapshot_dir": {"type": "path"},
    }
)


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    params = module.params
    with connection(params["uri"]) as conn:
        name = host_name(conn, params["host"])
        cpus = CpuTable(conn)
        found = read_host_cpu(conn)
        host = read_host(conn, name, params["settings"], cpus, found)
        vms = read_vms(conn, name, host.get("cpu"), cpus, params["copy_storage"])
    facts = {"host": host, "snapshot": part(cpus, [host], vms), "cpu_models": models_data(found.offer)}
    if "cpu" in host:
        facts["cpu_xml"] = cpus.entries[host["cpu"]]["xml"]
    return Outcome(facts=facts)


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(SPEC), work)


if __name__ == "__main__":
    main()
