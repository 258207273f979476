# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tells the module which run it is, finds runs that were killed on this controller, and waits for others."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.virtops.kvm_fleet.plugins.plugin_utils import _run_identity as identity

FIRST_POLL_S, POLL_S = 1.0, 5.0

display = Display()


class ActionModule(ActionBase):
    """Controller side of the module pool_lease."""

    _supports_async = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module as this run, again when the holder is dead, and until the wait is over."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = with_run(dict(self._task.args), variables)
        try:
            result.update(self._wait(arguments, variables))
        except AnsibleConnectionFailure as error:
            # The role has to know to which pool a host belongs that cannot be reached.
            result.update(unreachable=True, msg=str(error), pool=arguments.get("pool") or None)
        return result

    def _wait(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        answer = self._ask(arguments, variables)
        wait_s = 0 if self._task.check_mode or self._task.async_val else int(arguments.get("wait_s") or 0)
        deadline = time.monotonic() + wait_s
        pause = FIRST_POLL_S
        while answer.get("granted") is False and time.monotonic() < deadline:
            if pause == FIRST_POLL_S:
                display.display(waiting(variables["inventory_hostname"], answer["holder"], wait_s))
            time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 1.5, POLL_S)
            answer = self._ask(arguments, variables)
        return answer

    def _ask(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        answer = self._module(arguments, variables)
        holder = answer.get("holder") or {}
        if answer.get("granted") is False and identity.has_ended(holder.get("controller")):
            answer = self._module({**arguments, "over": [*(arguments.get("over") or []), holder["run"]]}, variables)
        return answer

    def _module(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module(
            "virtops.kvm_fleet.pool_lease",
            module_args=arguments,
            task_vars=variables,
            wrap_async=bool(self._task.async_val),
        )
        return result


def with_run(arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments with the run, its owner and its process, unless given."""
    arguments["owner"] = arguments.get("owner") or identity.owner(variables)
    if not arguments.get("run"):
        main = identity.main_process()
        arguments["run"], arguments["controller"] = identity.run_name(main), identity.controller_of(main)
        if identity.has_ended(arguments["controller"]):
            raise AnsibleActionFail("ansible-playbook has ended, so nothing is done for it any more.")
    return arguments


def waiting(host: str, holder: dict[str, Any], wait_s: int) -> str:
    """Return a line that tells for whom the run waits."""
    purpose = f" ({holder['purpose']})" if holder.get("purpose") else ""
    return f"{host}: waiting up to {wait_s} s for {holder['owner']}{purpose}, whose lease ends at {holder['expires']}"
