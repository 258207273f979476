#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_cpu
short_description: Write a CPU into the definition of a VM
description:
  - Replaces mode, model and features of the CPU in a VM's persistent definition. The VM's own topology, NUMA cells and
    cache settings stay, and so does everything else in the definition.
  - A running VM keeps the CPU it was started with. RV(restart_required) tells when it differs.
  - The definition is read back after it was written, for libvirt may change or drop what it is given.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  name:
    description:
      - Name or UUID of the VM.
    type: str
    required: true
  cpu:
    description:
      - The CPU as C(<cpu>) XML, for instance RV(virtops.kvm_fleet.cpu_baseline#module:cpu_xml).
      - Without C(check), V(partial) is written, for else libvirt would silently drop features that the host lacks
        where it emulates CPUs.
    type: str
    required: true
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.libvirt
seealso:
  - module: virtops.kvm_fleet.cpu_baseline
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Give db1 the CPU that all hosts share
  virtops.kvm_fleet.vm_cpu:
    name: db1
    cpu: "{{ baseline.cpu_xml }}"
"""

RETURN = r"""
name:
  description: Name of the VM.
  returned: success
  type: str
cpu_xml:
  description: The CPU in the definition, as libvirt keeps it.
  returned: success
  type: str
restart_required:
  description: Whether the VM runs with a CPU that lacks features of its definition, or has others.
  returned: success
  type: bool
difference:
  description: How the CPU of the running VM differs from its definition.
  returned: when O(name) runs and V(restart_required) is true
  type: dict
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.vm_cpu import set_cpu
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

SPEC = ArgumentSpec(
    {
        "name": {"type": "str", "required": True},
        "cpu": {"type": "str", "required": True},
    }
)


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    with connection(module.params["uri"]) as conn:
        found = set_cpu(conn, module.params["name"], module.params["cpu"], module.check_mode)
    facts: Dict[str, Any] = {
        "name": found.name,
        "cpu_xml": found.after,
        "restart_required": found.difference is not None,
    }
    if found.difference is not None:
        facts["difference"] = found.difference
    return Outcome(before=found.before, after=found.after, facts=facts)


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(SPEC), work)


if __name__ == "__main__":
    main()
