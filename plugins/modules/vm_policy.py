#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_policy
short_description: Store with a VM where it may run, next to whom, and where its home is
description:
  - Keeps migration mode, allowed hosts, home host, groups, priority and whether vCPUs may be unplugged in libvirt's
    domain metadata, in a namespace of this collection. The metadata travels with the VM when it migrates, so no
    database has to be kept.
  - M(virtops.kvm_fleet.host_info) puts it into the fleet snapshot, and plans obey modes, hosts, homes, groups and
    priorities.
  - Options that are not given stay as they are. Of several VMs either all get what is asked for or none; what was
    written before a failure is changed back.
options:
  name:
    description:
      - Name or UUID of the VM.
      - Either O(name) or O(vms) is needed.
    type: str
  migration: &migration
    description:
      - V(automatic) VMs may be moved at any time, V(manual) ones when somebody asks for it, as a drain does, V(pinned)
        ones never.
      - V(default) stores nothing; then a VM with the host's own CPU, pinned vCPUs or pinned memory is V(manual) and any
        other V(automatic).
    type: str
    choices: [automatic, manual, pinned, default]
  hosts: &hosts
    description:
      - The hosts on which the VM may run, by name in the inventory or UUID. An empty list allows all.
    type: list
    elements: str
  home: &home
    description:
      - V(here) makes this host the VM's home, to which a refill brings it back. V(none) forgets the home.
      - A drain sets the home of VMs that have none.
    type: str
    choices: [here, none]
  keep_apart: &keep_apart
    description:
      - Groups of VMs that never share a host, by names of your choice. A VM may be in several.
      - What is given replaces what is stored; an empty list takes the VM out of all. Order does not matter.
      - A name is not empty and has no commas, control characters or spaces at its ends.
    type: list
    elements: str
  keep_together: &keep_together
    description:
      - Groups of VMs that stay on one host, given like O(keep_apart). A group of one option has nothing to do with one
        of the other that has the same name.
    type: list
    elements: str
  priority: &priority
    description:
      - Where not all VMs find room, plans place those with a higher priority first. It may be negative.
      - V(0) is the priority of a VM that has none stored, and stores nothing.
    type: int
  hot_unplug: &hot_unplug
    description:
      - Whether vCPUs may be taken from the VM while it runs; V(refused) is for guests that do not bear that.
      - V(default) stores nothing; then it is V(allowed).
    type: str
    choices: [allowed, refused, default]
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
      migration: *migration
      hosts: *hosts
      home: *home
      keep_apart: *keep_apart
      keep_together: *keep_together
      priority: *priority
      hot_unplug: *hot_unplug
  host:
    description:
      - The name of this host in results and snapshots.
      - In a playbook it is the name in the inventory unless given.
    type: str
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.full
  - virtops.kvm_fleet.libvirt
seealso:
  - module: virtops.kvm_fleet.placement_plan
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

- name: Let the databases be moved by hand only, each on its own hosts
  virtops.kvm_fleet.vm_policy:
    vms:
      - {name: db1, migration: manual, hosts: [hv1, hv2]}
      - {name: db2, migration: manual, hosts: [hv3, hv4]}

- name: Never have both name servers on one host, and give them room before others
  virtops.kvm_fleet.vm_policy:
    vms:
      - {name: dns1, keep_apart: [dns], priority: 10}
      - {name: dns2, keep_apart: [dns], priority: 10}

- name: Have the shop near its cache, and never take vCPUs from it while it runs
  virtops.kvm_fleet.vm_policy:
    vms:
      - {name: shop1, keep_together: [shop], hot_unplug: refused}
      - {name: cache1, keep_together: [shop]}

- name: Take the VM out of all groups and forget its priority
  virtops.kvm_fleet.vm_policy:
    name: dns2
    keep_apart: []
    keep_together: []
    priority: 0
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
    changed:
      description: Whether its policy changed.
      type: bool
    policy:
      description: The policy that is stored with the VM.
      type: dict
    migration:
      description: The migration mode that is in force.
      type: str
name:
  description: Name of the VM.
  returned: when O(name) is given
  type: str
policy:
  description: The policy that is stored with the VM.
  returned: when O(name) is given
  type: dict
  sample:
    migration: pinned
    hosts: []
    home:
      name: hv1
      uuid: 4c4c4544-0042-4a10-8054-b2c04f564b32
      autostart: true
      pins: null
    keep_apart: [dns]
    keep_together: []
    priority: 10
    hot_unplug: null
migration:
  description: The migration mode that is in force.
  returned: when O(name) is given
  type: str
  sample: pinned
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
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.vm_policy import set_policies
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

OPTIONS: Dict[str, Any] = {
    "migration": {"type": "str", "choices": ["automatic", "manual", "pinned", "default"]},
    "hosts": {"type": "list", "elements": "str"},
    "home": {"type": "str", "choices": ["here", "none"]},
    "keep_apart": {"type": "list", "elements": "str"},
    "keep_together": {"type": "list", "elements": "str"},
    "priority": {"type": "int"},
    "hot_unplug": {"type": "str", "choices": ["allowed", "refused", "default"]},
}
SPEC = per_vm(OPTIONS).merge(ArgumentSpec({"host": {"type": "str"}}))


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    params = module.params
    with connection(params["uri"]) as conn:
        changes = set_policies(conn, each_vm(params, OPTIONS), params["host"], module.check_mode)
    facts: Dict[str, Any] = {"vms": [change.as_dict() for change in changes]}
    if params["name"] is not None:
        (only,) = changes
        facts.update(name=only.name, policy=only.after.as_dict(), migration=only.migration)
        return Outcome(only.before.as_dict(), only.after.as_dict(), facts)
    changed = [change for change in changes if change.changed]
    before = {change.name: change.before.as_dict() for change in changed}
    return Outcome(before, {change.name: change.after.as_dict() for change in changed}, facts)


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(SPEC), work)


if __name__ == "__main__":
    main()
