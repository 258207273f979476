#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: migration_reach_info
short_description: Tell which hosts VMs of this one could be sent to
description:
  - Connects from this host to libvirt of each destination, sees that it is the host it should be, and tries the first
    of the ports at which it would get the memory of VMs.
  - A destination that cannot be reached is a result, not a failure.
  - A firewall that answers like a closed port cannot be told from one that is open.
options:
  destinations:
    description: The hosts to reach.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the host in results and messages.
        type: str
        required: true
      uri:
        description: Its libvirt URI as seen from this host.
        type: str
        required: true
      uuid:
        description: The libvirt host UUID that it must have; not looked at if it is not given.
        type: str
      address:
        description: The address to which the memory of VMs is sent; that of O(destinations[].uri) if it is not given.
        type: str
  host:
    description: The name of this host in the result. Without it, what libvirt calls the host.
    type: str
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.info_module
  - virtops.kvm_fleet.libvirt
seealso:
  - module: virtops.kvm_fleet.vm_migrate
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: See whether hv2 can be sent VMs
  virtops.kvm_fleet.migration_reach_info:
    destinations:
      - name: hv2
        uri: qemu+ssh://root@hv2/system
        address: 10.0.0.2
"""

RETURN = r"""
reach:
  description: One result for each destination, in the order of O(destinations).
  returned: success
  type: list
  elements: dict
  contains:
    source:
      description: Name of this host.
      type: str
    destination:
      description: Name of the destination.
      type: str
    reached:
      description: Whether its libvirt answers and its migration port can be reached.
      type: bool
    error:
      description:
        - Code of what stands in the way, null if nothing does.
        - The codes are those with which M(virtops.kvm_fleet.vm_migrate) refuses to begin, such as V(unreachable).
      type: str
      sample: port_blocked
    reason:
      description: The same in words, null if nothing stands in the way.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration import reach
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.snapshot import host_name
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

DESTINATION_OPTIONS = {
    "name": {"type": "str", "required": True},
    "uri": {"type": "str", "required": True},
    "uuid": {"type": "str"},
    "address": {"type": "str"},
}

SPEC = ArgumentSpec(
    {
        "destinations": {"type": "list", "elements": "dict", "required": True, "options": DESTINATION_OPTIONS},
        "host": {"type": "str"},
    }
)


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    params = module.params
    with connection(params["uri"]) as conn:
        source = host_name(conn, params["host"])
    found = reach(params["destinations"], params["uri"])
    return Outcome(facts={"reach": [{"source": source, **entry} for entry in found]})


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(SPEC), work)


if __name__ == "__main__":
    main()
