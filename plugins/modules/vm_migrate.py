#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_migrate
short_description: Migrate VMs of a host live to other hosts
description:
  - Migrates VMs of the host on which it runs, several in one call and a few at a time, live and peer to peer.
  - Whether a VM has moved is read from both hosts, never from what libvirt's call returned.
  - What a broken migration left is put right where that is safe; a VM is never left paused, doubled or destroyed.
    Where it is not safe nothing is touched and the state is reported.
  - Before anything moves every VM is checked for what libvirt would refuse.
  - A migration that takes longer than O(wait_timeout) is cancelled; the VM runs on at its source.
  - The VM's definition, metadata and autostart arrive with it. A persistent VM is defined at the destination and no
    longer at the source; a transient one stays transient.
  - The first move away from a host stores that host as the VM's home, with its pins there.
  - In a playbook the progress is shown while it runs, and the migrations go on if the controller dies. The next run
    waits for them and goes on from what it finds.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
    details: A VM that is at its destination already is not touched.
options:
  moves:
    description:
      - The moves, as M(virtops.kvm_fleet.placement_plan) returns them.
      - With an empty list the module only waits for migrations that are leaving this host already, and up to a minute
        for incoming ones. Libvirt needs that long to clear away the copy of a VM whose source went silent.
    type: list
    elements: dict
    default: []
    suboptions:
      vm:
        description: Name of the VM.
        type: str
        required: true
      uuid:
        description: UUID of the VM; looked up by name if not given.
        type: str
      source:
        description: Name of the source host, for the reader only. The source is the host on which the module runs.
        type: str
      destination:
        description: Name of the destination, for messages and results.
        type: str
        required: true
      destination_uuid:
        description: Libvirt host UUID that the destination must have.
        type: str
      uri:
        description: Libvirt URI of the destination as seen from the source host.
        type: str
        required: true
      migrate_uri:
        description: Where to send the memory, such as V(tcp://10.0.0.2); the destination chooses if not given.
        type: str
      pins:
        description:
          - The pinning that the VM gets at its destination, in its live and its persistent definition. The present one
            stays if not given.
        type: dict
      following:
        description:
          - Which CPUs were given to threads that have no pin of their own, and the C(cpuset) that the user gave the VM.
            Stored with the VM together with O(moves[].pins), so that these pins are not taken for the user's.
        type: dict
      exclusive_cpus:
        description: The CPUs that the VM has for itself at its destination, for the reader only.
        type: str
      estimated_s:
        description: The planner's estimate of the duration, for the reader only.
        type: float
      purpose:
        description: Why the planner moves the VM, for the reader only.
        type: str
  host:
    description:
      - The name of this host in results and snapshots.
      - In a playbook it is the name in the inventory unless given.
    type: str
  concurrency:
    description:
      - How many VMs migrate at the same time.
    type: int
    default: 2
  bandwidth_mib_s:
    description:
      - The most that each migration may send, in MiB/s. Without it libvirt sets no limit.
    type: int
  max_downtime_ms:
    description:
      - How long a VM may stand still at the end of its migration, in milliseconds. Without it QEMU's default applies.
    type: int
  auto_converge:
    description:
      - Slow down a VM that writes faster than its memory can be sent.
    type: bool
    default: true
  record_home:
    description:
      - Store the source as the VM's home if it has none, so that a refill can bring it back.
    type: bool
    default: true
  wait_timeout:
    description:
      - How long one migration may take, in seconds. When it expires the migration is cancelled and both hosts are read.
      - Also how long to wait for another run of this module on this host.
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.libvirt
  - virtops.kvm_fleet.wait
notes:
  - The hypervisors must reach each other by O(moves[].uri) without a question, for instance C(qemu+ssh) with root's
    SSH keys.
seealso:
  - module: virtops.kvm_fleet.placement_plan
  - module: virtops.kvm_fleet.vm_policy
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Migrate two VMs to hv2
  virtops.kvm_fleet.vm_migrate:
    moves:
      - vm: web1
        destination: hv2
        uri: qemu+ssh://root@hv2/system
      - vm: db1
        destination: hv2
        uri: qemu+ssh://root@hv2/system
        migrate_uri: tcp://10.0.0.2
        pins:
          vcpus:
            - vcpu: 0
              cpus: "2"
    bandwidth_mib_s: 500

- name: Carry out this host's part of a step of a plan
  virtops.kvm_fleet.vm_migrate:
    moves: "{{ step.moves | selectattr('source', 'equalto', inventory_hostname) }}"
"""

RETURN = r"""
migrations:
  description: One result for each move, in the order of O(moves).
  returned: always, unless nothing could be started
  type: list
  elements: dict
  contains:
    vm:
      description: Name of the VM.
      type: str
    source:
      description: Name of the source host.
      type: str
    destination:
      description: Name of the destination.
      type: str
    outcome:
      description: V(moved), V(already_there) or V(failed); V(would_move) in check mode.
      type: str
    downtime_ms:
      description: How long the VM stood still, in milliseconds, as libvirt measured it.
      type: int
    total_ms:
      description: How long the migration took, in milliseconds.
      type: int
    transferred_kib:
      description: How much was sent, in KiB.
      type: int
    mended:
      description: What the migration had lost and was put right (V(definition), V(autostart), V(source_definition)).
      type: list
      elements: str
    error:
      description: Code of the failure, for programs.
      type: str
    msg:
      description: The failure in words.
      type: str
"""

from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, WAIT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.files import require_root
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration import (
    Options,
    move_from_dict,
    plan_moves,
    run_moves,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.snapshot import host_name
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

MOVE_OPTIONS = {
    "vm": {"type": "str", "required": True},
    "uuid": {"type": "str"},
    "source": {"type": "str"},
    "destination": {"type": "str", "required": True},
    "destination_uuid": {"type": "str"},
    "uri": {"type": "str", "required": True},
    "migrate_uri": {"type": "str"},
    "pins": {"type": "dict"},
    "following": {"type": "dict"},
    "exclusive_cpus": {"type": "str"},
    "estimated_s": {"type": "float"},
    "purpose": {"type": "str"},
}

SPEC = ArgumentSpec(
    {
        "moves": {"type": "list", "elements": "dict", "default": [], "options": MOVE_OPTIONS},
        "host": {"type": "str"},
        "concurrency": {"type": "int", "default": 2},
        "bandwidth_mib_s": {"type": "int"},
        "max_downtime_ms": {"type": "int"},
        "auto_converge": {"type": "bool", "default": True},
        "record_home": {"type": "bool", "default": True},
    }
)


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    require_root()
    options = options_of(module.params)
    moves = [move_from_dict(entry) for entry in module.params["moves"]]
    migrations = plan_moves(moves, options) if module.check_mode else run_moves(moves, options)
    require_all(migrations, options.host)
    before = {entry["vm"]: entry["source"] for entry in migrations if entry["outcome"] in ("moved", "would_move")}
    after = {entry["vm"]: entry["destination"] for entry in migrations if entry["vm"] in before}
    return Outcome(before=before, after=after, facts={"migrations": migrations})


def options_of(params: Dict[str, Any]) -> Options:
    """Return how to migrate; raises ``bad_input``."""
    for name in ("concurrency", "wait_timeout", "bandwidth_mib_s", "max_downtime_ms"):
        if params[name] is not None and params[name] < 1:
            raise FleetError(f"{name} must be at least 1, not {params[name]}.", "bad_input")
    with connection(params["uri"]) as conn:
        host = host_name(conn, params["host"])
    names = ("concurrency", "wait_timeout", "bandwidth_mib_s", "max_downtime_ms", "auto_converge", "record_home")
    return Options(host=host, source_uri=params["uri"], **{name: params[name] for name in names})


def require_all(migrations: List[Dict[str, Any]], host: str) -> None:
    """Raise one error that names every VM that did not move."""
    failed = [entry for entry in migrations if entry["outcome"] == "failed"]
    if failed:
        raise FleetError(
            f"{len(failed)} of {len(migrations)} VMs did not leave {host}: "
            + " ".join(entry["msg"].rstrip(".") + "." for entry in failed),
            failed[0]["error"],
            migrations=migrations,
            changed=any(entry["outcome"] == "moved" for entry in migrations),
        )


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(WAIT, SPEC), work)


if __name__ == "__main__":
    main()
