# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root file system of a lab host.

Outside: `write_upper` fills the writable layer once, when the host is first made; it outlives reboots. Inside the new
namespaces: `enter_root` mounts everything and pivots into it.
"""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Optional, Sequence, Tuple

from .. import cgroups
from ..domain import SHARED
from ..identity import identity_files, mode_of
from ..shell import run
from ..spec import LabSpec

SOURCE = Path(__file__).parent / "rootfs"
POWER_COMMANDS = ("reboot", "poweroff", "halt", "shutdown")
QEMU = "usr/bin/qemu-system-x86_64"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


@dataclass(frozen=True)
class RootPlan:
    """All that `enter_root` needs. Paths are the machine's; `qemu` replaces the tree's QEMU when given."""

    host: str
    tree: str
    folder: str  # holds upper/, work/ and the mount point root/
    shared: str
    qemu: Optional[str]
    unified: bool
    controllers: Tuple[str, ...]


def write_upper(spec: LabSpec, host: str, upper: Path, keys: Path, controllers: Sequence[str]) -> None:
    """Write what makes this host this host into its writable layer."""
    for path in sorted(SOURCE.rglob("*")):
        target = upper / path.relative_to(SOURCE)
        if path.is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            shutil.copyfile(path, target)
            target.chmod(0o755 if {"sbin", "init.d"} & set(target.parts) else 0o644)
    for command in POWER_COMMANDS:
        (upper / "usr/sbin" / command).symlink_to("lab-power")
    for name, text in _files(spec, host, keys, controllers).items():
        target = upper / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode_of(name))
    (upper / "root").chmod(0o700)
    (upper / "root/.ssh").chmod(0o700)


def _files(spec: LabSpec, host: str, keys: Path, controllers: Sequence[str]) -> Dict[str, str]:
    files = identity_files(spec, host, keys)
    # The freezer of version 1 is the lab's own.
    names = ", ".join(f'"{name}"' for name in controllers if name != "freezer")
    files["etc/libvirt/qemu.conf"] += f"cgroup_controllers = [ {names} ]\n"
    return files


def _mount(*arguments: str) -> None:
    run(["mount", *arguments])


def _bind(source: str, target: Path) -> None:
    _mount("--bind", source, str(target))


def enter_root(plan: RootPlan) -> None:
    """As PID 1 in fresh mount, uts, ipc, cgroup and pid namespaces: mount the host's root and make it `/`."""
    folder = Path(plan.folder)
    root = folder / "root"
    layers = f"lowerdir={plan.tree},upperdir={folder}/upper,workdir={folder}/work"
    _mount("-t", "overlay", "-o", layers, plan.host, str(root))
    _mount_system(root)
    _bind(plan.shared, _folder(root / SHARED))
    if plan.qemu:
        _bind(plan.qemu, root / QEMU)
    _mount_cgroups(plan, root / "sys/fs/cgroup")
    _new_boot_id(root)
    socket.sethostname(plan.host)
    old = _folder(root / "run/old-root")
    run(["pivot_root", str(root), str(old)])
    os.chdir("/")
    run(["umount", "-l", "/run/old-root"])
    Path("/run/old-root").rmdir()


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _mount_system(root: Path) -> None:
    _mount("-t", "proc", "proc", str(root / "proc"))
    _mount("-t", "sysfs", "sysfs", str(root / "sys"))
    _mount("-t", "tmpfs", "-o", "mode=755", "dev", str(root / "dev"))
    _mount("-t", "tmpfs", "-o", "mode=755", "run", str(root / "run"))
    _mount("-t", "tmpfs", "-o", "mode=1777", "tmp", str(root / "tmp"))
    dev = root / "dev"
    for name in DEVICES:
        (dev / name).touch()
        _bind(f"/dev/{name}", dev / name)
    if Path("/dev/net/tun").exists():
        (_folder(dev / "net") / "tun").touch()
        _bind("/dev/net/tun", dev / "net/tun")
    _mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620,gid=5", "devpts", str(_folder(dev / "pts")))
    _mount("-t", "tmpfs", "-o", "mode=1777", "shm", str(_folder(dev / "shm")))
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
    for name, target in links.items():
        (dev / name).symlink_to(target)


def _mount_cgroups(plan: RootPlan, top: Path) -> None:
    if plan.unified:
        _mount("-t", "cgroup2", "cgroup2", str(top))
        cgroups.delegate(top, plan.controllers)
        return
    _mount("-t", "tmpfs", "-o", "mode=755", "cgroups", str(top))
    for name in plan.controllers:
        _mount("-t", "cgroup", "-o", name, "cgroup", str(_folder(top / name)))


def _new_boot_id(root: Path) -> None:
    """The kernel's boot id is the machine's; programs that wait for a reboot compare it, so each start gets its own."""
    source = root / "run/boot_id"
    source.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
    _bind(str(source), root / "proc/sys/kernel/random/boot_id")
