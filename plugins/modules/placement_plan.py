#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: placement_plan
short_description: Plan where VMs go when hosts are emptied or refilled
description:
  - Answers a question about a fleet snapshot with a plan of live migrations, or says for every VM and every host why
    there is none. All VMs of the question are placed together, and every step of the plan fits with memory charged at
    both ends of each move.
  - Says how far the plan is from what any plan needs at least, in moves, waves and seconds.
  - VMs with the pinning policy V(numa) or V(dedicated) get pins made for the destination. No plan gives a CPU that one
    VM has for itself to another, at any moment.
  - Talks to no hypervisor, so it also answers questions about fleets that do not exist yet. Run it on the controller.
  - A plan that is not possible is an answer, not a failure; look at RV(feasible).
  - The shapes of snapshot, request and answer are documented in C(docs/planner.md) of the collection.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: partial
    details: Shows a digest of the answer in O(result_path), not the answer.
  idempotent:
    support: full
    details: The same request and snapshot give the same answer, byte for byte.
options:
  request:
    description:
      - The request. For small ones; a large snapshot belongs into files.
      - V(question) is V(drain) (empty V(hosts)), V(place) (find destinations for V(vms), within V(hosts) if given),
        V(refill) (bring the VMs that belong to V(hosts) home; with V(refill=none), leave them), V(rollout) (service
        V(hosts) in waves) or V(rebalance) (even out the memory load of V(hosts) with at most V(max_moves) moves).
      - V(refill) says what happens to hosts of a rollout that have been serviced. V(leapfrog) (the default) fills them
        with the VMs of the next wave, V(home) brings their own VMs back, and with V(none) they are destinations like
        all others.
      - V(snapshot) is the snapshot itself; V(snapshot_path) is a JSON file with it, or a directory with the parts that
        M(virtops.kvm_fleet.host_info) has written, one C(*.json) file for each host.
      - V(options) may hold V(stay_in_pool) (default V(true)), V(exclude_hosts), V(move_manual) (default V(true);
        V(false) refuses VMs with migration mode V(manual)), V(max_extra_moves) (how many moves there may be of VMs
        that make room or wait on a third host, by default any number), V(max_hosts_down) (of a pool in one wave of a
        rollout), V(pinned), V(stopped), V(best_effort) (default V(false); V(true) returns the moves of a drain that
        cannot succeed as a whole), V(weights) (factors of preferences by name), V(concurrency) (migrations of a host at
        once, for estimates, default V(2)), V(service_s) (time to service the hosts of a wave, for estimates, default
        V(0)), V(node_limit) (effort of a search, default V(20000)) and V(max_age_s) (from when on a part of the
        snapshot counts as old, default V(900)).
      - V(pinned) of these is for drains and rollouts, and for VMs that cannot move because of their migration mode
        V(pinned) or of blockers. With V(fail) (the default) they have no destination, with V(shutdown) they are shut
        down while their host is serviced, and with V(skip) their hosts are left out.
      - V(stopped) of these is for the other questions than V(rollout) and V(rebalance), and for VMs that are off. With
        V(leave) (the default) they stay, with V(move) their definitions move too, and with V(only) nothing else does.
        To carry that out, M(virtops.kvm_fleet.vm_migrate) needs O(virtops.kvm_fleet.vm_migrate#module:offline).
    type: dict
  request_path:
    description:
      - A JSON file with the request. A relative V(snapshot_path) in it starts from the file's directory.
    type: path
  result_path:
    description:
      - A file to write the answer to as JSON, private to the user. The module then returns counts only.
    type: path
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
seealso:
  - module: virtops.kvm_fleet.host_info
  - module: virtops.kvm_fleet.vm_migrate
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Ask whether hv1 can be emptied, from a collected snapshot
  virtops.kvm_fleet.placement_plan:
    request:
      question: drain
      hosts: [hv1]
      snapshot_path: /tmp/snapshot
  delegate_to: localhost
  run_once: true
  register: planned

- name: Show the plan
  ansible.builtin.debug:
    msg: "{{ planned.plan | virtops.kvm_fleet.plan_lines }}"

- name: Write a large answer to a file
  virtops.kvm_fleet.placement_plan:
    request_path: request.json
    result_path: plan.json
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
feasible:
  description: Whether every VM that has to move has a destination.
  returned: success
  type: bool
counts:
  description: How much there is of everything in the answer.
  returned: success
  type: dict
  contains:
    waves:
      description: Number of waves.
      type: int
    steps:
      description: Number of steps in all waves.
      type: int
    moves:
      description: Number of moves in all steps.
      type: int
    shutdowns:
      description: Number of VMs that are shut down in all waves.
      type: int
    unplaced:
      description: Number of VMs without a destination.
      type: int
    skipped:
      description: Number of hosts that are left out.
      type: int
    warnings:
      description: Number of warnings in the answer.
      type: int
plan:
  description:
    - The answer. Moves of one step are safe at once and in any order; a step starts when the one before has ended.
  returned: when O(result_path) is not given
  type: dict
  contains:
    version:
      description: The version of this shape.
      type: int
    question:
      description: The question that was answered.
      type: str
    feasible:
      description: Whether every VM that has to move has a destination.
      type: bool
    waves:
      description:
        - V(hosts) that are ready after the wave, V(steps) with V(moves), V(refill_steps) (what comes back when the
          hosts have been serviced), V(shutdowns) and V(estimated_s).
        - V(shutdowns) are VMs that are shut down after the moves and start again, in this order, when the hosts have
          been serviced, each with V(vm), V(uuid), V(host), V(priority) and the V(reasons) why it cannot move.
        - A move has V(vm), V(uuid), V(source), V(destination), V(destination_uuid), V(uri), V(migrate_uri), V(pins)
          (V(null) keeps them), V(estimated_s) and V(purpose).
        - V(purpose) is V(asked), V(room) (the VM makes room for others), V(detour) (it waits there for its next move)
          or V(back).
        - V(following), if it is there, records which of V(pins) only keep threads off the CPUs of other VMs.
        - V(exclusive_cpus), if it is there, is the set of CPUs that the VM has for itself at its destination. Keep
          other VMs off them before it arrives.
        - Empty for a drain that cannot succeed, unless V(best_effort) is on.
      type: list
      elements: dict
    unplaced:
      description:
        - VMs without a destination, each with V(vm), V(uuid), V(host), V(reasons) and V(rejected), which counts hosts
          by the code of their reason. Of very many reasons some of each code are listed.
        - A reason has V(host) (V(null) when it holds everywhere), V(code), V(text) and its numbers.
      type: list
      elements: dict
    skipped:
      description:
        - With V(pinned=skip), hosts of the question that are left out, each with V(host), and in V(vms) the V(vm),
          V(uuid) and V(reasons) of those that cannot move.
      type: list
      elements: dict
    bounds:
      description: No plan needs less than these V(moves), V(waves) and V(seconds).
      type: dict
    totals:
      description: What the plan needs, V(moves), V(waves), V(seconds), and V(extra) moves beyond those of the question.
      type: dict
    gap:
      description: RV(plan.totals) less RV(plan.bounds), V(null) where not every VM has a destination.
      type: dict
    balance:
      description: For the question V(rebalance), the lowest and highest memory load V(before) and V(after).
      type: dict
    waves_gap_reason:
      description: Why more waves are needed than the bound says.
      type: str
    search:
      description: Whether a plan was V(found), the search was V(exhausted) without one, or it ended at its V(limit).
      type: str
    search_nodes:
      description: The effort of the search.
      type: int
    shortage:
      description: What VMs that fit alone but not together need, and what the hosts they could go to have.
      type: dict
    loads:
      description: Used memory of every host that a move touches, V(before_kib) and V(after_kib).
      type: list
      elements: dict
    candidates:
      description:
        - For the question V(place), the V(destinations) of each VM alone, best first, and the V(rejected) hosts.
      type: list
      elements: dict
    warnings:
      description: What a person should know, each with V(code) and V(text).
      type: list
      elements: dict
"""

import hashlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement import counts, plan
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._snapshot_files import read_json, read_snapshot

SPEC = ArgumentSpec(
    {"request": {"type": "dict"}, "request_path": {"type": "path"}, "result_path": {"type": "path"}},
    mutually_exclusive=[("request", "request_path")],
    required_one_of=[("request", "request_path")],
)


def digest(text: Optional[bytes]) -> Optional[Dict[str, str]]:
    """Return what stands for an answer in before and after: answers can have many megabytes."""
    return None if text is None else {"sha256": hashlib.sha256(text).hexdigest()}


def write_private(path: Path, text: bytes) -> None:
    """Replace a file as a whole, readable by its owner only (atomic_move would apply the umask to a new file)."""
    handle, scratch = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(text)
        Path(scratch).replace(path)
    except OSError:
        Path(scratch).unlink()
        raise


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    request, start = module.params["request"], Path()
    # Results repeat the options, and a snapshot in them would fill logs and variables.
    module.params["request"] = None
    if request is None:
        source = Path(module.params["request_path"])
        request, start = read_json(source), source.parent
    if not isinstance(request, Mapping):
        raise FleetError("request: it must be a mapping.", code="bad_request")
    answer = plan(request, read_snapshot(request, start), int(time.time()))
    facts: Dict[str, Any] = {"feasible": answer["feasible"], "counts": counts(answer)}
    if module.params["result_path"] is None:
        return Outcome(facts={**facts, "plan": answer})
    path = Path(module.params["result_path"])
    text = json.dumps(answer, indent=1, sort_keys=True).encode() + b"\n"
    try:
        before = path.read_bytes() if path.exists() else None
        if before != text and not module.check_mode:
            write_private(path, text)
    except OSError as error:
        raise FleetError(f"Cannot write the answer to {path}: {error}", code="unwritable", path=str(path)) from error
    return Outcome(digest(before), digest(text), facts)


def main() -> None:
    """Run the module."""
    run(SPEC, work)


if __name__ == "__main__":
    main()
