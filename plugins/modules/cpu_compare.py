#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cpu_compare
short_description: Compare a CPU or a VM with what a host can give to its guests
description:
  - Asks libvirt on this host (C(virConnectCompareHypervisorCPU)) whether guests with this CPU can run here, or compares
    the CPU with that of the host's CPU pool.
  - An incompatible CPU is a result, not a failure.
  - With O(probe=true) it also starts a guest with the CPU, paused, transient, without disks and with 16 MiB of memory,
    reads what QEMU made of the CPU, and destroys it, all within about a second. This shows what libvirt does not know
    of, such as features that a CPU model of QEMU brings beyond those of libvirt's model with the same name. The guest
    is started in check mode, too, and on a host in maintenance.
options:
  cpu:
    description:
      - The CPU as C(<cpu>) XML.
      - It must name a model. The CPU modes V(host-model), V(host-passthrough) and V(maximum) are another CPU on every
        host, so they cannot be compared.
      - Exactly one of O(cpu) and O(vm) is needed.
    type: str
  vm:
    description:
      - Name or UUID of a VM of this host, whose CPU is compared.
      - If it runs, that is the CPU it runs with, otherwise the one of its definition.
    type: str
  against:
    description:
      - V(host) compares with what the hypervisor can give to a guest.
      - V(pool) compares with what guests of the host's CPU pool see, by the record that the host has of its pool.
    type: str
    choices: [host, pool]
    default: host
  probe:
    description:
      - Prove with a guest that the host gives exactly this CPU. The CPU may then have the feature policies V(require)
        and V(disable) only.
      - A model or required feature that this libvirt does not know is then V(incompatible) and not a failure.
    type: bool
    default: false
  host:
    description:
      - The name of this host in the proof. Without it, what libvirt calls the host.
    type: str
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.info_module
  - virtops.kvm_fleet.libvirt
seealso:
  - module: virtops.kvm_fleet.cpu_baseline
  - module: virtops.kvm_fleet.vm_cpu
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: See whether guests with the CPU of the pool can run here
  virtops.kvm_fleet.cpu_compare:
    cpu: "{{ baseline.cpu_xml }}"
  register: compared

- name: Stop where QEMU gives something else than what was asked for
  virtops.kvm_fleet.cpu_compare:
    cpu: "{{ baseline.cpu_xml }}"
    probe: true
    host: "{{ inventory_hostname }}"
  register: proven
  failed_when: proven is failed or proven.result == 'incompatible' or proven.proof.probe.error

- name: See whether a VM runs with more than its pool has
  virtops.kvm_fleet.cpu_compare:
    vm: db1
    against: pool
"""

RETURN = r"""
result:
  description:
    - V(identical) if the host or pool offers exactly this CPU, V(superset) if it offers more, V(incompatible) if less.
  returned: success
  type: str
  sample: superset
missing:
  description: The features that the host or pool lacks, as far as libvirt names them.
  returned: success
  type: list
  elements: str
extra:
  description: The features that the host or pool has beyond the CPU.
  returned: success
  type: list
  elements: str
reason:
  description: Libvirt's words about an incompatible CPU.
  returned: when incompatible
  type: str
unknown:
  description: The features of the CPU that this host's libvirt does not know; they are left out of the comparison.
  returned: success
  type: list
  elements: str
cpu_xml:
  description: The CPU that was compared.
  returned: success
  type: str
proof:
  description: What libvirt and QEMU of this host say to the CPU, for M(virtops.kvm_fleet.cpu_pool_plan).
  returned: O(probe=true)
  type: dict
  contains:
    host:
      description: Name of the host.
      type: str
    digest:
      description: Identifies the CPU.
      type: str
    result:
      description: As RV(result), always compared with the host.
      type: str
    missing:
      description: As RV(missing).
      type: list
      elements: str
    reason:
      description: As RV(reason), or null.
      type: str
    unknown:
      description: As RV(unknown). Where they were only to be disabled, the rest is about the CPU without them.
      type: list
      elements: str
    unknown_model:
      description: The model of the CPU, if this libvirt does not know it.
      type: str
    probe:
      description: The CPU that QEMU gave the guest, null if the CPU is incompatible.
      type: dict
      contains:
        model:
          description: The model.
          type: str
        vendor:
          description: The vendor in the definition of the guest.
          type: str
        address_bits:
          description: The width of physical addresses, if the CPU says so.
          type: int
        features:
          description: All features that the guest sees.
          type: list
          elements: str
        cpu_xml:
          description: The CPU in the guest's live XML.
          type: str
        error:
          description: The words of libvirt or QEMU when the guest did not start; then the rest is empty.
          type: str
"""

from typing import Any, Dict, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import PoolCpu
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import pool_record
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.compare import (
    Judgement,
    beyond,
    compare_with_pool,
    cpu_of_vm,
    judge,
    pool_of,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.cpu import Comparison
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.probe import prove
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.snapshot import host_name
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

SPEC = ArgumentSpec(
    {
        "cpu": {"type": "str"},
        "vm": {"type": "str"},
        "against": {"type": "str", "choices": ["host", "pool"], "default": "host"},
        "probe": {"type": "bool", "default": False},
        "host": {"type": "str"},
    },
    mutually_exclusive=[("cpu", "vm")],
    required_one_of=[("cpu", "vm")],
)


def related(conn: Any, cpu_xml: str, judged: Judgement, against: str) -> Tuple[Comparison, Tuple[str, ...]]:
    """Return the comparison and what the other side has beyond the CPU."""
    if against == "pool":
        return compare_with_pool(conn, cpu_xml, pool_of(pool_record.read()))
    return judged.comparison, () if judged.nonsense else beyond(conn, cpu_xml)


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    params = module.params
    with connection(params["uri"]) as conn:
        cpu_xml = params["cpu"] if params["vm"] is None else cpu_of_vm(conn, params["vm"])
        proof = prove(conn, PoolCpu.from_xml(cpu_xml), host_name(conn, params["host"])) if params["probe"] else None
        judged = judge(conn, cpu_xml)
        if judged.nonsense and proof is None:
            raise FleetError(
                f"This host's libvirt does not understand the CPU: {judged.comparison.reason}. "
                "Take the name out of the CPU, or compare on a host with a newer libvirt.",
                "bad_cpu",
                unknown=list(judged.unknown.features),
            )
        comparison, extra = related(conn, cpu_xml, judged, params["against"])
    facts: Dict[str, Any] = {
        "result": comparison.result,
        "missing": list(comparison.missing),
        "extra": list(extra),
        "unknown": list(judged.unknown.features),
        "cpu_xml": cpu_xml,
    }
    if comparison.reason:
        facts["reason"] = comparison.reason
    if proof is not None:
        facts["proof"] = proof.as_dict()
    return Outcome(facts=facts)


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(SPEC), work)


if __name__ == "__main__":
    main()
