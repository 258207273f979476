# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The threads of a VM's process: which they are, and where the kernel lets them run.

QEMU names its threads in /proc, and libvirt makes it do so (``debug-threads=on``).
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import FrozenSet, Optional, Tuple

from .._errors import FleetError
from .._topology import parse_cpuset

VCPU, EMULATOR, IOTHREAD, HELPER = "vcpu", "emulator", "iothread", "helper"

# "CPU 3/KVM" and "CPU 3/TCG" in QEMU's kvm_start_vcpu_thread and mttcg_start_vcpu_thread.
_VCPU = re.compile(r"CPU ([0-9]+)/")
# "IO " and the alias that libvirt gives the object (qemuDomainAssignIOThreadAlias).
_IOTHREAD = re.compile(r"IO iothread([0-9]+)\Z")

# "kvm-nx-lpage-recovery", as much as a thread's name holds: made by the vCPU that runs first, in its control group, to
# split huge pages now and then (kvm_mmu_start_lpage_recovery in the kernel).
_OF_KVM = "kvm-nx-lpage-re"

# The group of a process's first thread below that of its VM (virDomainCgroupSetupThread).
OF_EMULATOR = "emulator"


@dataclass(frozen=True)
class Thread:
    """A thread of a QEMU process. ``number`` is that of the vCPU or I/O thread, ``cpus`` where the kernel lets it run.

    The ``emulator`` is the process's first thread, a ``helper`` any other that is neither vCPU nor I/O thread: libvirt
    puts those where the emulator is, but only by means of control groups.
    """

    kind: str
    number: Optional[int]
    cpus: FrozenSet[int]


@dataclass(frozen=True)
class Process:
    """The process of a VM; ``allowed`` are the CPUs that its control group leaves it, ``None`` where none says so."""

    pid: int
    threads: Tuple[Thread, ...]
    allowed: Optional[FrozenSet[int]] = None


def read_process(name: str, uuid: str, root: Path = Path("/")) -> Optional[Process]:
    """Return the process of a running VM, or ``None`` if there is none that is this VM's for certain."""
    pid = find_pid(name, uuid, root)
    if pid is None:
        return None
    found = [_read_thread(path, pid) for path in _numbered(root / f"proc/{pid}/task")]
    threads = tuple(thread for thread in found if thread is not None)
    process = Process(pid, threads, allowed_cpus(pid, root))
    # A process that has ended meanwhile, and whose number another may have by now, has not been read.
    return process if threads and _is_of(pid, uuid, root) else None


def find_pid(name: str, uuid: str, root: Path = Path("/")) -> Optional[int]:
    """Return the number of a VM's process as libvirt's QEMU driver recorded it, if that process carries its UUID."""
    text = read_text(root / f"run/libvirt/qemu/{name}.pid").strip()
    return int(text) if text.isdigit() and _is_of(int(text), uuid, root) else None


def _is_of(pid: int, uuid: str, root: Path) -> bool:
    return uuid in read_text(root / f"proc/{pid}/cmdline").split("\0")


def _numbered(directory: Path) -> Tuple[Path, ...]:
    with suppress(OSError):
        return tuple(sorted(directory.iterdir(), key=lambda path: int(path.name)))
    return ()


def _read_thread(directory: Path, pid: int) -> Optional[Thread]:
    """Return a thread, or ``None`` for one that has ended: QEMU starts helpers for moments."""
    return parse_thread(read_text(directory / "comm"), read_text(directory / "status"), int(directory.name) == pid)


def parse_thread(comm: str, status: str, first: bool) -> Optional[Thread]:
    """Return a thread from its name and its ``status``; ``None`` if that does not say where it may run.

    One that the kernel made for itself is ``None``, too: its vCPU takes it along.
    """
    allowed = re.search(r"^Cpus_allowed_list:\s*([0-9,-]+)\s*$", status, re.MULTILINE)
    if allowed is None or (comm.startswith(_OF_KVM) and not first):
        return None
    kind, number = _role(comm.strip(), first)
    return Thread(kind, number, parse_cpuset(allowed[1]))


def _role(comm: str, first: bool) -> Tuple[str, Optional[int]]:
    # libvirt names the first thread after the VM, which may be called anything.
    if first:
        return EMULATOR, None
    for kind, pattern in ((VCPU, _VCPU), (IOTHREAD, _IOTHREAD)):
        found = pattern.match(comm)
        if found:
            return kind, int(found[1])
    return HELPER, None


def allowed_cpus(pid: int, root: Path = Path("/")) -> Optional[FrozenSet[int]]:
    """Return the CPUs that the control group of a VM allows it, whatever its threads are pinned to.

    libvirt keeps each kind of threads in a group of its own below that of the VM, and writes the pins there.
    """
    group = parse_cgroup(read_text(root / f"proc/{pid}/cgroup"))
    if group is None:
        return None
    hierarchy, path = group
    file = "cpuset.cpus.effective" if not hierarchy else "cpuset.effective_cpus"
    folder = root / "sys/fs/cgroup" / hierarchy
    own = Path(path.lstrip("/"))
    for place in own.parents if own.name == OF_EMULATOR else (own, *own.parents):
        text = read_text(folder / place / file)
        if text.strip():
            with suppress(FleetError):
                return parse_cpuset(text.strip())
    return None


def parse_cgroup(text: str, controller: str = "cpuset") -> Optional[Tuple[str, str]]:
    """Return the hierarchy with a controller ("" for version 2) and a process's path in it."""
    rows = [line.split(":", 2) for line in text.splitlines() if line.count(":") >= 2]
    for row in rows:
        if controller in row[1].split(","):
            return row[1], row[2]
    return next((("", row[2]) for row in rows if row[0] == "0"), None)


def read_text(path: Path) -> str:
    """Return a file of the kernel, "" for one that is not there (any more) or not for us."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
