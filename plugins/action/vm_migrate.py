# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shows the progress of the module while it runs, and lets it go on if the controller dies."""

from __future__ import annotations

import json
import os
import shlex
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.virtops.kvm_fleet.plugins.plugin_utils._progress import news

PROGRESS_FILE = "/run/kvm_fleet/migrate.progress"
# How often a host is asked how things stand, and how often it looks itself whether they have ended.
POLL_S, TICK_S = 1.0, 0.1
# The module's own bounds expire first, so that it can cancel and tell what it found.
SPARE_S = 120

# What bounds how many VMs migrate at once, and how many do by default.
LIMITS = ("concurrency", "concurrency_per_destination", "concurrency_per_link")
CONCURRENCY = 2

# What async_status adds to the module's own result.
JOB_KEYS = ("ansible_job_id", "results_file", "started", "finished")

display = Display()


class ActionModule(ActionBase):
    """Controller side of the module vm_migrate."""

    _supports_async = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the module and show its progress; directly in check mode and under a user's own async."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args)
        arguments["host"] = arguments.get("host") or variables["inventory_hostname"]
        self._shows = shows(arguments.get("show_progress"))
        watched = not self._task.check_mode and not self._task.async_val
        run = self._watched if watched else self._directly
        result.update(run(arguments, variables))
        return result

    def _directly(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        return self._module(arguments, variables, wrap_async=bool(self._task.async_val))

    def _module(self, arguments: dict[str, Any], variables: dict[str, Any], wrap_async: bool) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module(
            "virtops.kvm_fleet.vm_migrate", module_args=arguments, task_vars=variables, wrap_async=wrap_async
        )
        return result

    def _watched(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        self._task.async_val = limit_s(arguments)
        try:
            job = self._module(arguments, variables, wrap_async=True)
        finally:
            self._task.async_val = 0
        if "ansible_job_id" not in job:
            return job
        shown: dict[str, str] = {}
        result = self._follow(job, variables, shown, time.monotonic() + limit_s(arguments) + SPARE_S)
        self._show({"vms": ended(result)}, shown, variables)
        self._low_level_execute_command(f"rm -f {shlex.quote(job['results_file'])}", sudoable=True)
        return {key: value for key, value in result.items() if key not in JOB_KEYS}

    def _follow(
        self, job: dict[str, Any], variables: dict[str, Any], shown: dict[str, str], deadline: float
    ) -> dict[str, Any]:
        while time.monotonic() < deadline:
            alive, unfinished, text = self._look(job)
            if alive and unfinished:
                self._show(_progress_in(text), shown, variables)
                continue
            # A module that is asked for the result takes longer than many a VM.
            if text and not unfinished:
                return dict(self._parse_returned_data({"stdout": text}, "legacy"))
            result = self._status(job, variables)
            if result.get("finished") or ("finished" not in result and result.get("failed")):
                return result
            if not alive:
                break
        raise AnsibleActionFail(
            f"The migrations on {variables['inventory_hostname']} did not tell how they ended; somebody killed them. "
            "Run this again: it looks at both hosts and goes on."
        )

    def _status(self, job: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module(
            "ansible.legacy.async_status",
            module_args={"jid": job["ansible_job_id"], "_async_dir": job["results_file"].rpartition("/")[0]},
            task_vars=variables,
        )
        return result

    def _look(self, job: dict[str, Any]) -> tuple[bool, bool, str]:
        """Return whether the job's process exists, whether it has no result yet, and its progress or else the result.

        It takes until the job has ended, or POLL_S. A shell looks, for a module takes ten times as long, and many hosts
        may be waiting for their turn.
        """
        number, _dot, process = job["ansible_job_id"].partition(".")
        # The brackets keep the pattern from finding the shell that carries it, also where it names the file.
        pattern = f"[{number[0]}]{number[1:]}"
        results = f"{shlex.quote(job['results_file'].rpartition('/')[0])}/{pattern}.{process}"
        lives = f"grep -qs '{pattern}' /proc/[0-9]*/cmdline"
        # The process lives on for some seconds after the job, whose result takes the place of this mark.
        lasts = f"grep -qs '^{{\"started\"' {results}"
        waits = f"n={round(POLL_S / TICK_S)}; while [ $n -gt 0 ] && {lasts}; do sleep {TICK_S}; n=$((n-1)); done"
        tells = f"if [ $n = 0 ]; then cat {PROGRESS_FILE}; else cat {results}; fi"
        looked = f"{waits}; {lives}; printf '%s ' $?; {lasts}; n=$?; echo $n; {tells}"
        read = self._low_level_execute_command(looked, sudoable=True)
        first, _newline, rest = read.get("stdout", "").partition("\n")
        codes = first.split()
        return codes[:1] == ["0"], codes[1:] == ["0"], rest.strip()

    def _show(self, told: dict[str, Any], shown: dict[str, str], variables: dict[str, Any]) -> None:
        lines = news(variables["inventory_hostname"], told.get("vms", {}), shown, told.get("waiting_kib"))
        for line in lines if self._shows else ():
            display.display(line)


def _progress_in(text: str) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads(text)
    except ValueError:
        # It is not written yet.
        return {}
    return told


def shows(wanted: Any) -> bool:
    """Return whether progress is shown: as the task says, else on a terminal only."""
    return on_terminal() if wanted is None else bool(boolean(wanted))


def on_terminal() -> bool:
    """Return whether somebody reads along. A worker of Ansible has no output: its parent writes what it displays."""
    try:
        output = str(Path(f"/proc/{os.getppid()}/fd/1").readlink())
    except OSError:
        # A controller without /proc.
        return True
    return output.startswith(("/dev/pts/", "/dev/tty"))


def limit_s(arguments: dict[str, Any]) -> int:
    """Return after how many seconds the whole call is killed on the host: no sooner than all its own bounds expired."""
    one = int(arguments.get("wait_timeout") or 600) + SPARE_S
    given = {"concurrency": CONCURRENCY, **{name: arguments[name] for name in LIMITS if arguments.get(name)}}
    # All VMs may have one destination, so the lowest limit counts.
    at_once = max(1, min(int(limit) for limit in given.values()))
    rounds = -(-len(arguments.get("moves") or []) // at_once)
    return one * (rounds + 1)


def ended(result: dict[str, Any]) -> dict[str, Any]:
    """Return the results of the module in the shape of its progress, for the file is gone by then."""
    return {entry["vm"]: {**entry, "state": entry["outcome"]} for entry in result.get("migrations", [])}
