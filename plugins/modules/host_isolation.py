#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_isolation
short_description: Keep CPUs and huge pages of a hypervisor for its virtual machines
description:
  - Isolates CPUs of this host, so that virtual machines pinned to them share them with nobody. The kernel does it from
    its next boot on, systemd slices do it at once, and C(tuned) is an alternative to both.
  - Reserves huge pages, masks CPU features and sets kernel arguments of one's own on the same command line.
  - Arguments that others set keep their place and value. An argument that somebody else set to another value is an
    error, never overwritten. What this module set is found again and can be removed without a trace.
  - Nothing is rebooted. RV(reboot_required) compares what the next boot brings with the running kernel, not with a
    file.
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.full
  - virtops.kvm_fleet.libvirt
attributes:
  diff_mode:
    details:
      - The difference shows the kernel command line of the next boot, the CPUs of the slices and the huge pages of
        cells.
options:
  state:
    description:
      - V(present) brings the host to what the options ask for. A group of options that is not given stays as it is.
      - V(absent) removes everything that this module ever set on the host.
    type: str
    choices: [present, absent]
    default: present
  isolated:
    description:
      - CPUs to isolate, as in V(2-7,10-15); all others are housekeeping. An empty string isolates none.
      - This and the options down to O(machine_cpus) are one group. It is set as a whole when O(isolated),
        O(housekeeping) or O(housekeeping_cores_per_cell) is given.
    type: str
  housekeeping:
    description:
      - CPUs to keep for the host itself; all others are isolated.
      - With O(isolated) too, both together must be all CPUs that are online.
    type: str
  housekeeping_cores_per_cell:
    description:
      - Keep this many cores of every NUMA cell for the host itself, with all their threads, and isolate the rest.
    type: int
  keep_siblings:
    description:
      - Refuse a set that isolates one thread of a core and leaves another thread of it to the host.
    type: bool
    default: true
  housekeeping_in_each_cell:
    description:
      - Refuse a set that leaves no housekeeping CPU in some NUMA cell with CPUs.
    type: bool
    default: false
  force:
    description:
      - Allow CPU 0 to be isolated. The boot CPU keeps duties that cannot be moved to others.
    type: bool
    default: false
  methods:
    description:
      - How CPUs are isolated. What this module did by a method that is no longer named is undone.
      - V(kernel) sets C(isolcpus) and more on the kernel command line; it needs a reboot.
      - V(slices) sets C(AllowedCPUs) of C(machine.slice), C(system.slice), C(user.slice) and C(init.scope) at once and
        for later boots; it needs the unified control groups (version 2).
      - V(tuned) activates the profile C(cpu-partitioning), where tuned is installed; it needs a reboot. It cannot be
        used together with V(kernel).
    type: list
    elements: str
    choices: [kernel, slices, tuned]
    default: [kernel]
  machine_cpus:
    description:
      - CPUs that virtual machines may use at all, with V(slices) in O(methods).
      - By default the isolated ones, or all CPUs if the kernel isolates too. The scheduler does not balance CPUs that
        the kernel isolates, so virtual machines without pins need others.
    type: str
  isolcpus_flags:
    description:
      - Flags of C(isolcpus). V(domain) is always among them.
    type: list
    elements: str
    choices: [domain, managed_irq, nohz]
    default: []
  nohz_full:
    description:
      - Stop the timer tick on isolated CPUs that run one task only (C(nohz_full)).
    type: bool
    default: false
  rcu_nocbs:
    description:
      - Move RCU callbacks away from isolated CPUs (C(rcu_nocbs)).
    type: bool
    default: false
  irqaffinity:
    description:
      - Send interrupts to housekeeping CPUs by default (C(irqaffinity)).
    type: bool
    default: false
  huge_pages:
    description:
      - All huge pages to be reserved; an empty list reserves none.
      - Pages without O(huge_pages[].cell) are reserved by the kernel when it boots, and spread over all cells. Pages
        with a cell are reserved at once and at each boot, if the cell has enough memory in one piece.
    type: list
    elements: dict
    suboptions:
      size:
        description: Size of a page, such as V(2M) or V(1G).
        type: str
        required: true
      count:
        description: Number of pages.
        type: int
        required: true
      cell:
        description: NUMA cell to reserve them in, at run time.
        type: int
  default_huge_page_size:
    description:
      - Size of the pages that programs get which name none (C(default_hugepagesz)); belongs to O(huge_pages).
    type: str
  clearcpuid:
    description:
      - CPU features that the kernel is to hide, by libvirt's or by the kernel's name. An empty list hides none.
      - It taints the kernel, and kernels before 5.18 know numbers only. RV(ineffective) tells which features guests
        could still have afterwards.
    type: list
    elements: str
  kernel_arguments:
    description:
      - Kernel arguments of one's own. Those that have an option here are refused.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the argument.
        type: str
        required: true
      value:
        description: Value; without one the argument is a single word, such as C(nosmt).
        type: str
      state:
        description: Whether this module sets the argument, or no longer does.
        type: str
        choices: [present, absent]
        default: present
  pinned_vms:
    description:
      - What to do when a running virtual machine is pinned to a CPU which would become housekeeping, or to none of
        those that slices leave to virtual machines.
      - V(refuse) is an error before anything changes. V(warn) goes on.
    type: str
    choices: [refuse, warn]
    default: refuse
  boot_loader:
    description:
      - Who hands the command line to the kernel; V(auto) looks.
    type: str
    choices: [auto, grub, grubby, kernel_install, rpm_ostree]
    default: auto
  wait_timeout:
    description:
      - How long systemd may take to apply the CPUs of slices, in seconds.
    type: int
    default: 30
seealso:
  - name: Kernel parameters
    description: What the kernel says about isolcpus, nohz_full, rcu_nocbs, irqaffinity, hugepages and clearcpuid.
    link: https://docs.kernel.org/admin-guide/kernel-parameters.html
  - name: systemd.resource-control
    description: AllowedCPUs of slices.
    link: https://www.freedesktop.org/software/systemd/man/latest/systemd.resource-control.html
"""

EXAMPLES = r"""
- name: Keep two cores of every NUMA cell for the host, and the rest for virtual machines
  virtops.kvm_fleet.host_isolation:
    housekeeping_cores_per_cell: 2
    isolcpus_flags: [managed_irq]
    nohz_full: true
    rcu_nocbs: true
    irqaffinity: true
  become: true
  register: isolation

- name: Tell whether a reboot is due
  ansible.builtin.debug:
    var: isolation.reboot_required

- name: Keep the host's own services off CPUs 2 to 7, without a reboot
  virtops.kvm_fleet.host_isolation:
    housekeeping: 0-1
    methods: [slices]
  become: true

- name: Reserve huge pages, and leave the CPUs as they are
  virtops.kvm_fleet.host_isolation:
    huge_pages:
      - {size: 1G, count: 16}
      - {size: 2M, count: 512, cell: 0}
  become: true

- name: Take everything back
  virtops.kvm_fleet.host_isolation:
    state: absent
  become: true
"""

RETURN = r"""
isolated:
  description: The CPUs that are asked to be isolated, or V(null) when the task is not about CPUs.
  returned: success
  type: str
  sample: 2-7,10-15
housekeeping:
  description: The CPUs that remain for the host itself, or V(null) when the task is not about CPUs.
  returned: success
  type: str
  sample: 0-1,8-9
reboot_required:
  description: Whether the next boot brings another command line than the running kernel has, as far as it is ours.
  returned: success
  type: bool
  sample: true
reboot_reasons:
  description: The kernel arguments that differ.
  returned: success
  type: list
  elements: str
  sample: [isolcpus, nohz_full]
boot_loader:
  description: Who hands the command line to the kernel, or V(null) when it does not matter.
  returned: success
  type: str
  sample: grub
kernel_arguments:
  description: What this module has on the command line of the next boot.
  returned: success
  type: list
  elements: str
  sample: ["isolcpus=domain,managed_irq,2-7", "nohz_full=2-7"]
running:
  description: What the running kernel says.
  returned: success
  type: dict
  contains:
    command_line:
      description: Its command line.
      type: str
    isolated:
      description: The CPUs its scheduler leaves alone.
      type: str
    nohz_full:
      description: The CPUs without a tick, or V(null) if it cannot do that.
      type: str
  sample:
    command_line: BOOT_IMAGE=/boot/vmlinuz-6.12.57 root=/dev/vda1 ro quiet
    isolated: ""
    nohz_full: ""
ineffective:
  description:
    - What the running kernel was asked for and does not do, although it was booted with it. Empty until it is booted.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The kernel argument.
      type: str
    wanted:
      description: What was asked for.
      type: str
    running:
      description: What the kernel or the hypervisor says instead.
      type: str
  sample: []
slices:
  description: The CPUs that systemd units may use now, by unit; V(null) for one that does not exist yet.
  returned: success
  type: dict
  sample: {machine.slice: 2-7, system.slice: 0-1, user.slice: 0-1, init.scope: 0-1}
error:
  description:
    - Stable word for the failure.
    - Own ones are C(no_such_cpu), C(cpu_offline), C(no_housekeeping), C(siblings_split), C(cpu0_isolated),
      C(pinned_vms), C(conflict), C(unknown_boot_loader), C(no_cgroup2), C(tuned_missing), C(not_enough_memory),
      C(pages_in_use), C(bad_options), C(bad_argument), C(bad_cpuset), C(bad_record), C(not_applied),
      C(command_failed), C(not_root) and C(host_file).
  returned: failure
  type: str
  sample: pinned_vms
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, FrozenSet, Optional, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import files, slices
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot import same_name
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot.tuned import read_tuned
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._isolation import effect, settings, state
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import isolation as guests
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run, runner
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import format_cpuset

SPEC = ArgumentSpec(
    {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "isolated": {"type": "str"},
        "housekeeping": {"type": "str"},
        "housekeeping_cores_per_cell": {"type": "int"},
        "keep_siblings": {"type": "bool", "default": True},
        "housekeeping_in_each_cell": {"type": "bool", "default": False},
        "force": {"type": "bool", "default": False},
        "methods": {"type": "list", "elements": "str", "choices": list(settings.METHODS), "default": [settings.KERNEL]},
        "machine_cpus": {"type": "str"},
        "isolcpus_flags": {
            "type": "list",
            "elements": "str",
            "choices": list(settings.ISOLCPUS_FLAGS),
            "default": [],
        },
        "nohz_full": {"type": "bool", "default": False},
        "rcu_nocbs": {"type": "bool", "default": False},
        "irqaffinity": {"type": "bool", "default": False},
        "huge_pages": {
            "type": "list",
            "elements": "dict",
            "options": {
                "size": {"type": "str", "required": True},
                "count": {"type": "int", "required": True},
                "cell": {"type": "int"},
            },
        },
        "default_huge_page_size": {"type": "str"},
        "clearcpuid": {"type": "list", "elements": "str"},
        "kernel_arguments": {
            "type": "list",
            "elements": "dict",
            "default": [],
            "options": {
                "name": {"type": "str", "required": True},
                "value": {"type": "str"},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            },
        },
        "pinned_vms": {"type": "str", "choices": ["refuse", "warn"], "default": "refuse"},
        "boot_loader": {
            "type": "str",
            "choices": ["auto", "grub", "grubby", "kernel_install", "rpm_ostree"],
            "default": "auto",
        },
        "wait_timeout": {"type": "int", "default": 30},
    }
).merge(LIBVIRT)


def work(module: AnsibleModule) -> Outcome:
    """Read, plan, apply and read back."""
    files.require_root()
    root, run_command, params = Path("/"), runner(module), module.params
    with ExitStack() as stack:
        conn, wanted = None, None
        if params["state"] == "present":
            conn = stack.enter_context(connection(params["uri"]))
            wanted = guests.settings_for(conn, root, params)
        loader = state.find_boot_loader(root, run_command, _named(params["boot_loader"]), wanted)
        tuned, before = read_tuned(root), state.observe(root, loader)
        after = state.plan(before, wanted)
        state.require_possible(root, after)
        disturbed = guests.disturbed(conn, root, wanted.cpus) if wanted is not None and wanted.cpus else None
        if disturbed and params["pinned_vms"] == "refuse":
            raise disturbed
        if not module.check_mode:
            after = state.carry_out(root, run_command, loader, before, after, params["wait_timeout"])
        masks = any(same_name(argument.name, "clearcpuid") for argument in after.ours)
        features = guests.offered_features(conn) if conn is not None and masks else None
    names = [item["name"] for item in params["kernel_arguments"]]
    reasons = state.reboot_reasons(root, before, after, tuned, names)
    facts = {
        **_cpu_sets(wanted),
        **_boot(root, after, reasons, features),
        "slices": _slices(root, after, module.check_mode),
    }
    return Outcome(before.to_data(), after.to_data(), facts, [disturbed.msg] if disturbed else [])


def _named(boot_loader: str) -> Optional[str]:
    return None if boot_loader == "auto" else boot_loader


def _cpu_sets(wanted: Optional[settings.Settings]) -> Dict[str, Optional[str]]:
    isolation = wanted.cpus.isolation if wanted and wanted.cpus else None
    return {
        "isolated": format_cpuset(isolation.isolated) if isolation else None,
        "housekeeping": format_cpuset(isolation.housekeeping) if isolation else None,
    }


def _boot(
    root: Path, after: state.State, reasons: Tuple[str, ...], features: Optional[FrozenSet[str]]
) -> Dict[str, Any]:
    running = effect.read_running(root)
    booted = [argument for argument in after.ours if argument.name not in reasons]
    return {
        "reboot_required": bool(reasons),
        "reboot_reasons": list(reasons),
        "boot_loader": after.boot.backend if after.boot else None,
        "kernel_arguments": [argument.text for argument in after.ours],
        "running": running.to_data(),
        "ineffective": [item.to_data() for item in effect.ineffective(booted, running, features)],
    }


def _slices(root: Path, after: state.State, planned: bool) -> Dict[str, Optional[str]]:
    found = {unit.unit: unit.effective for unit in slices.read_slices(root)}
    return {**found, **after.slices} if planned else found


def main() -> None:
    """Run the module."""
    run(SPEC, work)


if __name__ == "__main__":
    main()
