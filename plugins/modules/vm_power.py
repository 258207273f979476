#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_power
short_description: Shut VMs down, start them again, and see whether their guests answer
description:
  - Shuts VMs down through their guest agent, then by ACPI, within a bound, and starts VMs in an order.
  - Can remember with the VMs themselves which maintenance has shut them down, and start exactly these again. That
    survives a controller that is killed and a host that is rebooted.
  - Tells whether the guests of running VMs live, and by what that is proved.
  - Every state is read back from libvirt. One VM that fails does not keep the others from being shut down or started;
    the module then fails and names it.
options:
  name:
    description:
      - Names or UUIDs of the VMs. An empty list is no VM.
      - Needed unless O(remembered) is given. With both, only those of them that are remembered are started.
    type: list
    elements: str
  state:
    description:
      - V(shutdown) asks the guests to shut down, all at once, and waits until they are off. A VM that is off is left
        alone. A VM without a definition is refused, for nobody could start it again.
      - V(running) starts VMs one after the other, in the order of O(name), or those of O(remembered) in the order of
        their priority (see M(virtops.kvm_fleet.vm_policy)), higher first, and then of their names. A VM that runs is
        left alone.
      - V(answering) changes nothing. It waits until the guest of each VM has shown that it lives. The proof is an
        answer of its guest agent if one is connected; else it is that the vCPUs of the running VM have done something,
        which says less.
      - A VM that is being migrated is refused, and so is one that is paused, unless O(force) is on.
    type: str
    choices: [shutdown, running, answering]
    required: true
  remember:
    description:
      - For O(state=shutdown). Store with each VM that runs that this maintenance shuts it down, before it is asked to.
      - It stays stored with a VM that was asked and did not go off in time, for it may yet do so.
    type: str
  remembered:
    description:
      - For O(state=running). Start the VMs that this maintenance has shut down, and forget that.
      - One that somebody has started meanwhile is only forgotten.
    type: str
  force:
    description:
      - For O(state=shutdown). Cut the power of a VM that is not off when O(wait_timeout) is over, and of one that is
        paused. Its guest loses what it has not written.
    type: bool
    default: false
  agent:
    description:
      - For O(state=running). Wait until the guest agent of a VM answers before the next one is started. A VM that has
        no channel for an agent is not waited for.
      - For O(state=answering). Take nothing less than an answer of the guest agent, of VMs that have a channel for one.
    type: bool
    default: false
  wait_timeout:
    description:
      - How long to wait for each VM, in seconds. The guest agent has the first half of it to shut a VM down.
      - When it expires, the state is read back, and the module fails with it.
    type: int
    default: 600
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.full
  - virtops.kvm_fleet.libvirt
notes:
  - A host in maintenance refuses to start VMs; see M(virtops.kvm_fleet.host_maintenance).
seealso:
  - module: virtops.kvm_fleet.placement_plan
  - module: virtops.kvm_fleet.vm_policy
  - module: virtops.kvm_fleet.host_maintenance
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Shut down what cannot move, and remember it
  virtops.kvm_fleet.vm_power:
    name: [dongle, license1]
    state: shutdown
    remember: kernel-2026-02
    wait_timeout: 300

- name: Start what the maintenance has shut down, the important ones first
  virtops.kvm_fleet.vm_power:
    state: running
    remembered: kernel-2026-02
    agent: true

- name: See whether the guests live after they have moved
  virtops.kvm_fleet.vm_power:
    name: [db1, web1]
    state: answering
    wait_timeout: 60
"""

RETURN = r"""
vms:
  description:
    - The VMs, in the order given, or in that in which they were started.
    - After a failure, too, if any VM was touched or judged.
  returned: success, and most failures
  type: list
  elements: dict
  contains:
    name:
      description: Name of the VM.
      type: str
    uuid:
      description: UUID of the VM.
      type: str
    changed:
      description: Whether its state or what is remembered of it changed.
      type: bool
    before:
      description: Its C(state) in libvirt's words, and in C(remembered) the maintenance that has shut it down, or null.
      type: dict
    after:
      description: The same, as read back.
      type: dict
    outcome:
      description:
        - V(shut_down), V(destroyed), V(was_off), V(not_shut_down), V(would_shut_down), V(started), V(was_active),
          V(not_started), V(would_start), V(answering) or V(not_answering).
      type: str
    how:
      description:
        - For V(shut_down) the request that was followed (V(agent), V(acpi); V(itself) if none was taken), and
          V(destroy) for V(destroyed).
        - For V(started) and V(answering) the proof. V(agent) is an answer of the guest agent, V(cpu_time) that the
          vCPUs run, V(state) that libvirt says so. Null where nothing was done.
      type: str
    seconds:
      description: How long it took, in seconds.
      type: float
    error:
      description: Code of the failure of this VM.
      type: str
    msg:
      description: The failure in words.
      type: str
"""

from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, WAIT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import check_maintenance
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._power import (
    Result,
    Shutdown,
    Start,
    require_all,
    see_answering,
    shut_down,
    start,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

SPEC = ArgumentSpec(
    {
        "name": {"type": "list", "elements": "str"},
        "state": {"type": "str", "choices": ["shutdown", "running", "answering"], "required": True},
        "remember": {"type": "str"},
        "remembered": {"type": "str"},
        "force": {"type": "bool", "default": False},
        "agent": {"type": "bool", "default": False},
    },
    required_if=[
        ("state", "shutdown", ("name",)),
        ("state", "running", ("name", "remembered"), True),
        ("state", "answering", ("name",)),
    ],
)

# For which states an option that was given means something.
STATES_OF = {
    "remember": ("shutdown",),
    "remembered": ("running",),
    "force": ("shutdown",),
    "agent": ("running", "answering"),
}


def work(module: AnsibleModule) -> Outcome:
    """Do what the options ask for."""
    params = module.params
    check(params)
    with connection(params["uri"]) as conn:
        results = act(conn, params, module.check_mode)
    require_all(results)
    before = {result.name: result.before for result in results if result.before != result.after}
    after = {result.name: result.after for result in results if result.before != result.after}
    return Outcome(before, after, {"vms": [result.as_dict() for result in results]})


def check(params: Dict[str, Any]) -> None:
    """Raise ``bad_input`` for options that do not go together."""
    for option, states in STATES_OF.items():
        if params[option] and params["state"] not in states:
            text = f"{option} is for state={' or '.join(states)}, not for state={params['state']}. Leave it out."
            raise FleetError(text, "bad_input", option=option)
    if params["wait_timeout"] < 1:
        raise FleetError(f"wait_timeout must be at least 1, not {params['wait_timeout']}.", "bad_input")
    for option in ("remember", "remembered"):
        if params[option] is not None:
            check_maintenance(option, params[option])


def act(conn: Any, params: Dict[str, Any], check_mode: bool) -> List[Result]:
    """Shut down, start, or look."""
    names, timeout = params["name"], params["wait_timeout"]
    if params["state"] == "shutdown":
        return shut_down(conn, names, Shutdown(timeout, params["remember"], params["force"]), check_mode)
    if params["state"] == "running":
        return start(conn, names, Start(timeout, params["remembered"], params["agent"]), check_mode)
    return see_answering(conn, names, params["agent"], timeout)


def main() -> None:
    """Run the module."""
    run(LIBVIRT.merge(WAIT, SPEC), work)


if __name__ == "__main__":
    main()
