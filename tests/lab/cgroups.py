# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Control groups of a lab: one group per host, which its processes never leave.

Two layouts exist. Version 1: one hierarchy per controller; the lab uses those libvirt needs for pinning and leaves
memory and pids to the machine's own supervisor. Version 2 (ordinary distributions): one hierarchy; the lab makes a
delegated subtree, and because a group with processes cannot pass controllers on, a host's PID 1 moves into a leaf
called `init`.

All lab groups lie under `<root>/kfl/<lab>/`; that is also how leftover processes are found.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import List, Sequence, Set

from .shell import LabError
from .spec import PREFIX

ROOT = Path("/sys/fs/cgroup")
V1_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "devices", "freezer")
V2_CONTROLLERS = ("cpu", "cpuset")
LEAF = "init"
GONE = (errno.ENOENT, errno.ENODEV)  # the folder of a group that is removed, and a file of it
HELPERS = "supervisors"  # group of the processes that watch the hosts


class Cgroups:
    """The groups of the lab called `lab` below the cgroup file systems at `root`."""

    def __init__(self, lab: str, root: Path = ROOT) -> None:
        self.lab = lab
        self.root = root

    @property
    def unified(self) -> bool:
        """Whether the machine has version 2 only."""
        return (self.root / "cgroup.controllers").exists()

    def controllers(self) -> Sequence[str]:
        """What hosts get: the version 1 hierarchies to mount, or the version 2 controllers passed on."""
        if self.unified:
            have = (self.root / "cgroup.controllers").read_text().split()
            return [name for name in V2_CONTROLLERS if name in have]
        return [name for name in V1_CONTROLLERS if (self.root / name / "cgroup.procs").exists()]

    def _hierarchies(self) -> List[Path]:
        if self.unified:
            return [self.root]
        found = [self.root / name for name in self.controllers()]
        if not found:
            raise LabError(f"{self.root}: no usable cgroup hierarchy; mount cgroup2, or cpu, cpuset and freezer of v1")
        return found

    def _group(self, hierarchy: Path, part: str) -> Path:
        return hierarchy / PREFIX / self.lab / part

    def create(self, part: str) -> None:
        """Make the group of a host (or of the lab's own helpers) with its controllers usable."""
        for hierarchy in self._hierarchies():
            for attempt in range(10):
                try:
                    self._create_below(hierarchy, part)
                    break
                except OSError as error:
                    # Another lab has just gone, and the parent of all labs with it
                    if error.errno not in GONE or attempt == 9:
                        raise

    def _create_below(self, hierarchy: Path, part: str) -> None:
        path = hierarchy
        for name in (PREFIX, self.lab, part):
            if self.unified:
                self._pass_on(path)
            parent, path = path, path / name
            path.mkdir(exist_ok=True)
            if not self.unified and hierarchy.name == "cpuset":
                _inherit_cpuset(parent, path)

    def _pass_on(self, group: Path) -> None:
        wanted = " ".join(f"+{name}" for name in self.controllers())
        try:
            (group / "cgroup.subtree_control").write_text(wanted)
        except OSError as error:
            if error.errno in GONE:
                raise
            raise LabError(
                f"{group}: cannot pass controllers on ({error.strerror}); in a container, its processes must first move"
                " out of the container's top group"
            ) from error

    def enter(self, part: str, pid: int) -> None:
        """Move a process into the group."""
        for path in self._entries(part):
            path.write_text(str(pid))

    def entering(self, part: str) -> List[str]:
        """Prefix of a command that runs in the group. (Python's preexec_fn could hang in a program with threads.)"""
        paths = [str(path) for path in self._entries(part)]
        script = 'until [ "$1" = -- ]; do echo $$ > "$1" || exit 125; shift; done; shift; exec "$@"'
        return ["sh", "-c", script, "enter", *paths, "--"]

    def _entries(self, part: str) -> List[Path]:
        groups = [self._group(hierarchy, part) for hierarchy in self._hierarchies()]
        if self.unified:
            groups = [group / LEAF if (group / LEAF).is_dir() else group for group in groups]
        return [group / "cgroup.procs" for group in groups]

    def pids(self, part: str = "") -> List[int]:
        """All processes in the group and the groups below, of the whole lab by default."""
        found: Set[int] = set()
        for hierarchy in self._hierarchies():
            for folder, _dirs, _files in os.walk(self._group(hierarchy, part)):
                try:
                    found.update(map(int, (Path(folder) / "cgroup.procs").read_text().split()))
                except OSError:
                    continue  # the group has just gone
        return sorted(found)

    def kill(self, part: str = "", timeout: float = 15) -> None:
        """Kill every process of the group and wait until all have ended. Raises LabError naming those that stay."""
        end = time.monotonic() + timeout
        while True:
            left = [pid for pid in self.pids(part) if pid != os.getpid()]
            if not left:
                return
            if time.monotonic() > end:
                raise LabError(f"lab {self.lab}: processes {left} do not end after SIGKILL; see ps -o pid,stat,wchan")
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)

    def remove(self, part: str = "") -> None:
        """Remove the group, those below, and the common parents if nothing else is in them."""
        for hierarchy in self._hierarchies():
            top = self._group(hierarchy, part)
            for folder, _dirs, _files in os.walk(top, topdown=False):
                _rmdir(Path(folder))
            if not part:
                _rmdir(hierarchy / PREFIX, patient=False)

    def exists(self, part: str = "") -> bool:
        return any(self._group(hierarchy, part).is_dir() for hierarchy in self._hierarchies())


def delegate(top: Path, controllers: Sequence[str], timeout: float = 10) -> None:
    """Version 2, as PID 1 of a host, `top` being the host's own group: move into the leaf and pass the controllers on.

    The helper that made the namespaces is in the group, too, until the supervisor has moved it away: until then the
    kernel answers EBUSY.
    """
    leaf = top / LEAF
    leaf.mkdir(exist_ok=True)
    (leaf / "cgroup.procs").write_text(str(os.getpid()))
    end = time.monotonic() + timeout
    while True:
        try:
            (top / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > end:
                raise LabError(f"cannot pass cgroup controllers on to the host: {error.strerror}") from error
            time.sleep(0.02)


def _inherit_cpuset(parent: Path, group: Path) -> None:
    """A new version 1 cpuset group has no CPUs and takes no process until it gets some."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not (group / name).exists() or not (group / name).read_text().strip():
            (group / name).write_text((parent / name).read_text())


def _rmdir(path: Path, patient: bool = True) -> None:
    """Remove a group; the kernel refuses for a moment after its last process has ended."""
    for _attempt in range(40 if patient else 1):
        try:
            path.rmdir()
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.05 if patient else 0)
