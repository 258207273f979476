# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Commands of the host. A module gives the callable that runs them, so that tests can give another one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional, Sequence

from .._errors import FleetError

# What a shell returns for a program that is not there; a runner gives the same.
NOT_FOUND = 127
SHOWN_LINES = 5
_PROGRAMS = ("usr/sbin", "usr/bin", "sbin", "bin")


@dataclass(frozen=True)
class Ran:
    """How a command ended. ``rc`` is 127 and ``stderr`` empty when there is no such program."""

    rc: int
    stdout: str = ""
    stderr: str = ""


Run = Callable[[Sequence[str]], Ran]


def run_checked(run: Run, argv: Sequence[str], what: str) -> str:
    """Run a command and return its standard output.

    ``what`` says what the command is for and completes "Cannot ...": "regenerate /boot/grub/grub.cfg". Raises
    ``command_failed`` (``argv``, ``rc``, ``stderr``) when the command fails or its program is missing.
    """
    ran = run(argv)
    if ran.rc == 0:
        return ran.stdout
    command = " ".join(argv)
    if ran.rc == NOT_FOUND and not ran.stderr:
        cause = f"{argv[0]} is not installed or not in PATH"
        step = f"Install the package that has {argv[0]}, then try again."
    else:
        said = (ran.stderr.strip() or ran.stdout.strip()).splitlines()[-SHOWN_LINES:]
        cause = f"`{command}` ended with {ran.rc}: {' / '.join(said) or 'it said nothing'}"
        step = "Run that command by hand, mend what it complains about, then try again."
    raise FleetError(
        f"Cannot {what}: {cause}. {step}",
        code="command_failed",
        argv=list(argv),
        rc=ran.rc,
        stderr=ran.stderr,
    )


def program(root: Path, *names: str) -> Optional[str]:
    """Return the first of these programs that the host has, or None."""
    for name in names:
        if any((root / directory / name).is_file() for directory in _PROGRAMS):
            return name
    return None
