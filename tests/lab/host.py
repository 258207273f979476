# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host of a running lab, whatever its kind: run commands in it, start and stop it."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple, Union

from . import network
from .cgroups import Cgroups
from .domain import Surroundings
from .shell import LabError, failure, wait_for
from .spec import HostOptions, LabSpec

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "TERM": "dumb",
    "LANG": "C.UTF-8",
}
LIBVIRT = ("virsh", "-q", "-c", "qemu:///system")
PATIENCE = 180.0  # seconds after which a command counts as hanging, on a machine that has other things to do


@dataclass(frozen=True)
class Base:
    """What hosts are made from, in the cache: the Debian tree, the guests' image, and the disk of machines."""

    tree: Path
    image: Path
    disk: Optional[Path] = None


@dataclass(frozen=True)
class GuestProcess:
    """A QEMU process in a host; `pid` is a number of the process list that `Host.kill` takes."""

    guest: str
    pid: int


class Host(ABC):
    """One hypervisor. `folder` is its place in the lab's state folder."""

    ready_timeout = 90.0

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
        """The first process of the host, in the machine's numbers; None when the host is off."""
        try:
            pid = int((self.folder / "pid").read_text())
        except (OSError, ValueError):
            return None
        return pid if pid in self.pids() else None

    def pids(self) -> List[int]:
        """All processes of the host, in the machine's numbers."""
        return self.groups.pids(self.name)

    @property
    @abstractmethod
    def surroundings(self) -> Surroundings:
        """What the host does to all its guests."""

    @abstractmethod
    def command(self, argv: Union[str, Sequence[str]]) -> List[str]:
        """The machine's command that runs `argv` (a string goes to a shell) in the host.

        Raises LabError when the host is off.
        """

    def popen(self, argv: Union[str, Sequence[str]], **options: Any) -> subprocess.Popen[str]:
        """Start a command in the host and return at once; `options` are those of subprocess.Popen."""
        process: subprocess.Popen[str] = subprocess.Popen(
            self.command(argv), **{"text": True, "env": ENVIRONMENT, **options}
        )
        return process

    def run(
        self, argv: Union[str, Sequence[str]], *, check: bool = True, timeout: float = PATIENCE, stdin: str = ""
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

    def virsh(self, *arguments: str, check: bool = True, timeout: float = PATIENCE) -> str:
        """Output of virsh on this host, without the last line feed."""
        return self.run([*LIBVIRT, *arguments], check=check, timeout=timeout).stdout.rstrip("\n")

    def answers(self) -> bool:
        """Whether libvirtd of this host answers."""
        try:
            return self.run([*LIBVIRT, "version"], check=False, timeout=15).returncode == 0
        except LabError:
            return False

    @abstractmethod
    def start(self, base: Base, *, cold: bool = False) -> None:
        """Make what the host needs as far as missing, plug its cable, and start it unless it runs.

        The host may not answer yet. `cold`: boot it even if there is a snapshot of a booted one.
        """

    def wait_ready(self) -> None:
        """Wait until libvirtd answers. Raises LabError with the end of the host's console otherwise."""
        try:
            wait_for(f"libvirtd of {self.name}", self.answers, self.ready_timeout)
        except LabError as error:
            raise LabError(f"{error}\n{self.console()}") from error

    def console(self, lines: int = 15) -> str:
        """The end of what the host printed while it started."""
        path = self.folder / "console.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    @abstractmethod
    def power_off(self) -> None:
        """Cut the power: every process of the host ends at once; its disk stays."""

    @abstractmethod
    def shut_down(self) -> None:
        """Stop the host for good, before its files are removed."""

    @abstractmethod
    def guests(self) -> Sequence[GuestProcess]:
        """QEMU processes of guests, from the process list: libvirt is not asked."""

    @abstractmethod
    def kill(self, pid: int) -> None:
        """kill -9 of a guest's process."""

    @abstractmethod
    def kill_libvirtd(self) -> None:
        """kill -9 of libvirtd; the guests keep running and nothing starts it again."""

    @abstractmethod
    def set_link_rate(self, rate: Optional[str]) -> None:
        """Limit the host's link in both directions to `rate` (tc notation), or lift the limit with None."""

    def set_link(self, up: bool) -> None:
        """Plug or pull the host's network cable."""
        network.set_link(self.spec, self.name, up)


def guest_of(arguments: Sequence[str]) -> Optional[str]:
    """Name of the guest that a process with this command line is the QEMU of."""
    if not arguments or "qemu-system" not in arguments[0] or "-name" not in arguments[:-1]:
        return None
    words: Tuple[str, ...] = tuple(arguments[arguments.index("-name") + 1].split(","))
    found = [word.partition("=")[2] for word in words if word.startswith("guest=")]
    return found[0] if found else None
