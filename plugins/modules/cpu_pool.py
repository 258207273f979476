#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cpu_pool
short_description: Record on a hypervisor which CPU pool it is in
description:
  - A CPU pool is a group of hypervisors with one CPU for guests, so that every guest with it can migrate live between
    any two of them. The record says which pool the host is in, with which CPU, and with which other hosts.
  - Before it is written, the CPU is proven on this host. libvirt compares it with what the hypervisor can give, and a
    paused domain without disks (the probe) shows what QEMU really gives. Anything but exactly O(features) is refused.
  - The record is C(/etc/ansible/facts.d/kvm_fleet_pool.fact), which M(ansible.builtin.setup) shows as
    C(ansible_local.kvm_fleet_pool). It survives the controller.
  - What to write is decided by M(virtops.kvm_fleet.cpu_pool_plan), for all members of a pool together. Virtual machines
    are not touched.
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.full
  - virtops.kvm_fleet.libvirt
attributes:
  check_mode:
    details:
      - The CPU is proven in check mode too, so the probe runs for a moment. Nothing is written.
  diff_mode:
    details:
      - The difference is that of the record, in which C(cpu) is the CPU of the pool.
options:
  state:
    description:
      - V(present) proves the CPU and writes the record. A record that only differs in what the host was when it was
        proven, for instance in the kernel's version, is updated.
      - V(absent) removes the record, and so takes the host out of its pool. Running virtual machines stay as they are.
    type: str
    choices:
      - present
      - absent
    default: present
  pool:
    description:
      - Name of the pool; required with O(state=present).
      - It begins with a letter or digit and has letters, digits, dots, hyphens and underscores, at most 63.
    type: str
  vendor:
    description:
      - The vendor of the pool's hosts as libvirt calls it, such as V(Intel) or V(AMD); required with O(state=present).
    type: str
  definition:
    description:
      - Where the CPU of the pool comes from; required with O(state=present).
      - V(basic), V(baseline), or the name of a tier or of a default pool.
    type: str
  generation:
    description:
      - Number of the pool's state, the same on all members and greater with every change; required with
        O(state=present).
      - If the record has a greater one for the same pool, or the same with other content, another run was faster, and
        the task fails.
    type: int
  previous:
    description:
      - The record that the host had when the plan was made. If it now has neither that nor the wanted one, another run
        was faster, and the task fails.
      - An empty mapping says that there was no record. If it is not set, only the records of O(pool) count, and with
        O(state=absent) any record is removed.
    type: dict
    suboptions:
      pool:
        description: Name of the pool in that record.
        type: str
      generation:
        description: Its generation.
        type: int
  members:
    description:
      - The hosts of the pool, this one among them; required with O(state=present).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name of the host in the inventory.
        type: str
        required: true
      uuid:
        description: UUID by which libvirt identifies the host.
        type: str
        required: true
  cpu:
    description:
      - The CPU of the pool as M(virtops.kvm_fleet.cpu_pool_plan) returns it; required with O(state=present).
      - C(model), C(vendor), C(require), C(disable) and C(address_bits) count; other keys are ignored.
    type: dict
  features:
    description:
      - All features that a guest with this CPU must see on this host, as on every other member; required with
        O(state=present).
    type: list
    elements: str
  host:
    description:
      - The name of this host in the record.
      - If it is not set, it is the name in O(members).
    type: str
seealso:
  - module: virtops.kvm_fleet.cpu_pool_plan
  - module: virtops.kvm_fleet.cpu_compare
  - module: virtops.kvm_fleet.host_info
"""

EXAMPLES = r"""
- name: Record the pool of this host as planned
  virtops.kvm_fleet.cpu_pool:
    pool: "{{ planned.record.pool }}"
    vendor: "{{ planned.record.vendor }}"
    definition: "{{ planned.record.definition }}"
    generation: "{{ planned.record.generation }}"
    members: "{{ planned.record.members }}"
    cpu: "{{ planned.record.cpu }}"
    features: "{{ planned.record.cpu.features }}"
    host: "{{ inventory_hostname }}"
    previous:
      pool: "{{ described.host.cpu_pool.pool | default(omit) }}"
      generation: "{{ described.host.cpu_pool.generation | default(omit) }}"
  become: true
  when: planned.action == 'write'

- name: Take this host out of its pool, unless it has moved to another one
  virtops.kvm_fleet.cpu_pool:
    state: absent
    previous:
      pool: gold
      generation: 3
  become: true
"""

RETURN = r"""
record:
  description: The record of the host after the task, or V(null) if it is in no pool.
  returned: success
  type: dict
  contains:
    version:
      description: Version of the record.
      type: int
    pool:
      description: Name of the pool.
      type: str
    vendor:
      description: Vendor of the pool's hosts.
      type: str
    definition:
      description: Where the CPU of the pool comes from.
      type: str
    generation:
      description: Number of the pool's state.
      type: int
    members:
      description: The C(name) and C(uuid) of each host of the pool, sorted by UUID.
      type: list
      elements: dict
    cpu:
      description:
        - The CPU of the pool - C(model), C(vendor), C(require), C(disable), C(address_bits), the whole as C(xml), and
          the C(features) that a guest sees.
      type: dict
    host:
      description: The C(name) and C(uuid) of this host.
      type: dict
    proven:
      description: See RV(proven).
      type: dict
  sample:
    version: 1
    pool: gold
    vendor: AMD
    definition: basic
    generation: 3
    members:
      - name: hv1
        uuid: 4c4c4544-0042-4a10-8054-b2c04f564b32
    cpu:
      model: kvm64
      vendor: AMD
      require: [aes, sse4.2]
      disable: []
      address_bits: 40
      xml: <cpu mode='custom' match='exact' check='partial'>…</cpu>
      features: [aes, sse4.2]
    host:
      name: hv1
      uuid: 4c4c4544-0042-4a10-8054-b2c04f564b32
    proven:
      versions: {kernel: 6.12.57, libvirt: 11.3.0, qemu: 10.0.3}
      virt_type: kvm
      features: [aes, avx, sse4.2]
      address_bits: 48
      xsave: [[2, 256, 576]]
      tsc: {frequency_hz: 2400000000, scaling: true}
previous_record:
  description: The record of the host before the task, or V(null) if it was in no pool.
  returned: success
  type: dict
proven:
  description:
    - What the host was when the CPU was proven, that is now; V(null) with O(state=absent).
    - Later differences from it are drift.
  returned: success
  type: dict
  contains:
    versions:
      description: Versions of C(libvirt), C(qemu), C(kernel), and C(microcode) if libvirt tells it.
      type: dict
    virt_type:
      description: V(kvm), or V(qemu) where guests are emulated.
      type: str
    features:
      description: All features that the hypervisor could give to a guest.
      type: list
      elements: str
    address_bits:
      description: Width of physical addresses, or V(null).
      type: int
    xsave:
      description: Number, size and offset in bytes of each component of the XSAVE area, or V(null) if nobody tells.
      type: list
      elements: list
    tsc:
      description:
        - The C(frequency_hz) of the time stamp counter, and whether it has C(scaling), or V(null) if libvirt does not
          tell.
      type: dict
proof:
  description: The proof as M(virtops.kvm_fleet.cpu_compare) returns it; V(null) with O(state=absent).
  returned: success, and when the error is C(proof)
  type: dict
error:
  description:
    - Stable word for the failure.
    - Own ones are C(proof), C(newer_generation), C(record_version), C(bad_record), C(bad_cpu), C(bad_options),
      C(no_cpu), C(not_root), C(busy), C(host_file) and C(not_applied).
  returned: failure
  type: str
  sample: proof
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import files
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.paths import HostPaths
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import pool
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

SPEC = ArgumentSpec(
    {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "pool": {"type": "str"},
        "vendor": {"type": "str"},
        "definition": {"type": "str"},
        "generation": {"type": "int"},
        "members": {
            "type": "list",
            "elements": "dict",
            "options": {"name": {"type": "str", "required": True}, "uuid": {"type": "str", "required": True}},
        },
        "cpu": {"type": "dict"},
        "features": {"type": "list", "elements": "str"},
        "host": {"type": "str"},
        "previous": {
            "type": "dict",
            "options": {"pool": {"type": "str"}, "generation": {"type": "int"}},
            "required_together": [("pool", "generation")],
        },
    },
    required_if=[
        ("state", "present", ("pool", "vendor", "definition", "generation", "members", "cpu", "features")),
    ],
).merge(LIBVIRT)


def work(module: AnsibleModule) -> Outcome:
    """Read, prove, plan, apply and read back."""
    files.require_root()
    paths = HostPaths()
    wanted = pool.wanted_from(module.params) if module.params["state"] == "present" else None
    before = pool.observe(paths)
    record = proof = None
    pool.check_unchanged(before, wanted, module.params["previous"])
    if wanted is not None:
        with connection(module.params["uri"]) as conn:
            record, proof = pool.prove_record(conn, wanted)
    after = None if record is None else record.to_data()
    if before != after and not module.check_mode:
        after = pool.carry_out(paths, wanted, record, module.params["previous"])
    facts = {
        "record": after,
        "previous_record": before,
        "proven": None if after is None else after["proven"],
        "proof": None if proof is None else proof.as_dict(),
    }
    return Outcome(before, after, facts)


def main() -> None:
    """Run the module."""
    run(SPEC, work)


if __name__ == "__main__":
    main()
