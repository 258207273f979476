#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cpu_baseline
short_description: Compute the CPU that all hosts of a pool share
description:
  - Computes the largest CPU that all given hosts can give to their guests, with libvirt's
    C(virConnectBaselineHypervisorCPU), and tells which host costs the others which features.
  - Run it on a member of the pool, best on the one with the newest libvirt, for libvirt intersects the result with what
    the host it runs on offers, and an older libvirt does not know the features of a newer one.
  - Any number of CPUs can be given. Equal ones count once, and libvirt's limit of 256 CPUs does not apply.
  - Verify the result on every member with M(virtops.kvm_fleet.cpu_compare).
options:
  cpus:
    description:
      - The CPUs to compute the baseline of, as RV(virtops.kvm_fleet.host_info#module:cpu_xml) returns them.
      - In results they are called V(CPU 1), V(CPU 2) and so on.
      - Exactly one of O(cpus) and O(hosts) is needed.
    type: list
    elements: str
  hosts:
    description:
      - The hosts to compute the baseline of, with their names for results and errors.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the host.
        type: str
        required: true
      cpu_xml:
        description:
          - Its CPU, as RV(virtops.kvm_fleet.host_info#module:cpu_xml) returns it.
        type: str
        required: true
      features:
        description:
          - All features of its CPU, if they are known. Otherwise the libvirt of this host names them.
        type: list
        elements: str
  migratable:
    description:
      - Leave out features that keep a guest from migrating, such as V(invtsc).
    type: bool
    default: true
  expand:
    description:
      - Let RV(cpu_xml) and RV(cpu) name all features, also those that the CPU model brings by itself.
    type: bool
    default: false
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.info_module
  - virtops.kvm_fleet.libvirt
seealso:
  - module: virtops.kvm_fleet.cpu_compare
  - module: virtops.kvm_fleet.vm_cpu
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Describe every hypervisor
  virtops.kvm_fleet.host_info:
  register: described

- name: Compute their common CPU on one of them
  virtops.kvm_fleet.cpu_baseline:
    cpus: "{{ ansible_play_hosts | map('extract', hostvars, ['described', 'cpu_xml']) }}"
  run_once: true
  register: baseline

- name: Verify it on each of them
  virtops.kvm_fleet.cpu_compare:
    cpu: "{{ baseline.cpu_xml }}"
  register: compared
  failed_when: compared is failed or compared.result == 'incompatible'

- name: See which host costs the pool which features
  virtops.kvm_fleet.cpu_baseline:
    hosts:
      - name: hv1
        cpu_xml: "{{ hostvars.hv1.described.cpu_xml }}"
      - name: hv2
        cpu_xml: "{{ hostvars.hv2.described.cpu_xml }}"
  run_once: true
"""

RETURN = r"""
cpu_xml:
  description: The common CPU as guest XML, ready for M(virtops.kvm_fleet.vm_cpu).
  returned: success
  type: str
cpu:
  description: The same as data.
  returned: success
  type: dict
  contains:
    model:
      description: The CPU model that libvirt chose.
      type: str
    vendor:
      description: The vendor, null unless all CPUs name one.
      type: str
    require:
      description: Features that a guest gets beyond those of the model.
      type: list
      elements: str
    disable:
      description: Features that a guest does not get.
      type: list
      elements: str
    address_bits:
      description: Width of physical addresses, null unless all CPUs name one.
      type: int
model:
  description: The CPU model that libvirt chose.
  returned: success
  type: str
vendor:
  description: The vendor of the CPU.
  returned: when all CPUs name one
  type: str
features:
  description: All features that a guest with this CPU sees.
  returned: success
  type: list
  elements: str
distinct:
  description: The number of different CPUs among those given.
  returned: success
  type: int
limits:
  description: The features that some hosts have and others lack, so that no guest has them.
  returned: success
  type: list
  elements: dict
  contains:
    feature:
      description: The feature.
      type: str
    hosts:
      description: The hosts that lack it.
      type: list
      elements: str
gain_without:
  description: For hosts that alone lack features, what the others would have in common without them.
  returned: success
  type: list
  elements: dict
  contains:
    host:
      description: The host.
      type: str
    features:
      description: The features that it alone lacks.
      type: list
      elements: str
masked:
  description: The hosts that have more than the common CPU.
  returned: success
  type: list
  elements: dict
  contains:
    host:
      description: The host.
      type: str
    features:
      description: The features of it that guests with the common CPU do not see.
      type: list
      elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.baseline import costs, hosts_of, shared_cpu
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

HOST = {
    "name": {"type": "str", "required": True},
    "cpu_xml": {"type": "str", "required": True},
    "features": {"type": "list", "elements": "str"},
}
SPEC = ArgumentSpec(
    {
        "cpus": {"type": "list", "elements": "str"},
        "hosts": {"type": "list", "elements": "dict", "options": HOST},
        "migratable": {"type": "bool", "default": True},
        "expand": {"type": "bool", "default": False},
    },
    mutually_exclusive=[("cpus", "hosts")],
    required_one_of=[("cpus", "hosts")],
)


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    params = module.params
    hosts = hosts_of(params["cpus"]) if params["hosts"] is None else params["hosts"]
    with connection(params["uri"]) as conn:
        shared = shared_cpu(conn, hosts, params["migratable"])
    cpu = shared.expanded() if params["expand"] else shared.cpu
    facts = {
        "cpu_xml": cpu.xml(),
        "cpu": cpu.as_data(),
        "model": cpu.model,
        "features": sorted(shared.features),
        "distinct": shared.distinct,
        **costs(shared),
    }
    if cpu.vendor:
        facts["vendor"] = cpu.vendor
    return Outcome(facts=facts)


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(SPEC), work)


if __name__ == "__main__":
    main()
