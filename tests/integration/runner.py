# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs modules and playbooks as a user does, with ansible-playbook and the lab's inventory, and reads their results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

COLLECTION = "virtops.kvm_fleet"
BIN = Path(sys.executable).parent
SSH = "-o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=5 -o ServerAliveCountMax=3"
# For the longest playbook on a machine that has other things to do; it costs time only when a test fails.
PATIENCE_S = 900.0


@dataclass(frozen=True)
class Result:
    """What one host said in one task; ``status`` is ok, failed, unreachable or skipped."""

    host: str
    task: str
    action: str
    status: str
    result: Dict[str, Any]

    @property
    def changed(self) -> bool:
        return bool(self.result.get("changed"))


@dataclass(frozen=True)
class Run:
    """A playbook that has ended; ``text`` is what a person saw."""

    code: int
    text: str
    results: Sequence[Result]

    def of(self, module: str, host: Optional[str] = None) -> List[Result]:
        """Results of the tasks of a module of the collection that were not skipped."""
        return [
            result
            for result in self.results
            if result.action == f"{COLLECTION}.{module}" and result.status != "skipped" and host in (None, result.host)
        ]

    @property
    def changed(self) -> List[str]:
        """The tasks that changed something."""
        return [f"{result.host}: {result.task}" for result in self.results if result.changed]

    @property
    def moved(self) -> List[str]:
        """The VMs that were migrated, in the order of the tasks."""
        found = [entry for result in self.of("vm_migrate") for entry in result.result.get("migrations", [])]
        return [entry["vm"] for entry in found if entry["outcome"] == "moved"]


class Job:
    """A playbook under way in a process group of its own."""

    def __init__(self, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self._record = folder / "results.jsonl"
        self._output = folder / "output.txt"
        self._record.touch()
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment, "RECORD_RESULTS": str(self._record)},
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def text(self) -> str:
        return self._output.read_text(errors="replace")

    def results(self) -> List[Result]:
        """The results so far; a last line without line feed is still being written."""
        lines = self._record.read_text().split("\n")[:-1]
        return [Result(**json.loads(line)) for line in lines]

    def wait(self, timeout: float = PATIENCE_S) -> Run:
        try:
            code = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"ansible-playbook did not end within {timeout:g} s:\n{self.text}") from None
        return Run(code, self.text, self.results())

    def kill(self) -> None:
        """kill -9 of ansible-playbook with all its workers: the controller dies. One that has ended stays as it is."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)


class Ansible:
    """A controller of the lab; its files are below ``folder``."""

    def __init__(self, inventory: Path, folder: Path) -> None:
        self.inventory = inventory
        self.folder = folder
        self._jobs: List[Job] = []
        self.environment = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).parent / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "record,keep_modules",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_SSH_ARGS": SSH,
            "ANSIBLE_TIMEOUT": "15",
            "KEEP_MODULES": str(folder / "modules"),
        }

    def start(self, playbook: str, *arguments: str, variables: Optional[Mapping[str, Any]] = None) -> Job:
        """Start a playbook, a file or one of the collection, and return at once."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        extra = ["-e", json.dumps(variables)] if variables else []
        command = [str(BIN / "ansible-playbook"), "-i", str(self.inventory), playbook, *extra, *arguments]
        self._jobs.append(Job(command, folder, self.environment))
        return self._jobs[-1]

    def kill_jobs(self) -> None:
        """Kill what a test that failed midway left running: it would go on with the hosts of the next one."""
        for job in self._jobs:
            if job.running:
                job.kill()
        self._jobs.clear()

    def start_tasks(self, hosts: str, tasks: Sequence[Mapping[str, Any]], *arguments: str, **play: Any) -> Job:
        """Start a play of tasks, each of which runs whatever became of those before."""
        text = json.dumps([{"hosts": hosts, "gather_facts": False, "ignore_errors": True, "tasks": tasks, **play}])
        handle, name = tempfile.mkstemp(dir=self.folder, suffix=".yml")
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        return self.start(name, *arguments)

    def tasks(self, hosts: str, *tasks: Mapping[str, Any], **play: Any) -> List[Dict[str, Any]]:
        """Run tasks and return their results in order."""
        run = self.start_tasks(hosts, tasks, **play).wait()
        # Fewer where a host could not be reached.
        assert len(run.results) >= len(tasks), run.text
        return [result.result for result in run.results]

    def module(self, host: str, module: str, *, check: bool = False, diff: bool = False, **options: Any) -> Any:
        """Run one module of the collection on one host and return its result, a failed one too."""
        (result,) = self.tasks(host, task(module, check=check, diff=diff, **options))
        return result

    def maintain(self, *arguments: str, **variables: Any) -> Run:
        """Run the playbook ``maintenance``; variables are given without their prefix."""
        return self.start_maintenance(*arguments, **variables).wait()

    def start_maintenance(self, *arguments: str, **variables: Any) -> Job:
        named = {f"maintenance_{key}": value for key, value in variables.items()}
        return self.start(f"{COLLECTION}.maintenance", *arguments, variables=named)


def task(module: str, *, check: bool = False, diff: bool = False, **options: Any) -> Dict[str, Any]:
    """A task with a module of the collection."""
    return {f"{COLLECTION}.{module}": options, "check_mode": check, "diff": diff}
