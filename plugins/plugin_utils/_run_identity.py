# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which run of ansible-playbook this is, whose it is, and whether another one on this controller has ended."""

from __future__ import annotations

import getpass
import hashlib
import multiprocessing
import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROC = Path("/proc")


def main_process() -> int:
    """Return the process of ansible-playbook, of which a worker is a fork.

    Unlike the parent that the system names, it stays the same after ansible-playbook was killed.
    """
    parent = multiprocessing.parent_process()
    return os.getpid() if parent is None or parent.pid is None else parent.pid


def run_name(pid: int) -> str:
    """Return a name that no other process on any controller has, the same whenever it is asked for."""
    host = _host()
    unique = hashlib.sha256(f"{_system() or host} {pid} {_start(pid)}".encode()).hexdigest()[:12]
    return f"{host}-{pid}-{unique}"


def controller_of(pid: int) -> str | None:
    """Return what ``has_ended`` is to be asked with, None where it could not tell."""
    system = _system()
    return None if system is None else f"{system} {pid} {_start(pid)}"


def has_ended(controller: str | None) -> bool:
    """Return whether the process is one of this controller that is known to exist no more."""
    system, pid, start = (*(controller or "").split(), "", "", "")[:3]
    if not system or system != _system() or not pid.isdecimal() or int(pid) == 0:
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        # It is another user's, whose processes may be hidden.
        pass
    state, found = _stat(int(pid))
    return state in ("Z", "X") or ("" not in (found, start) and found != start)


def owner(variables: Mapping[str, Any]) -> str:
    """Return who runs this: the job of AWX or its kin with its user, else the user with the controller's name."""
    job = variables.get("awx_job_id") or variables.get("tower_job_id")
    if not job:
        return f"{_user()}@{_host()}"
    user = variables.get("awx_user_name") or variables.get("tower_user_name")
    return f"{user}, AWX job {job}" if user else f"AWX job {job}"


def _user() -> str:
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        # A container may run under a number that has no name.
        return f"uid {os.getuid()}"


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def _system() -> str | None:
    """Return what is the same for two processes only if either can look for the other by its number and start.

    Numbers belong to a namespace of processes, starts to a boot and a namespace of times.
    """
    try:
        if (PROC / "self").readlink() != Path(str(os.getpid())):
            # Mounted for another namespace.
            return None
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        processes = (PROC / "self/ns/pid").readlink()
        times = PROC / "self/ns/time"
        return f"{socket.gethostname()}/{boot}/{processes}/{times.readlink() if times.exists() else ''}"
    except OSError:
        return None


def _start(pid: int) -> str:
    found = _stat(pid)[1]
    if found or PROC.is_dir():
        return found
    # A controller without /proc
    command = ["ps", "-o", "lstart=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"LC_ALL": "C"}).stdout.strip()


def _stat(pid: int) -> tuple[str, str]:
    """Return a process's state and when it began, in ticks since the boot; empty if it cannot be read."""
    try:
        # The name of the program, in brackets, may hold anything.
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]
