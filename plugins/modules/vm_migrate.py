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
  - Before anything moves every VM is checked for what libvirt would refuse, and its destination is asked whether it
    answers, can be sent memory, and has the VM's CPU, machine type, libvirt networks and volumes, and nobody of its
    name. If one VM cannot move, none does.
  - The largest VMs begin.
  - A VM that writes faster than its memory can be sent is helped by the steps of O(convergence). A migration that takes
    longer than O(wait_timeout) is cancelled; the VM runs on at its source.
  - The VM's definition, metadata and autostart arrive with it. A persistent VM is defined at the destination and no
    longer at the source; a transient one stays transient.
  - The first move away from a host stores that host as the VM's home, with its pins there.
  - In a playbook the progress is shown while it runs, and the migrations go on if the controller dies. The next run
    waits for them and goes on from what it finds.
attributes:
  idempotent:
    details: A VM that is at its destination already is not touched.
options:
  state:
    description:
      - V(migrated) carries out the moves.
      - V(reconciled) begins no migration. What earlier runs began and could not end is brought to its end, with the VM
        on its source or on its destination, never on both. A definition that a migration left at its destination is
        removed if this host's journal proves that it was not there before.
    type: str
    choices: [migrated, reconciled]
    default: migrated
  moves:
    description:
      - The moves, as M(virtops.kvm_fleet.placement_plan) returns them.
      - With V(reconciled) and an empty list, all moves that began on this host and are not known to have ended.
      - Else with an empty list the module only waits for migrations that are leaving this host already, and up to a
        minute for incoming ones. Libvirt needs that long to clear away the copy of a VM whose source went silent.
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
  concurrency_per_destination:
    description:
      - How many of them may have the same destination. No limit of its own if not given.
    type: int
  concurrency_per_link:
    description:
      - How many of them may be sent over the same link, which is the address of this host that the kernel's routes
        choose for the way to the destination. No limit of its own if not given.
    type: int
  bandwidth_mib_s:
    description:
      - The most that each migration may send, in MiB/s. Without it libvirt sets no limit.
      - With O(copy_storage) it is the limit of each disk, and then of the memory.
    type: int
  post_copy_bandwidth_mib_s:
    description:
      - The same for the part that is sent while the VM runs at its destination already.
    type: int
  convergence:
    description:
      - What is done for a VM that writes faster than its memory can be sent. Steps are taken after so many rounds
        through its memory, of which one a second counts at most.
      - V(minimal_downtime) lets it stand still for 100 ms at the end, after 1, 2, 3, 4 and 6 rounds for 150, 200, 300,
        400 and 500 ms, and cancels the migration after 30 rounds.
      - V(post_copy) lets it stand still for 100, 150 and 200 ms, and after 3 rounds lets it run at its destination
        while its memory follows. If the link breaks then, the VM stands still until it is back and the same migration
        is run again, for which libvirt 11.3 is not fit. If a host dies then, the VM is lost.
      - V(suspend) is V(minimal_downtime) up to 500 ms, then 5 seconds after 8 rounds, and pauses the VM after 12 rounds
        for as long as it takes.
      - V(legacy) takes no steps. Only O(wait_timeout) ends a migration that does not converge.
    type: str
    choices: [minimal_downtime, post_copy, suspend, legacy]
    default: minimal_downtime
  convergence_steps:
    description:
      - Steps of your own instead of those of O(convergence), in ascending order.
    type: list
    elements: dict
    suboptions:
      after:
        description: After how many rounds through the VM's memory; V(0) is at the start.
        type: int
        required: true
      action:
        description:
          - What to do. V(downtime) sets how long the VM may stand still, V(post_copy) lets it run at its destination,
            V(pause) pauses it until its memory has arrived, V(abort) cancels the migration.
          - V(downtime) if O(convergence_steps[].downtime_ms) is given.
        type: str
        choices: [downtime, post_copy, pause, abort]
      downtime_ms:
        description: How long the VM may stand still, in milliseconds.
        type: int
  max_downtime_ms:
    description:
      - The most that the steps may let a VM stand still at the end of its migration, in milliseconds. It does not limit
        how long a paused VM waits for its memory.
    type: int
  auto_converge:
    description:
      - Slow down a VM that writes faster than its memory can be sent.
    type: bool
    default: true
  parallel_connections:
    description:
      - Over how many connections the memory of a VM is sent. A VM whose emulator threads are pinned gets at most as
        many as these have CPUs, for the threads that send would take the time of its vCPUs.
      - Not possible with post-copy or O(tunnelled).
    type: int
    default: 1
  compression:
    description:
      - Compress the memory on its way, which takes CPU time at both ends. V(xbzrle) needs one connection, V(zlib) and
        V(zstd) need several and are left out for a VM that gets only one.
    type: str
    choices: [xbzrle, zlib, zstd]
  tls:
    description:
      - Encrypt the memory on its way with the certificates of QEMU on both hosts (C(/etc/pki/qemu)).
    type: bool
    default: false
  tunnelled:
    description:
      - Send the memory through libvirt's own connection, which is slower, but needs no port beside libvirt's.
      - Not possible with O(tls), O(parallel_connections), O(copy_storage) or post-copy.
    type: bool
    default: false
  forecast:
    description:
      - Let QEMU measure for a second how fast the VMs write, and tell beforehand how long their migrations will take
        and which will not converge by themselves. Best used in check mode.
      - A VM whose memory takes five seconds at most is not measured.
    type: bool
    default: true
  show_progress:
    description:
      - Show progress while VMs migrate, a line for each VM that has news and one for all, once a second.
      - Without it progress is shown if Ansible writes to a terminal. In check mode and under C(async) there is none.
    type: bool
  offline:
    description:
      - Also move VMs that are off, which is to move their definitions. Their disks must be on shared storage.
    type: bool
    default: false
  copy_storage:
    description:
      - Copy the disks of running VMs that are not on shared storage, together with the memory. Without it such disks
        keep a VM where it is.
      - A disk is copied if it is a V(raw) or V(qcow2) file that only this VM writes to and that has no backing file.
        Block devices are taken for shared, as by libvirt, and are not copied.
      - The destination must have an active storage pool of the same name, or for a path one whose volumes are in the
        same directory, with room and without a volume of that name. Nothing is overwritten.
      - What is made there is removed again if the VM stays. The files at the source are never removed after a move;
        RV(migrations[].left_volumes) names them.
      - Not possible with O(tunnelled). Disks of VMs that are off are not copied.
    type: bool
    default: false
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
  - virtops.kvm_fleet.attributes.full
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

- name: Let a busy VM arrive with a downtime of two seconds, or give up
  virtops.kvm_fleet.vm_migrate:
    moves:
      - vm: cache1
        destination: hv3
        uri: qemu+tls://hv3/system
    convergence_steps:
      - {after: 0, downtime_ms: 200}
      - {after: 4, downtime_ms: 2000}
      - {after: 20, action: abort}

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
      description:
        - V(moved), V(already_there) or V(failed); V(would_move) in check mode.
        - With O(state=reconciled) V(reconciled), V(already_there), V(at_source) or V(failed); in check mode
          V(would_reconcile).
      type: str
    runs_on:
      description: The host that the VM is on now, as both hosts proved; null if they did not.
      type: str
    seconds:
      description: How long all of it took, in seconds, with what had to be waited for and put right.
      type: float
    downtime_ms:
      description: How long the VM stood still, in milliseconds, as libvirt measured it.
      type: int
    transferred_mib:
      description:
        - How much was sent, in MiB; of disks that were copied as much as libvirt told last.
        - Null where libvirt does not count, as after a post-copy.
      type: float
    iterations:
      description: How often the VM's memory was gone through after the first time, as last seen while it was sent.
      type: int
    throttle_percent:
      description: By how much the VM was slowed down at last, in percent of its CPU time.
      type: int
    forecast:
      description:
        - What was expected before the migration began; null without O(forecast) or for a VM that did not run here.
        - C(seconds) and C(rounds) through the VM's memory until it converges by itself, C(converges), and a C(warning)
          if it does not; C(dirty_mib_s) is how fast the VM wrote, C(speed_mib_s) how fast it could be sent. What is not
          known is null.
      type: dict
    mended:
      description:
        - What the migration had lost or left and was put right (V(definition), V(autostart), V(following),
          V(source_definition), V(destination_definition), V(destination_volumes)).
      type: list
      elements: str
    left_volumes:
      description:
        - The files of disks that no VM uses any more, each with its C(host) and C(path).
        - After a move with O(copy_storage) those at the source. After a failure those that were made at the destination
          and could not be proved to be unused.
      type: list
      elements: dict
    error:
      description: Code of the failure, for programs.
      type: str
    msg:
      description: The failure in words.
      type: str
"""

from typing import Any, Dict, List, Tuple

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, WAIT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.command import Run
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.files import require_root
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._migration import (
    COMPRESSIONS,
    Options,
    Transport,
    move_from_dict,
    plan_moves,
    require_possible,
    run_moves,
    warnings,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.snapshot import host_name
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._migration import (
    ACTIONS,
    POLICIES,
    Limits,
    schedule_from,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run, runner

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

STEP_OPTIONS = {
    "after": {"type": "int", "required": True},
    "action": {"type": "str", "choices": list(ACTIONS)},
    "downtime_ms": {"type": "int"},
}

# The outcomes that change something.
CHANGES = ("moved", "would_move", "reconciled", "would_reconcile")

# What must be at least 1 where it is given.
COUNTS = (
    "concurrency",
    "concurrency_per_destination",
    "concurrency_per_link",
    "wait_timeout",
    "bandwidth_mib_s",
    "post_copy_bandwidth_mib_s",
    "max_downtime_ms",
    "parallel_connections",
)

SPEC = ArgumentSpec(
    {
        "state": {"type": "str", "choices": ["migrated", "reconciled"], "default": "migrated"},
        "moves": {"type": "list", "elements": "dict", "default": [], "options": MOVE_OPTIONS},
        "host": {"type": "str"},
        "concurrency": {"type": "int", "default": 2},
        "concurrency_per_destination": {"type": "int"},
        "concurrency_per_link": {"type": "int"},
        "bandwidth_mib_s": {"type": "int"},
        "post_copy_bandwidth_mib_s": {"type": "int"},
        "convergence": {"type": "str", "choices": list(POLICIES), "default": "minimal_downtime"},
        "convergence_steps": {"type": "list", "elements": "dict", "options": STEP_OPTIONS},
        "max_downtime_ms": {"type": "int"},
        "auto_converge": {"type": "bool", "default": True},
        "parallel_connections": {"type": "int", "default": 1},
        "compression": {"type": "str", "choices": list(COMPRESSIONS)},
        "tls": {"type": "bool", "default": False},
        "tunnelled": {"type": "bool", "default": False},
        "forecast": {"type": "bool", "default": True},
        "show_progress": {"type": "bool"},
        "offline": {"type": "bool", "default": False},
        "copy_storage": {"type": "bool", "default": False},
        "record_home": {"type": "bool", "default": True},
    }
)


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    require_root()
    options = options_of(module.params, runner(module))
    moves = [move_from_dict(entry) for entry in module.params["moves"]]
    migrations = plan_moves(moves, options) if module.check_mode else run_moves(moves, options)
    require_all(migrations, options.host)
    places = {entry["vm"]: places_of(entry) for entry in migrations if entry["outcome"] in CHANGES}
    before, after = ({vm: place[side] for vm, place in places.items()} for side in (0, 1))
    return Outcome(before, after, {"migrations": migrations}, warnings(migrations))


def places_of(entry: Dict[str, Any]) -> Tuple[str, str]:
    """Return where a VM was and where it is, in words of the diff."""
    if entry["outcome"] in ("moved", "would_move"):
        return entry["source"], entry["destination"]
    return f"between {entry['source']} and {entry['destination']}", entry["runs_on"] or "on one of them"


def options_of(params: Dict[str, Any], run_command: Run) -> Options:
    """Return how to migrate; raises ``bad_input``."""
    for name in COUNTS:
        if params[name] is not None and params[name] < 1:
            raise FleetError(f"{name} must be at least 1, not {params[name]}.", "bad_input")
    schedule = schedule_from(
        params["convergence"], params["convergence_steps"], params["max_downtime_ms"], params["auto_converge"]
    )
    names = ("bandwidth_mib_s", "post_copy_bandwidth_mib_s", "parallel_connections", "compression", "tls", "tunnelled")
    transport = Transport(**{name: params[name] for name in names})
    require_possible(transport, schedule, params["copy_storage"])
    with connection(params["uri"]) as conn:
        host = host_name(conn, params["host"])
    limits = Limits(params["concurrency"], params["concurrency_per_destination"], params["concurrency_per_link"])
    return Options(
        host=host,
        schedule=schedule,
        limits=limits,
        transport=transport,
        source_uri=params["uri"],
        wait_timeout=params["wait_timeout"],
        record_home=params["record_home"],
        begins=params["state"] == "migrated",
        offline=params["offline"],
        copy_storage=params["copy_storage"],
        forecasts=params["forecast"],
        run=run_command,
    )


def require_all(migrations: List[Dict[str, Any]], host: str) -> None:
    """Raise one error that names every VM that did not move."""
    failed = [entry for entry in migrations if entry["outcome"] == "failed"]
    if failed:
        raise FleetError(
            f"{len(failed)} of {len(migrations)} VMs did not leave {host}: "
            + " ".join(entry["msg"].rstrip(".") + "." for entry in failed),
            failed[0]["error"],
            migrations=migrations,
            changed=any(entry["outcome"] in CHANGES for entry in migrations),
        )


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(WAIT, SPEC), work)


if __name__ == "__main__":
    main()
