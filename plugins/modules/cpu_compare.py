#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cpu_compare
short_description: Compare a CPU with what a hypervisor can give to its guests
description:
  - Asks libvirt on this host (C(virConnectCompareHypervisorCPU)) whether guests with this CPU can run here.
  - An incompatible CPU is a result, not a failure.
options:
  cpu:
    description:
      - The CPU as C(<cpu>) XML.
    type: str
    required: true
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.info_module
  - virtops.kvm_fleet.libvirt
seealso:
  - module: virtops.kvm_fleet.cpu_baseline
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: See whether guests with the CPU of the pool can run here
  virtops.kvm_fleet.cpu_compare:
    cpu: "{{ baseline.cpu_xml }}"
  register: compared
"""

RETURN = r"""
result:
  description:
    - V(identical) if the host offers exactly this CPU, V(superset) if it offers more, V(incompatible) if less.
  returned: success
  type: str
  sample: superset
missing:
  description: The features that the host lacks, as far as libvirt names them.
  returned: success
  type: list
  elements: str
reason:
  description: Libvirt's words about an incompatible CPU.
  returned: when incompatible
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.cpu import compare
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

SPEC = ArgumentSpec({"cpu": {"type": "str", "required": True}})


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    with connection(module.params["uri"]) as conn:
        found = compare(conn, module.params["cpu"])
    facts = {"result": found.result, "missing": list(found.missing)}
    if found.reason:
        facts["reason"] = found.reason
    return Outcome(facts=facts)


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(SPEC), work)


if __name__ == "__main__":
    main()
