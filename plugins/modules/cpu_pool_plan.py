#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cpu_pool_plan
short_description: Plan which hypervisors form which CPU pools, and with which CPU
description:
  - Answers from a fleet snapshot which host joins, moves to or leaves which CPU pool, which CPU every pool gets and
    which record every host has to hold - or says who is refused, and why.
  - Talks to no hypervisor and changes nothing. Run it on the controller. Hosts compute baselines
    (M(virtops.kvm_fleet.cpu_baseline)), prove CPUs (M(virtops.kvm_fleet.cpu_compare)) and hold records
    (M(virtops.kvm_fleet.cpu_pool)).
  - Every call plans from scratch with what it is given, and RV(stage) says what it needs next. Call it again with all
    O(candidates) and O(proofs) of this run until RV(stage) is V(decided).
  - Hosts that are refused stay what they are, and the others go on. A refusal is an answer, not a failure; look at
    RV(feasible).
options:
  snapshot_path:
    description:
      - A JSON file with the snapshot, or a directory with the parts that M(virtops.kvm_fleet.host_info) has written,
        one C(*.json) file for each host.
    type: path
  snapshot:
    description:
      - The snapshot itself, for small ones.
    type: dict
  question:
    description:
      - V(converge) plans what O(wanted) asks for.
      - V(stat) shows what the records say, compares them with the hosts, and needs neither O(wanted) nor proofs.
    type: str
    choices: [converge, stat]
    default: converge
  wanted:
    description:
      - What the inventory wants of every host of this run.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The inventory's name of the host.
        type: str
        required: true
      kept:
        description:
          - V(true) leaves the host in the pool of its record, or in none, and lets the others say what the CPU of that
            pool is. All other keys but O(wanted[].name) are ignored then.
        type: bool
        default: false
      state:
        description: V(absent) takes the host out of its pool.
        type: str
        choices: [present, absent]
        default: present
      pool:
        description: The pool. Without one the host joins a default pool of its vendor.
        type: str
      definition:
        description:
          - What the CPU of the pool is; all hosts of a pool have to agree.
          - V(basic) is the mask of the vendor's first default pool, V(baseline) the largest CPU that all members
            have, computed again in every run. Other values name a tier.
          - Without it, a pool keeps its CPU, and a new one is V(basic).
        type: str
      address_bits:
        description:
          - The width of physical addresses that guests see, in bits, or V(none) to leave it to the hypervisor.
          - Without it, the pool keeps what it has; a new baseline has the smallest width of all members.
        type: str
      running_vms:
        description: As O(running_vms), for this host. Without it, that option decides.
        type: str
        choices: [refuse, report]
  unavailable:
    description:
      - Hosts of the inventory that cannot be reached or are not in this run. A pool that has one of them as a member
        is not changed.
    type: list
    elements: str
    default: []
  recalc:
    description:
      - Pools that get the largest CPU that all members have in this run. Their definition becomes V(baseline).
    type: list
    elements: str
    default: []
  running_vms:
    description:
      - Whether a host is refused (V(refuse)) that joins with running VMs whose CPU has more than the pool's, features
        or address bits, or whether these VMs are only reported (V(report)). VMs that were saved while they ran count
        too.
    type: str
    choices: [refuse, report]
    default: refuse
  candidates:
    description:
      - Baselines that hosts have computed in this run, for pools with C(compute_on).
    type: list
    elements: dict
    default: []
    suboptions:
      pool:
        description: The pool.
        type: str
        required: true
      compute_id:
        description:
          - C(compute_id) of the pool in the answer that asked for it. A candidate of another set of CPUs is not used.
          - Without it, the candidate is taken to be of the right set.
        type: str
      cpu:
        description: The CPU, as M(virtops.kvm_fleet.cpu_baseline) returns it in its parts.
        type: dict
        required: true
      features:
        description: All features that a guest with this CPU has, those of the model included.
        type: list
        elements: str
        required: true
  proofs:
    description:
      - Proofs of this run, as M(virtops.kvm_fleet.cpu_compare) returns them.
    type: list
    elements: dict
    default: []
  current:
    description:
      - The host that a table of pools stars. Without it, none is starred.
    type: str
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.info_module
seealso:
  - module: virtops.kvm_fleet.host_info
  - module: virtops.kvm_fleet.cpu_baseline
  - module: virtops.kvm_fleet.cpu_compare
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Ask what has to happen so that hv1 and hv2 form the pool gold
  virtops.kvm_fleet.cpu_pool_plan:
    snapshot_path: /tmp/snapshot
    wanted:
      - {name: hv1, pool: gold}
      - {name: hv2, pool: gold}
  delegate_to: localhost
  run_once: true
  register: planned

- name: Show the plan
  ansible.builtin.debug:
    msg: "{{ planned | virtops.kvm_fleet.pool_lines }}"

- name: Show the pools as they are
  virtops.kvm_fleet.cpu_pool_plan:
    snapshot_path: /tmp/snapshot
    question: stat
    current: hv1
  delegate_to: localhost
  run_once: true
  register: pools
"""

RETURN = r"""
version:
  description: The version of this shape.
  returned: success
  type: int
question:
  description: The question that was answered.
  returned: success
  type: str
stage:
  description:
    - What is needed next - V(baseline) (compute the CPUs of pools with C(compute_on)), V(proof) (prove C(prove) on
      every host that has it) or V(decided) (write).
  returned: success
  type: str
feasible:
  description: Whether nothing is refused.
  returned: success
  type: bool
current:
  description: The host that a table stars, or V(null).
  returned: success
  type: str
hosts:
  description:
    - Every host of O(wanted) (all hosts of the snapshot for V(stat)), by name.
    - V(action) is V(write) (hold V(record)), V(remove) (hold none), V(none) or V(refused) (nothing to do, because
      of a refusal). A host that is refused elsewhere but whose own pool changes has V(write).
    - V(pool) is where it is after the plan, V(wanted_pool) what the plan was asked for (with the default pool
      chosen for it), V(previous_pool) where it is before; each V(null) for none.
    - V(prove) is the CPU to prove on it, with its V(digest); V(null) where there is none.
    - V(record) is what the host has to hold, without V(proven), which M(virtops.kvm_fleet.cpu_pool) adds; V(null)
      where it is in no pool, where the pool is not changed because of a refusal, and before V(decided).
    - V(generation) is that of the pool after the plan.
    - V(host_mask) are the features that the host has beyond its pool and that its kernel may hide.
    - V(drift) is what has changed since the record was written, or V(null) - V(versions) (each V(name),
      V(before), V(after)), V(changed) (the same for V(virt_type), V(address_bits), V(xsave), V(tsc)), features
      V(lost) and V(gained), and V(pool_lost), the features of the pool that were lost.
  returned: success
  type: list
  elements: dict
pools:
  description:
    - Every pool, by name.
    - V(status) is V(unchanged), V(new), V(changed), V(removed) (no member is left), V(refused) (could not be
      changed as asked) or V(baseline) (its CPU has to be computed); for V(stat) V(settled), V(incomplete) (a run
      was cut off), V(unavailable) (members were not seen) or V(drift) (a member has lost features of the pool, or
      changed in what the pool relies on - V(virt_type), V(address_bits), V(xsave)).
    - V(compute_on) is the host that computes the baseline of V(compute_of) (different CPUs, each with V(name) of
      a host that has it, V(cpu_xml) and V(features)); V(compute_id) names this set.
    - V(members), V(joined) and V(left) are names of hosts, V(unavailable) those of V(members) that were not seen.
    - V(generation) and V(definition) are those after the plan.
    - V(cpu) is the CPU after the plan and V(previous_cpu) the one before, both with V(model), V(vendor),
      V(require), V(disable), V(address_bits), V(xml), V(digest) and V(features) (V(null) until it is proven).
      V(gained) and V(lost) are the features between them.
    - V(limits) says which V(feature) some members have and which V(hosts) lack it, V(gain_without) which
      V(features) all others have without one V(host), V(masked) which V(features) a V(host) has beyond the pool's
      CPU.
  returned: success
  type: list
  elements: dict
refusals:
  description:
    - What is not done, each with V(code), V(host) and V(pool) (each may be V(null)), V(msg) and its facts.
  returned: success
  type: list
  elements: dict
notes:
  description: What a person should know, as sentences.
  returned: success
  type: list
  elements: str
restart_required:
  description:
    - VMs that run with more than the CPU of their pool and cannot move everywhere in it until they are stopped
      and started - V(vm), V(uuid), V(host), V(pool), the V(features) beyond it, and V(address_bits), the VM's
      address width where that is larger than the pool's (else V(null)). V(saved) says that the VM does not run, but
      was saved while it ran and resumes with its old CPU.
    - For V(stat), also VMs that run with more than their host has today. V(lost) are those of V(features) that the
      pool has and the host has lost. V(pool) is V(null) for hosts in no pool.
  returned: success
  type: list
  elements: dict
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pool import plan
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._snapshot_files import read_snapshot

WANTED = {
    "name": {"type": "str", "required": True},
    "kept": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "pool": {"type": "str"},
    "definition": {"type": "str"},
    "address_bits": {"type": "str"},
    "running_vms": {"type": "str", "choices": ["refuse", "report"]},
}

CANDIDATE = {
    "pool": {"type": "str", "required": True},
    "compute_id": {"type": "str"},
    "cpu": {"type": "dict", "required": True},
    "features": {"type": "list", "elements": "str", "required": True},
}

SPEC = ArgumentSpec(
    {
        "snapshot_path": {"type": "path"},
        "snapshot": {"type": "dict"},
        "question": {"type": "str", "choices": ["converge", "stat"], "default": "converge"},
        "wanted": {"type": "list", "elements": "dict", "default": [], "options": WANTED},
        "unavailable": {"type": "list", "elements": "str", "default": []},
        "recalc": {"type": "list", "elements": "str", "default": []},
        "running_vms": {"type": "str", "choices": ["refuse", "report"], "default": "refuse"},
        "candidates": {"type": "list", "elements": "dict", "default": [], "options": CANDIDATE},
        "proofs": {"type": "list", "elements": "dict", "default": []},
        "current": {"type": "str"},
    },
    mutually_exclusive=[("snapshot", "snapshot_path")],
    required_one_of=[("snapshot", "snapshot_path")],
)

# Results repeat the options, and these would fill logs and variables.
LARGE = ("snapshot", "candidates", "proofs")


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    request = dict(module.params)
    for name in LARGE:
        module.params[name] = None
    return Outcome(facts=plan(request, read_snapshot(request, Path())))


def main() -> None:
    """Run the module."""
    run(SPEC, work)


if __name__ == "__main__":
    main()
