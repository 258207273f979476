# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run programs of the machine, with errors a person can act on."""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Callable, Iterator, Optional, Sequence, TextIO

Progress = Callable[[str], None]

# Prefix of a command that is killed when the process that starts it ends, for whatever reason.
DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")

UNREACHABLE = ("Could not resolve", "Couldn't download", "Temporary failure", "Failed getting", "Failed to fetch")


class LabError(Exception):
    """The lab cannot do what was asked; the text names the object, the cause and the next step."""


def say(text: str) -> None:
    """Print one line of progress at once, to stderr: stdout belongs to answers."""
    sys.stderr.write(text + "\n")  # one write, so that lines of several threads do not mix
    sys.stderr.flush()


def run(argv: Sequence[str], *, check: bool = True, timeout: Optional[float] = 120) -> subprocess.CompletedProcess[str]:
    """Run a short command and return its captured text output.

    Raises LabError when the command is missing, does not end within `timeout` seconds, or (with `check`) fails.
    """
    try:
        done = subprocess.run(
            list(argv), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise LabError(f"{argv[0]}: command not found; install the package that provides it") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{shlex.join(argv)}: no end after {timeout} s") from error
    if check and done.returncode:
        raise LabError(failure(argv, done.returncode, done.stderr or done.stdout))
    return done


def stream(argv: Sequence[str], log: Path, progress: Progress, *, every: float = 3.0) -> None:
    """Run a long command in its own process namespace; show a line of its output every `every` seconds.

    The namespace makes the whole process tree end with this process, even if this process is killed.
    The full output goes to the file `log`. Raises LabError with the last lines when the command fails.
    """
    shown = 0.0
    tail: list[str] = []
    process = subprocess.Popen(
        [*DIE_WITH_PARENT, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C", LANG="C"),
    )
    with process, log.open("a", encoding="utf-8") as sink:
        for line in process.stdout or ():
            sink.write(line)
            tail = [*tail[-14:], line.rstrip()]
            if line.strip() and time.monotonic() - shown > every:
                progress(f"    {line.rstrip()[:110]}")
                shown = time.monotonic()
    if process.returncode:
        raise LabError(failure(argv, process.returncode, "\n".join(tail)) + f"\n(full output: {log})")


def failure(argv: Sequence[str], code: int, output: str) -> str:
    """Say which command failed, what it said, and what usually helps."""
    text = f"{shlex.join(argv)} failed with {code}: {output.strip() or 'no output'}"
    hint = hint_for(output)
    return f"{text}\n{hint}" if hint else text


def hint_for(output: str) -> str:
    """The next step for causes that users of the lab run into."""
    if os.strerror(errno.ENOSPC) in output:
        return "The disk is full: free space, or choose other places with KVM_FLEET_LAB_CACHE and KVM_FLEET_LAB_STATE."
    if "unshare failed" in output or ("mount" in output and os.strerror(errno.EPERM).lower() in output.lower()):
        return "The lab needs real root with the right to make namespaces and mounts (in a container: --privileged)."
    if "wrong fs type" in output and "overlay" in output:
        return "Overlay does not work on this file system: set KVM_FLEET_LAB_STATE to a place on ext4, xfs or tmpfs."
    if any(text in output for text in UNREACHABLE):
        return "The Debian mirror cannot be reached: check the network, or name another one with --mirror."
    return ""


def wait_for(what: str, ready: Callable[[], bool], timeout: float, interval: float = 0.1) -> None:
    """Poll `ready` until it is true; raise LabError naming `what` after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > end:
            raise LabError(f"gave up waiting for {what} after {timeout:g} s")
        time.sleep(interval)


@contextmanager
def file_lock(path: Path, timeout: float = 900) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`; the lock dies with its holder, who may remove the file.

    Raises LabError when another process holds it for longer than `timeout` seconds.
    """
    end = time.monotonic() + timeout
    while True:
        with _opened(path) as handle:
            if _try_lock(handle) and _is_file(handle, path):
                yield
                return
        if time.monotonic() > end:
            raise LabError(f"{path} is locked by another process for {timeout:g} s; see `fuser {path}`")
        time.sleep(0.1)


def _opened(path: Path) -> TextIO:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # the last lab that goes removes the folder
            return path.open("w", encoding="utf-8")


def _try_lock(handle: TextIO) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_file(handle: TextIO, path: Path) -> bool:
    """Whether `path` is still the file that was opened: its last holder may have removed it meanwhile."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False
