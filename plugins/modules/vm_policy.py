#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_policy
short_description: Store with a VM where it may run and where its home is
description:
  - Keeps migration mode, allowed hosts and home host in libvirt's domain metadata, in a namespace of this collection.
    The metadata travels with the VM when it migrates, so no database has to be kept.
  - Options that are not given stay as they are.
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
  migration:
    description:
      - V(automatic) VMs may be moved at any time, V(manual) ones when somebody asks for it, as a drain does, V(pinned)
        ones never.
      - V(default) stores nothing; then a VM with the host's own CPU, pinned vCPUs or pinned memory is V(manual) and any
        other V(automatic).
    type: str
    choices: [automatic, manual, pinned, default]
  hosts:
    description:
      - The hosts on which the VM may run, by name in the inventory or UUID. An empty list allows all.
    type: list
    elements: str
  home:
    description:
      - V(here) makes this host the VM's home, to which a refill brings it back. V(none) forgets the home.
      - A drain sets the home of VMs that have none.
    type: str
    choices: [here, none]
  host:
    description:
      - The name of this host in results and snapshots.
      - In a playbook it is the name in the inventory unless given.
    type: str
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.libvirt
seealso:
  - module: virtops.kvm_fleet.vm_migrate
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Keep the license server on two hosts
  virtops.kvm_fleet.vm_policy:
    name: license1
    hosts: [hv1, hv2]
    home: here

- name: Never move the VM that holds the dongle
  virtops.kvm_fleet.vm_policy:
    name: dongle
    migration: pinned
"""

RETURN = r"""
name:
  description: Name of the VM.
  returned: success
  type: str
policy:
  description: The policy that is stored with the VM.
  returned: success
  type: dict
  sample:
    migration: pinned
    hosts: []
    home:
      name: hv1
      uuid: 4c4c4544-0042-4a10-8054-b2c04f564b32
migration:
  description: The migration mode that is in force.
  returned: success
  type: str
  sample: pinned
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.vm_policy import set_policy
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

SPEC = ArgumentSpec(
    {
        "name": {"type": "str", "required": True},
        "migration": {"type": "str", "choices": ["automatic", "manual", "pinned", "default"]},
        "hosts": {"type": "list", "elements": "str"},
        "home": {"type": "str", "choices": ["here", "none"]},
        "host": {"type": "str"},
    }
)


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    with connection(module.params["uri"]) as conn:
        found = set_policy(conn, module.params, module.check_mode)
    facts = {"name": found.name, "policy": found.after.as_dict(), "migration": found.migration}
    return Outcome(before=found.before.as_dict(), after=found.after.as_dict(), facts=facts)


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(SPEC), work)


if __name__ == "__main__":
    main()
