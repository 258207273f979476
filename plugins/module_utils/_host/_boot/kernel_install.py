# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""systemd-boot, and every other loader whose entries kernel-install writes.

kernel-install takes the command line from /etc/kernel/cmdline when it adds a kernel, so ours go there and each
installed kernel is added again. It is asked kernel by kernel: ``add-all`` came with systemd 255 and finds no kernel on
Debian, which keeps them in /boot. Where it does not know the loader (layout ``other``) it does nothing and reports
success, so what counts is the list that bootctl reads from the boot partition: entry files and unified kernel images.
Tried with systemd 257 of Debian 13.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Callable, Collection, Dict, Iterator, List, Optional, Sequence, Tuple

from ..._errors import FleetError
from ..command import Run, run_checked
from ..paths import HostPaths
from . import kernel_cmdline, record
from .cmdline import Argument, parse, split
from .config import BootConfig, from_lines, holds, verify

NAME = "kernel_install"
_PATH = f"/{kernel_cmdline.PATH}"
_LIST = ("bootctl", "list", "--json=short")
# Boot counting, and what the two kinds of entry end with.
_SUFFIX = re.compile(r"(?:\+\d+(?:-\d+)?)?\.(?:conf|efi)$", re.IGNORECASE)


class KernelInstall:
    """The boot loader below ``root``."""

    name = NAME

    def __init__(self, root: Path, run: Run) -> None:
        """Take the host's files and the way to run commands."""
        self._root = root
        self._run = run
        self._paths = HostPaths(root)

    def read(self) -> BootConfig:
        """Return what the next boot gives."""
        known = record.read(self._paths).arguments
        text = kernel_cmdline.read(self._root)
        of_file = kernel_cmdline.parsed(kernel_cmdline.base(self._root, known) if text is None else text)
        lines = [(str(entry.get("path", _LIST[0])), parse(entry["options"])) for entry in self._entries()]
        # A file that no entry was made from counts for nothing.
        known = known if lines else ()
        settings = dict.fromkeys(split(of_file, known)[0], _PATH)
        return from_lines(self.name, [*lines, (_PATH, of_file)], known, settings)

    def write(self, ours: Sequence[Argument]) -> None:
        """Write /etc/kernel/cmdline and add every kernel again; on failure the file is as before."""
        theirs = self.read().foreign
        with record.changing(self._paths, self.name, ours) as change:
            before = kernel_cmdline.read(self._root)
            base = kernel_cmdline.base(self._root, change.old) if before is None else before
            after = kernel_cmdline.edited(base, change.old, ours)
            if before is None and ours:
                record.write(self._paths, self.name, record.Kept(change.known, {**change.created, _PATH: base}))

            def verified() -> None:
                self._verify(ours, change.known, theirs)

            if after != before or not holds(verified):
                self._apply(before, after, verified)
            # Without a file kernel-install may take the running kernel's line, with ours, so a file of our own goes
            # only now. One that somebody has changed since stays.
            if not ours and (before is None or change.created.get(_PATH) == after):
                kernel_cmdline.write(self._root, None)

    def _apply(self, before: Optional[str], after: str, verified: Callable[[], None]) -> None:
        try:
            kernel_cmdline.write(self._root, after)
            for version, image in self._kernels():
                run_checked(self._run, ["kernel-install", "add", version, image], f"add kernel {version}")
            verified()
        except FleetError:
            kernel_cmdline.write(self._root, before)
            raise

    def _verify(self, ours: Sequence[Argument], known: Sequence[Argument], theirs: Collection[Argument]) -> None:
        found = self._entries()
        if ours and not found:
            raise FleetError(
                "kernel-install wrote no boot entry for any installed kernel. See `kernel-install inspect` for the "
                "layout and the entry directory it looks for, or name another boot loader, then try again.",
                code="not_applied",
                place="bootctl list",
                missing=[argument.text for argument in ours],
                left=[],
            )
        for entry in found:
            verify(f"boot entry {entry['id']}", parse(entry["options"]), ours, known, theirs)

    def _entries(self) -> List[Dict[str, Any]]:
        """Return the entries of the installed kernels, the one of the next boot first."""
        listed = json.loads(run_checked(self._run, _LIST, "list the boot entries"))
        versions = [version for version, _image in self._kernels()]
        found = [
            {"options": "", **entry}
            for entry in listed
            if any(_SUFFIX.sub("", str(entry.get("id", ""))).endswith(f"-{version}") for version in versions)
        ]
        return sorted(found, key=lambda entry: not entry.get("isDefault", False))

    def _kernels(self) -> Iterator[Tuple[str, str]]:
        """Yield version and image of each installed kernel; modules without a kernel are left over."""
        for directory in sorted(self._root.glob("usr/lib/modules/*")):
            for image in (directory / "vmlinuz", self._root / f"boot/vmlinuz-{directory.name}"):
                if image.is_file():
                    yield directory.name, f"/{image.relative_to(self._root)}"
                    break
