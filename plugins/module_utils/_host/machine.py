# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What the kernel and the host's files tell beside libvirt: isolated CPUs, shared storage, bridges."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

from . import files

# virFileIsSharedFSType in libvirt's src/util/virfile.c, by the names in /proc/self/mounts.
SHARED_FILE_SYSTEMS = (
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "gfs2", "ocfs2", "afs", "ceph", "fuse.ceph", "gpfs", "acfs",
    "fuse.glusterfs", "fuse.quobyte", "quobyte", "lustre", "beegfs",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """Facts about this machine; sets of CPUs are in cpuset notation, ``bridges`` are network interfaces.

    ``machine_cpus`` are the CPUs that systemd lets virtual machines use, ``None`` where it does not say.
    """

    online_cpus: str
    isolated_cpus: str
    machine_cpus: Optional[str]
    kernel: str
    bridges: Tuple[str, ...]


def read_machine(root: Path = Path("/")) -> Machine:
    """Read the facts; what the kernel does not offer is empty."""
    cpus = root / "sys/devices/system/cpu"
    online, isolated = ((files.read_text(cpus / name) or "").strip() for name in ("online", "isolated"))
    allowed = files.read_text(root / "sys/fs/cgroup/machine.slice/cpuset.cpus.effective")
    network = root / "sys/class/net"
    bridges = tuple(sorted(path.parent.name for path in network.glob("*/bridge")))
    return Machine(online, isolated, (allowed or "").strip() or None, os.uname().release, bridges)


def on_shared_storage(path: str, root: Path = Path("/")) -> bool:
    """Tell whether libvirt takes ``path`` for shared storage: by its file system, or because qemu.conf says so."""
    if any(_is_below(path, shared) for shared in _configured_as_shared(root)):
        return True
    return _file_system_of(path, root) in SHARED_FILE_SYSTEMS


def _configured_as_shared(root: Path) -> Tuple[str, ...]:
    # shared_filesystems of qemu.conf, since libvirt 10.8.0.
    text = files.read_text(root / "etc/libvirt/qemu.conf") or ""
    found = re.search(r"^\s*shared_filesystems\s*=\s*\[(.*?)\]", text, re.MULTILINE | re.DOTALL)
    return tuple(re.findall(r'"([^"]+)"', found.group(1))) if found else ()


def _file_system_of(path: str, root: Path) -> Optional[str]:
    best: Tuple[int, Optional[str]] = (-1, None)
    for line in (files.read_text(root / "proc/self/mounts") or "").splitlines():
        _device, mount_point, file_system = line.split()[:3]
        mount_point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal.group(1), 8)), mount_point)
        # The last of several mounts on one point is the one that shows.
        if _is_below(path, mount_point) and len(mount_point) >= best[0]:
            best = (len(mount_point), file_system)
    return best[1]


def _is_below(path: str, directory: str) -> bool:
    directory = directory.rstrip("/")
    return path == directory or path.startswith(directory + "/")
