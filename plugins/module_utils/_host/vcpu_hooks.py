# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Executables of the administrator that run before and after the number of vCPUs of a VM changes."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import List, Sequence

from .._errors import FleetError
from .command import NOT_FOUND, SHOWN_LINES, Ran, Run
from .paths import HostPaths

BEFORE, AFTER = "before", "after"
# A hook that hangs would keep the VM's change waiting for ever.
TIMEOUT_S = 60


def run_hooks(run: Run, when: str, arguments: Sequence[str], paths: HostPaths) -> None:
    """Run the hooks in the order of their names, with these arguments; the first that fails ends it.

    Raises ``FleetError``: ``hook_failed`` (facts ``hook``, ``rc``, ``stderr``) and ``hook_unsafe`` for one that others
    than root may write.
    """
    for path in hooks(when, paths):
        ran = run(["timeout", str(TIMEOUT_S), str(path), *arguments])
        if ran.rc != 0:
            raise FleetError(
                f"The hook {path} {_ended(ran)}. Run it by hand, mend what it complains about, then try again.",
                "hook_failed",
                hook=str(path),
                rc=ran.rc,
                stderr=ran.stderr,
            )


def _ended(ran: Ran) -> str:
    if ran.rc == NOT_FOUND and not ran.stderr:
        return "cannot be run: this host has no program timeout"
    said = (ran.stderr.strip() or ran.stdout.strip()).splitlines()[-SHOWN_LINES:]
    # What timeout(1) ends with when it was needed.
    how = f"did not end within {TIMEOUT_S} seconds" if ran.rc == 124 else f"ended with {ran.rc}"
    return f"{how}: {' / '.join(said) or 'it said nothing'}"


def hooks(when: str, paths: HostPaths) -> List[Path]:
    """Return the executable files of the directory by name; raises ``hook_unsafe``."""
    directory = paths.vcpu_hooks(when)
    found = []
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        info = path.stat()
        if not stat.S_ISREG(info.st_mode) or not info.st_mode & 0o111:
            continue
        if any(_is_open(place) for place in (path, directory)):
            raise FleetError(
                f"The hook {path} could be changed by others than root. Make it and its directory root's, and writable "
                "for nobody else.",
                "hook_unsafe",
                hook=str(path),
            )
        found.append(path)
    return found


def _is_open(path: Path) -> bool:
    info = path.stat()
    return info.st_uid != 0 or bool(info.st_mode & 0o022)
