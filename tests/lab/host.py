# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of a running lab: run commands in it, start and stop it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, List, Optional, Sequence, Union

from . import network
from .cgroups import Cgroups
from .cpu_patch import patched_qemu
from .rootfs import QEMU, RootPlan, write_upper
from .shell import LabError, failure, run, wait_for
from .spec import HostOptions, LabSpec
from .tree import cache_dir

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TERM": "dumb",
    "LANG": "C.UTF-8",
}
START_TIMEOUT = 90.0


class Host:
    """One hypervisor. `folder` is its place in the lab's state folder."""

    def __init__(self, spec: LabSpec, name: str, folder: Path) -> None:
        self.spec = spec
        self.name = name
        self.folder = folder
        self.groups = Cgroups(spec.name)

    @property
    def options(self) -> HostOptions:
        return self.spec.hosts[self.name]

    @property
    def address(self) -> str:
        return self.spec.address(self.name)

    @property
    def uuid(self) -> str:
        """Host UUID as libvirt reports it."""
        return self.spec.host_uuid(self.name)

    def pid(self) -> Optional[int]:
        """The machine's number of the host's PID 1; None when the host is off."""
        try:
            pid = int((self.folder / "pid").read_text())
        except (OSError, ValueError):
            return None
        return pid if pid in self.groups.pids(self.name) else None

    def pids(self) -> List[int]:
        """All processes of the host, in the machine's numbers."""
        return self.groups.pids(self.name)

    def command(self, argv: Union[str, Sequence[str]]) -> List[str]:
        """The machine's command that runs `argv` (a string goes to a shell) in the host's namespaces and control group.

        Raises LabError when the host is off.
        """
        pid = self.pid()
        if pid is None:
            raise LabError(f"{self.name} is off; `up` or `power-on {self.name}` starts it")
        words = ["sh", "-c", argv] if isinstance(argv, str) else list(argv)
        flags = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
        return [*self.groups.entering(self.name), "nsenter", "--target", str(pid), *flags, *words]

    def popen(self, argv: Union[str, Sequence[str]], **options: Any) -> subprocess.Popen[str]:
        """Start a command in the host and return at once; `options` are those of subprocess.Popen."""
        process: subprocess.Popen[str] = subprocess.Popen(
            self.command(argv), **{"text": True, "env": ENVIRONMENT, **options}
        )
        return process

    def run(
        self, argv: Union[str, Sequence[str]], *, check: bool = True, timeout: float = 60, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the host; return its text output. Raises LabError as shell.run does."""
        process = self.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with process:
            try:
                out, err = process.communicate(stdin, timeout=timeout)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise LabError(f"{self.name}: {argv}: no end after {timeout:g} s") from error
        if check and process.returncode:
            words = ["sh", "-c", argv] if isinstance(argv, str) else argv
            raise LabError(f"{self.name}: {failure(words, process.returncode, err or out)}")
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def virsh(self, *arguments: str, check: bool = True, timeout: float = 60) -> str:
        """Output of virsh on this host, without the last line feed."""
        return self.run(
            ["virsh", "-q", "-c", "qemu:///system", *arguments], check=check, timeout=timeout
        ).stdout.rstrip("\n")

    def answers(self) -> bool:
        """Whether libvirtd of this host answers."""
        try:
            return self.run(["virsh", "-q", "-c", "qemu:///system", "version"], check=False, timeout=15).returncode == 0
        except LabError:
            return False

    def start(self, tree: Path, shared: Path) -> None:
        """Make the host's files, network and control group as far as missing, and start it. Does not wait."""
        network.create_host(self.spec, self.name)
        network.set_rate(self.spec, self.name, self.options.link)
        if self.pid() is not None:
            return
        self.folder.mkdir(exist_ok=True)
        # A supervisor may live while its host does not (a start that went wrong).
        self.groups.kill(self.name)
        self._write_files(tree, shared)
        with (self.folder / "console.log").open("a", encoding="utf-8") as log:
            subprocess.Popen(
                [sys.executable, "-m", "tests.lab.supervisor", str(self.folder.parent), self.name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=PROJECT,
                start_new_session=True,
            )

    def _write_files(self, tree: Path, shared: Path) -> None:
        controllers = tuple(self.groups.controllers())
        for part in ("work", "root"):
            (self.folder / part).mkdir(exist_ok=True)
        upper, partial = self.folder / "upper", self.folder / "upper.partial"
        if not upper.exists():
            run(["rm", "-rf", str(partial)])
            write_upper(self.spec, self.name, partial, self.folder.parent / "keys", controllers)
            partial.rename(upper)
        qemu = patched_qemu(tree / QEMU, self.options.without, cache_dir()) if self.options.without else None
        plan = RootPlan(
            host=self.name,
            tree=str(tree),
            folder=str(self.folder),
            shared=str(shared),
            qemu=str(qemu) if qemu else None,
            unified=self.groups.unified,
            controllers=controllers,
        )
        (self.folder / "plan.json").write_text(json.dumps(asdict(plan)), encoding="utf-8")

    def wait_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until libvirtd answers. Raises LabError with the end of the host's console otherwise."""
        try:
            wait_for(f"libvirtd of {self.name}", self.answers, timeout)
        except LabError as error:
            raise LabError(f"{error}\n{self.console()}") from error

    def console(self, lines: int = 15) -> str:
        """The end of what the host's supervisor and init printed."""
        path = self.folder / "console.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def power_off(self) -> None:
        """Cut the power: every process of the host ends at once; its disk (/etc, /var, …) stays."""
        self.groups.kill(self.name)

    def shut_down(self, timeout: float = 15) -> None:
        """Stop the host in order: services first. Cuts the power when that takes longer than `timeout` seconds."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGUSR2)
            try:
                wait_for(f"{self.name} to stop", lambda: self.pid() is None, timeout)
            except LabError:
                self.power_off()
