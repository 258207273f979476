#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_cpu
short_description: Write a CPU into the definitions of VMs
description:
  - Replaces mode, model and features of the CPU in the persistent definition of one VM, of several, or of all VMs of a
    host. A VM's own topology, NUMA cells and cache settings stay, and so does everything else in the definition.
  - A running VM keeps the CPU it was started with, and so does one with a managed-save image, which resumes with it.
    RV(vms[].restart_required) tells when it differs. Features that QEMU gives every guest with the new CPU do not count
    as a difference; to find them out, a guest without disks is started, paused, for less than a second.
  - A CPU that this host cannot give is written with a warning, for it may be meant for another host. One with a model
    or features that libvirt does not know is refused. So is one with too few address bits for a VM, because QEMU does
    not start it (C(phys-bits too low)).
  - Everything is checked before the first definition is written. Each is read again just before it is written, so a VM
    that has left the host stays away and is reported in RV(vms[].skipped), and read back afterwards, for libvirt may
    change or drop what it is given. A failure in the middle names the VMs that were written already.
options:
  name:
    description:
      - Name or UUID of the VM.
      - Exactly one of O(name), O(names), O(all) and O(vms) is needed.
    type: str
  names:
    description:
      - Names or UUIDs of several VMs.
    type: list
    elements: str
  all:
    description:
      - All VMs of the host that have a definition and the host's own architecture and kind of virtualisation, but for
        those in O(keep), and those whose memory needs more address bits than the CPU has. For the others
        RV(vms[].skipped) says why they were left alone.
    type: bool
  keep:
    description:
      - Names or UUIDs of VMs that O(all) leaves alone. VMs that are not on this host do no harm.
      - Only with O(all).
    type: list
    elements: str
    default: []
  cpu: &cpu
    description:
      - The CPU as C(<cpu>) XML, for instance RV(virtops.kvm_fleet.cpu_baseline#module:cpu_xml).
      - Without C(check), V(partial) is written, for else libvirt would silently drop features that the host lacks
        where it emulates CPUs.
      - Exactly one of C(cpu), C(mode) and C(model) is needed, but C(mode) and C(model) go together.
    type: str
  mode: &mode
    description:
      - Where the CPU comes from. V(custom) names a O(model), V(host-model) is the host's as a list of features, which
        is made anew at every start, V(host-passthrough) and V(maximum) are whatever the host and QEMU can do.
      - With O(model) the default is V(custom).
    type: str
    choices: [custom, host-model, host-passthrough, maximum]
  model: &model
    description:
      - A CPU model that libvirt knows.
    type: str
  match: &match
    description:
      - How the CPU of a guest relates to the model and the features. V(exact) is exactly that, V(minimum) gives
        all that the host has beyond, V(strict) refuses hosts that have more.
      - With O(model) the default is V(exact).
    type: str
    choices: [exact, minimum, strict]
  check: &check
    description:
      - How libvirt checks the CPU when the VM starts. V(partial) asks whether the host can give it, V(full) also
        refuses what QEMU adds by itself, V(none) does not look, so that features may be dropped silently.
      - The default is V(partial) for V(custom), otherwise libvirt's own.
    type: str
    choices: [none, partial, full]
  vendor: &vendor
    description:
      - The vendor that the host's CPU must have, such as V(AMD).
    type: str
  fallback: &fallback
    description:
      - Whether libvirt may take another model where the hypervisor does not have this one.
      - With O(model) the default is V(forbid).
    type: str
    choices: [allow, forbid]
  features: &features
    description:
      - Features of the CPU beside those of the model.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name of the feature.
        type: str
        required: true
      policy:
        description:
          - V(require) and V(disable) are what CPUs of a pool consist of. V(force) and V(optional) may be dropped
            silently, and V(optional) becomes V(require) when the VM migrates. V(forbid) shuts out hosts that have the
            feature.
        type: str
        choices: [force, require, optional, disable, forbid]
        default: require
  address_bits: &address_bits
    description:
      - Width of the physical addresses that the VM sees.
    type: int
  migratable: &migratable
    description:
      - Leave out features that keep the VM from migrating, with the modes V(host-passthrough) and V(maximum).
    type: bool
  vms:
    description:
      - Several VMs, each with a CPU of its own.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - Name or UUID of the VM.
        type: str
        required: true
      cpu: *cpu
      mode: *mode
      model: *model
      match: *match
      check: *check
      vendor: *vendor
      fallback: *fallback
      features: *features
      address_bits: *address_bits
      migratable: *migratable
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.full
  - virtops.kvm_fleet.libvirt
seealso:
  - module: virtops.kvm_fleet.cpu_baseline
  - module: virtops.kvm_fleet.cpu_compare
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Give db1 the CPU that all hosts share
  virtops.kvm_fleet.vm_cpu:
    name: db1
    cpu: "{{ baseline.cpu_xml }}"

- name: Give all VMs but one the CPU that all hosts share
  virtops.kvm_fleet.vm_cpu:
    all: true
    keep: [dongle]
    cpu: "{{ baseline.cpu_xml }}"
  register: given

- name: Show which of them have it after their next start
  ansible.builtin.debug:
    var: given.vms | selectattr('restart_required') | map(attribute='name')

- name: Give two VMs a certain CPU
  virtops.kvm_fleet.vm_cpu:
    names: [web1, web2]
    model: Haswell-noTSX
    vendor: Intel
    features:
      - name: md-clear
      - name: x2apic
        policy: disable

- name: Give each VM its own
  virtops.kvm_fleet.vm_cpu:
    vms:
      - {name: db1, mode: host-passthrough, migratable: true}
      - {name: web1, cpu: "{{ baseline.cpu_xml }}"}
"""

RETURN = r"""
vms:
  description: The VMs, in the order of O(names) or O(vms), or by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the VM.
      type: str
    changed:
      description: Whether its definition got another CPU.
      type: bool
    cpu_xml:
      description: The CPU in the definition, as libvirt keeps it.
      type: str
    restart_required:
      description:
        - Whether the VM runs with another CPU than its definition says, in features, mode, or width of addresses. A VM
          with a managed-save image counts as running.
      type: bool
    difference:
      description: How the CPU of the running VM differs from its definition, null if it does not.
      type: dict
      contains:
        missing:
          description: Features that the VM gets when it is started anew.
          type: list
          elements: str
        extra:
          description: Features that the VM loses when it is started anew.
          type: list
          elements: str
        running_model:
          description: The CPU model it runs with, null if libvirt names none.
          type: str
        mode:
          description: The modes C(running) and C(defined), null if they are alike.
          type: dict
        address_bits:
          description:
            - The widths of physical addresses C(running) and C(defined), each null if left to QEMU; null if they are
              alike.
          type: dict
    skipped:
      description: Why the VM was left alone, null if it was not.
      type: str
name:
  description: Name of the VM.
  returned: when O(name) is given
  type: str
cpu_xml:
  description: The CPU in the definition, as libvirt keeps it.
  returned: when O(name) is given
  type: str
restart_required:
  description: Whether the VM runs with another CPU than its definition says.
  returned: when O(name) is given
  type: bool
difference:
  description: How the CPU of the running VM differs from its definition.
  returned: when O(name) is given, runs, and V(restart_required) is true
  type: dict
written:
  description: The VMs that have their new CPU.
  returned: failure while definitions are written
  type: list
  elements: str
"""

from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import CpuOptions, cpu_warnings
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.vm_cpu import (
    CpuChange,
    check_cpu,
    diff_texts,
    set_cpus,
    set_each_cpu,
    with_explicit_check,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

FEATURE = {
    "name": {"type": "str", "required": True},
    "policy": {"type": "str", "choices": ["force", "require", "optional", "disable", "forbid"], "default": "require"},
}
CPU = {
    "mode": {"type": "str", "choices": ["custom", "host-model", "host-passthrough", "maximum"]},
    "model": {"type": "str"},
    "match": {"type": "str", "choices": ["exact", "minimum", "strict"]},
    "check": {"type": "str", "choices": ["none", "partial", "full"]},
    "vendor": {"type": "str"},
    "fallback": {"type": "str", "choices": ["allow", "forbid"]},
    "features": {"type": "list", "elements": "dict", "options": FEATURE},
    "address_bits": {"type": "int"},
    "migratable": {"type": "bool"},
}
WANTED = {"cpu": {"type": "str"}, **CPU}
EXCLUSIVE = [("cpu", option) for option in CPU]
NEEDED = ("cpu", "mode", "model")
SPEC = ArgumentSpec(
    {
        "name": {"type": "str"},
        "names": {"type": "list", "elements": "str"},
        "all": {"type": "bool"},
        "keep": {"type": "list", "elements": "str", "default": []},
        **WANTED,
        "vms": {
            "type": "list",
            "elements": "dict",
            "options": {"name": {"type": "str", "required": True}, **WANTED},
            "mutually_exclusive": EXCLUSIVE,
            "required_one_of": [NEEDED],
        },
    },
    mutually_exclusive=[
        ("name", "names", "all", "vms"),
        *(("vms", option) for option in WANTED),
        *EXCLUSIVE,
    ],
    required_one_of=[("name", "names", "all", "vms"), ("vms", *NEEDED)],
)


def wanted_cpu(params: Mapping[str, Any]) -> Tuple[str, Sequence[str]]:
    """Return the CPU as XML, and what a person should know about it."""
    cpu_xml = params["cpu"]
    if cpu_xml is None:
        given = {option: params[option] for option in CPU}
        if given["migratable"] is not None:
            given["migratable"] = "on" if given["migratable"] else "off"
        cpu_xml = CpuOptions.from_data(given).xml()
    wanted = with_explicit_check(cpu_xml)
    return wanted, cpu_warnings(wanted)


def wanted_vms(params: Mapping[str, Any]) -> Optional[List[str]]:
    """Return the names of the VMs, None for all."""
    if params["all"]:
        return None
    if params["keep"]:
        raise FleetError("keep goes with all only. Leave those VMs out of the names instead.", "bad_options")
    names = [params["name"]] if params["name"] is not None else params["names"]
    if not names:
        raise FleetError("No VM is given. Give its name, several names, or set all to true.", "bad_input")
    return list(names)


def give_each(params: Mapping[str, Any], check_mode: bool) -> Tuple[List[CpuChange], List[str]]:
    """Give each VM a CPU of its own; return the changes and what a person should know."""
    if params["keep"]:
        raise FleetError("keep goes with all only. Leave those VMs out of the list instead.", "bad_options")
    wanted = [(vm["name"], wanted_cpu(vm)) for vm in params["vms"]]
    warnings = {warning: None for _name, (_cpu_xml, found) in wanted for warning in found}
    with connection(params["uri"]) as conn:
        for cpu_xml in dict.fromkeys(cpu_xml for _name, (cpu_xml, _found) in wanted):
            warnings.update(dict.fromkeys(check_cpu(conn, cpu_xml)))
        changes = set_each_cpu(conn, [(name, cpu_xml) for name, (cpu_xml, _found) in wanted], check_mode)
    return changes, list(warnings)


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    params = module.params
    if params["vms"] is None:
        (cpu_xml, warnings), names = wanted_cpu(params), wanted_vms(params)
        with connection(params["uri"]) as conn:
            warnings = [*warnings, *check_cpu(conn, cpu_xml)]
            changes = set_cpus(conn, cpu_xml, names, params["keep"], module.check_mode)
    else:
        changes, warnings = give_each(params, module.check_mode)
    facts: Dict[str, Any] = {"vms": [change.as_dict() for change in changes]}
    if params["name"] is not None:
        shown = ("name", "cpu_xml", "restart_required", "difference")
        facts.update((key, value) for key, value in facts["vms"][0].items() if key in shown and value is not None)
    before, after = diff_texts(changes)
    return Outcome(before, after, facts, warnings)


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(SPEC), work)


if __name__ == "__main__":
    main()
