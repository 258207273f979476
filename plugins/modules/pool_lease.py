#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pool_lease
short_description: Let one run at a time work with the pool of a hypervisor
description:
  - Records on the hypervisor which run works with its pool, for whom, what for, and until when. Another run is not
    given the lease before it is released or has expired.
  - A run that is not given the lease does not fail. RV(granted) is V(false), and RV(holder) tells who has it.
  - This module is about one host. The role P(virtops.kvm_fleet.pool_lease#role) asks all hosts of a pool and decides
    whether the run has the pool.
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.full
attributes:
  check_mode:
    details:
      - RV(granted) and RV(holder) tell what would be. Nobody waits in check mode.
  idempotent:
    details:
      - A renewal only moves when the lease expires. That is not reported as a change.
options:
  state:
    description:
      - V(held) takes the lease, or renews it if the run has it.
      - V(released) gives up the lease of the run. That of another run stays.
    type: str
    choices:
      - held
      - released
    required: true
  pool:
    description:
      - The pool in which the inventory has the host.
      - What the host has on record counts more; see M(virtops.kvm_fleet.cpu_pool). If neither knows one, it is in none.
    type: str
  pools:
    description:
      - Take the lease only if the host is in one of these pools, with O(state=held); an empty text stands for no pool.
      - Without it any pool will do.
    type: list
    elements: str
  run:
    description:
      - The run that holds the lease.
      - In a playbook it is one and the same for the whole of C(ansible-playbook) unless given. Runs that give the same
        one share the lease.
      - With O(state=released) it names the run whose lease is released, for instance one that is dead.
    type: str
  owner:
    description:
      - Who runs it, for messages. In a playbook it is the user with the name of the controller, or the job of AWX with
        its user, unless given.
    type: str
  purpose:
    description:
      - What for, in a few words, for messages. When omitted, what the run gave before stays.
    type: str
  controller:
    description:
      - By what the controller tells later whether the run has ended.
      - A playbook gives it by itself, unless O(run) is given.
    type: str
  expires_s:
    description: After how many seconds the lease ends unless it is renewed, at most a week.
    type: int
    default: 3600
  wait_s:
    description:
      - In a playbook, how many seconds to wait for the lease while another run has it.
    type: int
    default: 0
  over:
    description:
      - Runs that are known to have ended; their lease is taken over.
      - In a playbook, those that were killed on the same controller are found without it.
    type: list
    elements: str
notes:
  - Times are those of the hypervisor's clock. If it is set back, a lease lasts as long from then on as it was given
    for.
seealso:
  - module: virtops.kvm_fleet.host_maintenance
"""

EXAMPLES = r"""
- name: Let no other run work with the pool of this host for an hour
  virtops.kvm_fleet.pool_lease:
    state: held
    purpose: New kernel
  become: true
  register: lease

- name: Stop if another run does
  ansible.builtin.fail:
    msg: "{{ lease.holder.owner }} works with {{ inventory_hostname }} until {{ lease.holder.expires }}."
  when: not lease.granted

- name: Release the lease of a run that is dead
  virtops.kvm_fleet.pool_lease:
    state: released
    run: ctl1-4711-0123456789ab
  become: true
"""

RETURN = r"""
granted:
  description:
    - Whether the run has the lease, with O(state=held).
    - V(null) if the host is in none of O(pools), and with O(state=released).
  returned: success
  type: bool
  sample: true
pool:
  description: The pool of the host, V(null) if it is in none.
  returned: success
  type: str
  sample: gold
members:
  description: The names of the members of the pool that the host has on record; empty if it has none on record.
  returned: success
  type: list
  elements: str
  sample: [hv1, hv2]
renewed:
  description: Whether the run had the lease before.
  returned: success
  type: bool
  sample: false
lease:
  description: The lease of the run, or V(null).
  returned: success
  type: dict
  contains: &lease
    version:
      description: Version of the record.
      type: int
    pool:
      description: The pool of the host.
      type: str
    run:
      description: The run that holds it.
      type: str
    owner:
      description: Who runs it.
      type: str
    purpose:
      description: What for.
      type: str
    controller:
      description: By what the controller tells whether the run has ended.
      type: str
    since:
      description: Since when the run has it, in UTC.
      type: str
    renewed:
      description: When the run last took or renewed it.
      type: str
    expires:
      description: When it ends unless it is renewed.
      type: str
  sample: &sample
    version: 1
    pool: gold
    run: ctl1-4711-0123456789ab
    owner: alice@ctl1
    purpose: New kernel
    controller: ctl1/0d2b/4026531836/4026531834 4711 88123
    since: "2026-01-31T12:00:00Z"
    renewed: "2026-01-31T12:20:00Z"
    expires: "2026-01-31T13:20:00Z"
holder:
  description: The lease of another run that is on the host, or V(null).
  returned: success
  type: dict
  contains:
    <<: *lease
    age_s:
      description: For how many seconds that run has it.
      type: int
    left_s:
      description: In how many seconds it ends unless it is renewed; V(0) if it has expired.
      type: int
  sample: null
error:
  description:
    - Stable word for the failure.
    - Own ones are C(bad_options), C(bad_record), C(record_version), C(not_root), C(busy), C(host_file) and
      C(not_applied).
  returned: failure
  type: str
  sample: bad_record
"""

from typing import Any, Dict, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import files, lease, pool_record
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.lease import Claim, Lease
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.maintenance import utc_now
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.paths import HostPaths
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

SPEC = ArgumentSpec(
    {
        "state": {"type": "str", "choices": ["held", "released"], "required": True},
        "pool": {"type": "str"},
        "pools": {"type": "list", "elements": "str"},
        "run": {"type": "str"},
        "owner": {"type": "str"},
        "purpose": {"type": "str"},
        "controller": {"type": "str"},
        "expires_s": {"type": "int", "default": 3600},
        "wait_s": {"type": "int", "default": 0},
        "over": {"type": "list", "elements": "str"},
    }
)


def work(module: AnsibleModule) -> Outcome:
    """Read, plan, apply and observe."""
    params = module.params
    require_options(params)
    files.require_root()
    paths = HostPaths()
    record = pool_record.read(paths)
    pool = (params["pool"] or None) if record is None else record.pool
    claim = claim_from(params, pool)
    before = lease.read(paths)
    meant = params["state"] == "held" and (params["pools"] is None or (pool or "") in params["pools"])
    after = carried_out(module, paths, before, claim, meant)
    facts = {
        "granted": (after is not None and after.run == claim.run) if meant else None,
        "pool": pool,
        "members": [] if record is None else sorted(member.name for member in record.members),
        "renewed": before is not None and before.run == claim.run,
        "lease": after.to_data() if after is not None and after.run == claim.run else None,
        "holder": holder(after, claim.run),
    }
    return Outcome(told(before), told(after), facts)


def require_options(params: Dict[str, Any]) -> None:
    """Refuse options that make no lease."""
    for key in ("run", "owner") if params["state"] == "held" else ("run",):
        if not params[key]:
            raise FleetError(f"{key} is missing; outside of a playbook it must be given.", code="bad_options")
    for key, least in (("expires_s", 1), ("wait_s", 0)):
        if not least <= params[key] <= lease.LONGEST_S:
            raise FleetError(f"{key} must be from {least} to {lease.LONGEST_S}, not {params[key]}.", code="bad_options")


def claim_from(params: Dict[str, Any], pool: Optional[str]) -> Claim:
    """Return the claim that the options make."""
    return Claim(
        run=params["run"],
        owner=params["owner"] or "",
        pool=pool,
        purpose=params["purpose"] or None,
        controller=params["controller"] or None,
        expires_s=params["expires_s"],
        over=tuple(params["over"] or ()),
    )


def carried_out(
    module: AnsibleModule, paths: HostPaths, before: Optional[Lease], claim: Claim, meant: bool
) -> Optional[Lease]:
    """Return the lease of the host after the task, in check mode as it would be."""
    if module.params["state"] == "released":
        return lease.release(before, claim.run) if module.check_mode else lease.give_up(paths, claim.run)
    if not meant:
        return before
    return lease.take(before, claim, utc_now()) if module.check_mode else lease.hold(paths, claim)


def holder(found: Optional[Lease], own: str) -> Optional[Dict[str, Any]]:
    """Return the lease of another run, in force or not."""
    if found is None or found.run == own:
        return None
    now = utc_now()
    return {**found.to_data(), "age_s": found.age_s(now), "left_s": found.left_s(now)}


def told(found: Optional[Lease]) -> Optional[Dict[str, Any]]:
    """Return what of a lease is a change when it differs: not its times, for a renewal changes nothing for anybody."""
    if found is None:
        return None
    return {key: value for key, value in found.to_data().items() if key in ("pool", "run", "owner", "purpose")}


def main() -> None:
    """Run the module."""
    run(SPEC, work)


if __name__ == "__main__":
    main()
