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
    C(virConnectBaselineHypervisorCPU).
  - Run it on a member of the pool, best on the one with the newest libvirt, for libvirt intersects the result with what
    the host it runs on offers, and an older libvirt does not know the features of a newer one.
  - Verify the result on every member with M(virtops.kvm_fleet.cpu_compare).
options:
  cpus:
    description:
      - The CPUs to compute the baseline of, as RV(virtops.kvm_fleet.host_info#module:cpu_xml) returns them.
    type: list
    elements: str
    required: true
  migratable:
    description:
      - Leave out features that keep a guest from migrating, such as V(invtsc).
    type: bool
    default: true
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
"""

RETURN = r"""
cpu_xml:
  description: The common CPU as guest XML, ready for M(virtops.kvm_fleet.vm_cpu).
  returned: success
  type: str
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
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import parse_cpu, pool_cpu
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.cpu import baseline, expand
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

SPEC = ArgumentSpec(
    {
        "cpus": {"type": "list", "elements": "str", "required": True},
        "migratable": {"type": "bool", "default": True},
    }
)


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    params = module.params
    with connection(params["uri"]) as conn:
        cpu_xml = pool_cpu(baseline(conn, params["cpus"], params["migratable"]))
        features = expand(conn, cpu_xml)
    described = parse_cpu(cpu_xml)
    facts = {"cpu_xml": cpu_xml, "model": described.model, "features": sorted(features)}
    if described.vendor:
        facts["vendor"] = described.vendor
    return Outcome(facts=facts)


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(SPEC), work)


if __name__ == "__main__":
    main()
