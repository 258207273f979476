# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod: a host whose processes are the machine's own, in namespaces and a control group."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import List, Optional, Sequence, Union

from .. import network
from ..domain import ON_POD, Surroundings
from ..host import PROJECT, Base, GuestProcess, Host, guest_of
from ..shell import LabError, run, wait_for
from ..tree import cache_dir
from .cpu_patch import DEFAULT_VENDOR, CpuChange, patched_qemu
from .rootfs import QEMU, RootPlan, write_upper


class PodHost(Host):
    """One pod."""

    @property
    def surroundings(self) -> Surroundings:
        return ON_POD

    def command(self, argv: Union[str, Sequence[str]]) -> List[str]:
        pid = self.pid()
        if pid is None:
            raise LabError(f"{self.name} is off; `up` or `power-on {self.name}` starts it")
        words = ["sh", "-c", argv] if isinstance(argv, str) else list(argv)
        flags = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"]
        return [*self.groups.entering(self.name), "nsenter", "--target", str(pid), *flags, *words]

    def start(self, base: Base, *, cold: bool = False) -> None:
        del cold  # a pod has no snapshot
        network.create_host(self.spec, self.name)
        self.set_link_rate(self.options.link)
        if self.pid() is not None:
            return
        self.folder.mkdir(exist_ok=True)
        # A supervisor may live while its host does not (a start that went wrong).
        self.groups.kill(self.name)
        self._write_files(base.tree)
        with (self.folder / "console.log").open("a", encoding="utf-8") as log:
            subprocess.Popen(
                [sys.executable, "-m", "tests.lab.pod.supervisor", str(self.folder.parent), self.name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=PROJECT,
                start_new_session=True,
            )

    def _write_files(self, tree: Path) -> None:
        controllers = tuple(self.groups.controllers())
        for part in ("work", "root"):
            (self.folder / part).mkdir(exist_ok=True)
        upper, partial = self.folder / "upper", self.folder / "upper.partial"
        if not upper.exists():
            run(["rm", "-rf", str(partial)])
            write_upper(self.spec, self.name, partial, self.folder.parent / "keys", controllers)
            partial.rename(upper)
        change = CpuChange(self.options.without, self.options.vendor or DEFAULT_VENDOR)
        qemu = patched_qemu(tree / QEMU, change, cache_dir()) if change != CpuChange() else None
        plan = RootPlan(
            host=self.name,
            tree=str(tree),
            folder=str(self.folder),
            shared=str(self.folder.parent / "shared"),
            qemu=str(qemu) if qemu else None,
            unified=self.groups.unified,
            controllers=controllers,
        )
        (self.folder / "plan.json").write_text(json.dumps(asdict(plan)), encoding="utf-8")

    def power_off(self) -> None:
        self.groups.kill(self.name)

    def shut_down(self) -> None:
        """Stop the host in order, services first; cut the power when that takes too long."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGUSR2)
            try:
                wait_for(f"{self.name} to stop", lambda: self.pid() is None, 15)
            except LabError:
                self.power_off()

    def guests(self) -> List[GuestProcess]:
        found = []
        for pid in self.pids():
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
                guest = guest_of(words)
                if guest:
                    found.append(GuestProcess(guest, pid))
        return found

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    def kill_libvirtd(self) -> None:
        for pid in self._libvirtd():
            os.kill(pid, signal.SIGKILL)
        wait_for(f"libvirtd of {self.name} to end", lambda: not self._libvirtd(), 10)

    def _libvirtd(self) -> List[int]:
        found = []
        for pid in self.pids():
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == "libvirtd":
                    found.append(pid)
        return found

    def set_link_rate(self, rate: Optional[str]) -> None:
        network.set_rate([], self.spec.veth(self.name), rate)
        network.set_rate(["-n", self.spec.netns(self.name)], "eth0", rate)
