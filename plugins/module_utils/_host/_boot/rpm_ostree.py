# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""rpm-ostree: Fedora CoreOS, Silverblue, RHEL for Edge.

``rpm-ostree kargs`` shows and changes the pending deployment if there is one, else the booted one, which is what the
next boot gives. Every change makes a new deployment, so nothing is run when nothing differs.

No such distribution is at hand for tests: they use output and rules of rpm-ostree as published.
"""

from __future__ import annotations

from pathlib import Path
from typing import Sequence, Tuple

from ..command import Run, run_checked
from ..paths import HostPaths
from . import record
from .cmdline import Argument, parse, split
from .config import BootConfig, verify

NAME = "rpm_ostree"
_KARGS = ("rpm-ostree", "kargs")


class RpmOstree:
    """The boot loader below ``root``."""

    name = NAME

    def __init__(self, root: Path, run: Run) -> None:
        """Take the host's files and the way to run commands."""
        self._run = run
        self._paths = HostPaths(root)

    def read(self) -> BootConfig:
        """Return what the next boot gives."""
        others, ours = split(self._line(), record.read(self._paths).arguments)
        return BootConfig(self.name, others, ours, {argument.name: " ".join(_KARGS) for argument in others})

    def write(self, ours: Sequence[Argument]) -> None:
        """Replace our arguments in one transaction."""
        with record.changing(self._paths, self.name, ours) as change:
            others, found = split(self._line(), change.old)
            if found == tuple(ours):
                return
            # With key and value: a key alone is refused where it has several values.
            options = [f"--delete={argument.text}" for argument in found]
            options += [f"--append={argument.text}" for argument in ours]
            run_checked(self._run, [*_KARGS, *options], "change the kernel arguments")
            verify("the pending deployment", self._line(), ours, change.known, others)

    def _line(self) -> Tuple[Argument, ...]:
        return parse(run_checked(self._run, _KARGS, "read the kernel arguments"))
