#!/usr/bin/python
# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_maintenance
short_description: Put a hypervisor into maintenance and take it out again
description:
  - Records on the hypervisor itself that it is in maintenance, why, since when and how far. The mark survives the
    controller and a reboot.
  - While the mark exists, libvirt refuses to start, restore or accept any domain on this host (the cordon). Running
    domains are not touched. A hook of libvirt enforces it, and the module observes whether the running daemon knows it.
  - Moving the virtual machines away is the work of other modules; this one confirms that none is left.
author:
  - virtops.kvm_fleet contributors (!UNKNOWN)
extends_documentation_fragment:
  - virtops.kvm_fleet.attributes
  - virtops.kvm_fleet.attributes.full
  - virtops.kvm_fleet.libvirt
attributes:
  check_mode:
    details:
      - The cordon is not observed in check mode, because that takes a short-lived domain; RV(cordon.active) is V(null).
      - Running domains are reported in RV(running) with O(phase=drained), and do not fail the task.
options:
  state:
    description:
      - V(entered) puts the host into maintenance, or goes on with the one of the same O(id).
      - V(left) takes it out, whether the maintenance was completed or is cancelled. The hook stays for the next time.
    type: str
    choices:
      - entered
      - left
    required: true
  id:
    description:
      - Name of the maintenance, the same on every run of it; required with O(state=entered).
      - The task fails when the host is in another maintenance.
      - Without it, O(state=left) leaves whichever maintenance the host is in.
    type: str
  reason:
    description:
      - Why, in a few words. Whoever starts a virtual machine on this host is shown it.
      - When omitted, the recorded reason stays.
    type: str
  phase:
    description:
      - How far the maintenance is, with O(state=entered); a new one begins with V(draining).
      - V(drained) is accepted only when no domain runs on the host, neither of QEMU nor of LXC or Cloud Hypervisor.
      - When omitted, the recorded phase stays.
    type: str
    choices:
      - draining
      - drained
      - reconfigured
  cordon:
    description:
      - Whether libvirt refuses domains during the maintenance, with O(state=entered).
      - With V(false) the mark only informs.
    type: bool
    default: true
  completed:
    description:
      - With O(state=left), record the maintenance as completed on this host instead of cancelled.
    type: bool
    default: false
notes:
  - libvirt looks for hooks when its daemon starts. If the hook is the first one of the host, restart the service in
    RV(service) once; running domains survive that. RV(restart_required) tells.
  - Domains that do not run under the system daemons of libvirt (user sessions, other tools) are not seen.
"""

EXAMPLES = r"""
- name: Enter maintenance
  virtops.kvm_fleet.host_maintenance:
    state: entered
    id: kernel-6.12.57
    reason: New kernel
  become: true
  register: maintenance

- name: Let the libvirt daemon find the cordon hook
  ansible.builtin.service:
    name: "{{ maintenance.service }}"
    state: restarted
  become: true
  when: maintenance.restart_required

- name: Confirm that no virtual machine is left
  virtops.kvm_fleet.host_maintenance:
    state: entered
    id: kernel-6.12.57
    phase: drained
  become: true

- name: Leave maintenance and remember it as completed
  virtops.kvm_fleet.host_maintenance:
    state: left
    id: kernel-6.12.57
    completed: true
  become: true
"""

RETURN = r"""
maintenance:
  description: The mark of the host after the task, or V(null) when it is not in maintenance.
  returned: success
  type: dict
  contains:
    version:
      description: Version of the record.
      type: int
    id:
      description: Name of the maintenance.
      type: str
    reason:
      description: Why the host is in maintenance.
      type: str
    since:
      description: When it began, in UTC.
      type: str
    cordon:
      description: Whether libvirt refuses domains.
      type: bool
    phase:
      description: How far the maintenance is.
      type: str
  sample:
    version: 1
    id: kernel-6.12.57
    reason: New kernel
    since: "2026-01-31T12:00:00Z"
    cordon: true
    phase: draining
already_completed:
  description:
    - Whether the host had completed the maintenance O(id) before this task, and was not in it again.
    - V(false) when no O(id) was given.
  returned: success
  type: bool
  sample: false
already_entered:
  description:
    - Whether the host was in the maintenance O(id) before this task.
    - V(false) when no O(id) was given.
  returned: success
  type: bool
  sample: true
previous_id:
  description: The maintenance in which the host was before this task, or V(null).
  returned: success
  type: str
  sample: kernel-6.12.57
cordon:
  description: The state of the cordon hook.
  returned: success
  type: dict
  contains:
    installed:
      description: Whether the hook of this release of the collection is in place.
      type: bool
    active:
      description:
        - Whether the running daemon was seen to refuse a domain.
        - V(null) when there was nothing to observe, which is without a cordon and in check mode.
      type: bool
  sample:
    installed: true
    active: true
restart_required:
  description: Whether the service must be restarted once before the cordon works; in check mode, whether it may.
  returned: success
  type: bool
  sample: false
service:
  description: Name of the service that runs the virtual machines, or V(null) when none is running.
  returned: success
  type: str
  sample: virtqemud
running:
  description: The running domains, with O(phase=drained); empty unless in check mode. V(null) when nobody looked.
  returned: success, and when the error is C(not_drained)
  type: list
  elements: dict
  contains:
    driver:
      description: The driver of libvirt.
      type: str
    name:
      description: Name of the domain.
      type: str
  sample: []
at_boot:
  description:
    - The VMs that would start when this host boots, with O(phase=drained); V(null) when nobody looked.
    - A VM that runs on another host by now must not be among them. The cordon refuses it only while the mark exists.
  returned: success
  type: dict
  contains:
    autostart:
      description: The C(name) and C(uuid) of each VM that is off and that libvirt starts by itself.
      type: list
      elements: dict
    libvirt_guests:
      description: What the service C(libvirt-guests) would do.
      type: dict
      contains:
        enabled:
          description: Whether the service starts with the host; V(null) if it is not installed.
          type: bool
        on_boot:
          description: V(start) if it starts the VMs that it stopped at the shutdown before, V(ignore) if not.
          type: str
        on_shutdown:
          description: Whether VMs that run when the host goes down are saved (V(suspend)) or shut down (V(shutdown)).
          type: str
        shutdown_timeout_s:
          description: How long it waits for VMs to shut down, in seconds; V(0) is for ever.
          type: int
        resumes:
          description:
            - The C(name) and C(uuid) of each VM that it would start, because it was the last to stop it. The name is
              V(null) if this host does not know the VM.
          type: list
          elements: dict
  sample:
    autostart: []
    libvirt_guests:
      enabled: true
      on_boot: ignore
      on_shutdown: shutdown
      shutdown_timeout_s: 300
      resumes: []
error:
  description:
    - Stable word for the failure.
    - Own ones are C(maintenance_other), C(not_drained), C(bad_record), C(not_root), C(busy), C(host_file),
      C(not_applied) and C(probe_failed).
  returned: failure
  type: str
  sample: not_drained
"""

from contextlib import ExitStack
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._argspec import LIBVIRT, ArgumentSpec
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import files, hook, maintenance, state
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.libvirt_guests import read_libvirt_guests
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.paths import HostPaths
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.at_boot import at_boot
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.cordon import cordon_is_active, running_domains
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._result import Outcome, run

SPEC = ArgumentSpec(
    {
        "state": {"type": "str", "choices": ["entered", "left"], "required": True},
        "id": {"type": "str"},
        "reason": {"type": "str"},
        "phase": {"type": "str", "choices": list(maintenance.PHASES)},
        "cordon": {"type": "bool", "default": True},
        "completed": {"type": "bool", "default": False},
    },
    required_if=[("state", "entered", ("id",))],
).merge(LIBVIRT)


def work(module: AnsibleModule) -> Outcome:
    """Read, plan, apply and observe."""
    files.require_root()
    paths, now = HostPaths(), maintenance.utc_now()
    request = request_from(module.params)
    before = state.observe(paths)
    planned = state.plan(before, request, now)
    asked_drained = request.entered and request.phase == "drained"
    with ExitStack() as stack:
        conn = None
        if asked_drained or (planned.cordoned and not module.check_mode):
            # Opened before anything is written: without libvirt the host does not enter half-way.
            conn = stack.enter_context(connection(module.params["uri"]))
        running = running_domains(conn) if asked_drained else None
        starting = at_boot(conn, read_libvirt_guests()) if asked_drained else None
        if running and not module.check_mode:
            raise state.not_drained(running, before.mark)
        after = planned if module.check_mode or planned == before else state.carry_out(paths, request, now)
        active = cordon_is_active(conn) if after.cordoned and not module.check_mode else None
    facts = {
        "maintenance": None if after.mark is None else after.mark.to_data(),
        "already_completed": maintenance.is_completed(before.mark, before.history, request.id),
        "already_entered": maintenance.is_entered(before.mark, request.id),
        "previous_id": None if before.mark is None else before.mark.id,
        "cordon": {"installed": after.hook == hook.CURRENT, "active": active},
        "restart_required": active is False or (module.check_mode and after.cordoned and before.hook == hook.ABSENT),
        "service": hook.daemon_service(hook.process_names(paths)),
        "running": running,
        "at_boot": starting,
    }
    return Outcome(before.to_data(), after.to_data(), facts)


def request_from(params: Dict[str, Any]) -> state.Request:
    """Return what the options ask for."""
    return state.Request(
        entered=params["state"] == "entered",
        id=params["id"],
        reason=params["reason"],
        phase=params["phase"],
        cordon=params["cordon"],
        completed=params["completed"],
    )


def main() -> None:
    """Run the module."""
    run(SPEC, work)


if __name__ == "__main__":
    main()
