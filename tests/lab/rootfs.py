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

from . import cgroups
from .shell import run
from .spec import LabSpec

SOURCE = Path(__file__).parent / "rootfs"
POWER_COMMANDS = ("reboot", "poweroff", "halt", "shutdown")
QEMU = "usr/bin/qemu-system-x86_64"
SHARED = "srv/lab"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
# Folders of the tree that hold what package scripts of another life left.
EMPTIED = ("var/lib/libvirt", "var/log/libvirt", "var/cache/libvirt")

LIBVIRTD_CONF = """\
listen_tls = 0
listen_tcp = 0
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
host_uuid = "{uuid}"
log_level = 3
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
"""

# No virtlogd and no security driver: neither runs without systemd, and the hosts share one kernel.
QEMU_CONF = """\
security_driver = "none"
user = "root"
group = "root"
stdio_handler = "file"
remember_owner = 0
set_process_name = 1
migration_address = "{address}"
migration_host = "{address}"
cgroup_controllers = [ {controllers} ]
"""


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
        target.chmod(0o600 if name.endswith(("_key", "/id_ed25519", "/authorized_keys")) else 0o644)
    (upper / "root").chmod(0o700)
    (upper / "root/.ssh").chmod(0o700)


def _files(spec: LabSpec, host: str, keys: Path, controllers: Sequence[str]) -> Dict[str, str]:
    address = spec.address(host)
    hosts = "".join(f"{spec.address(name)} {name}\n" for name in spec.possible_hosts())
    return {
        "etc/hostname": f"{host}\n",
        "etc/hosts": f"127.0.0.1 localhost\n{hosts}",
        "etc/machine-id": spec.host_uuid(host).replace("-", "") + "\n",
        "etc/resolv.conf": "",
        "etc/libvirt/libvirtd.conf": LIBVIRTD_CONF.format(uuid=spec.host_uuid(host)),
        "etc/libvirt/qemu.conf": QEMU_CONF.format(
            address=address, controllers=", ".join(f'"{name}"' for name in controllers if name != "freezer")
        ),
        "etc/ssh/ssh_host_ed25519_key": (keys / f"{host}_key").read_text(),
        "etc/ssh/ssh_host_ed25519_key.pub": (keys / f"{host}_key.pub").read_text(),
        "etc/ssh/ssh_known_hosts": (keys / "known_hosts").read_text(),
        "root/.ssh/id_ed25519": (keys / "id_ed25519").read_text(),
        "root/.ssh/authorized_keys": (keys / "id_ed25519.pub").read_text(),
    }


def make_keys(spec: LabSpec, keys: Path) -> None:
    """One key pair for root everywhere in the lab, one host key per possible host, and the known_hosts of them all."""
    keys.mkdir(mode=0o700, exist_ok=True)
    names = ["id_ed25519", *(f"{host}_key" for host in spec.possible_hosts())]
    for name in names:
        if not (keys / name).exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"lab {spec.name}", "-f", str(keys / name)])
    lines = []
    for host in spec.possible_hosts():
        kind, key = (keys / f"{host}_key.pub").read_text().split()[:2]
        lines.append(f"{host},{spec.address(host)} {kind} {key}\n")
    (keys / "known_hosts").write_text("".join(lines), encoding="utf-8")


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
