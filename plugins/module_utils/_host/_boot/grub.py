# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""GRUB with a generated grub.cfg: Debian, Ubuntu, SUSE, Arch.

What the next boot gives is read in grub.cfg, in the entries that the scripts for Linux (/etc/grub.d/10_linux*) wrote:
there the shell has expanded everything, and whatever overrides our setting shows. Tried with GRUB 2.12 of Debian 13.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Collection, List, Optional, Sequence, Tuple

from ..._errors import FleetError
from .. import files
from ..command import Run, program, run_checked
from ..paths import HostPaths
from . import record
from .cmdline import Argument, split
from .config import BootConfig, from_lines, holds, verify
from .grub_defaults import GrubDefaults
from .grub_script import Entry, entries, quote

NAME = "grub"
# A grub.cfg that only leads to the real one has none of these.
_BOOTS = re.compile(r"^\s*(?:menuentry|linux(?:16|efi)?|blscfg)\b", re.MULTILINE)
_ENTRIES_OF_BLS = re.compile(r"^\s*blscfg\b", re.MULTILINE)


class Grub:
    """The boot loader below ``root``."""

    name = NAME

    def __init__(self, root: Path, run: Run) -> None:
        """Take the host's files and the way to run commands."""
        self._root = root
        self._run = run
        self._paths = HostPaths(root)
        self._defaults = GrubDefaults(root)

    def read(self) -> BootConfig:
        """Return what the next boot gives."""
        known = record.read(self._paths).arguments or self._defaults.ours()
        lines = [(entry.section or self._config_path(), entry.arguments) for entry in self._entries()]
        return from_lines(self.name, lines, known, self._defaults.by_others())

    def write(self, ours: Sequence[Argument]) -> None:
        """Write our setting and grub.cfg; on failure our setting is as before."""
        for argument in ours:
            quote(argument)
        adopted = self._defaults.ours()
        theirs = self.read().foreign
        with record.changing(self._paths, self.name, ours) as change:
            known = change.known + split(adopted, change.known)[0]
            before = files.read_text(self._defaults.path)
            if not self._defaults.put(ours) and holds(lambda: self._verify(ours, known, theirs)):
                return
            try:
                run_checked(self._run, self._generator(), f"write {self._config_path()}")
                self._verify(ours, known, theirs)
            except FleetError as error:
                self._defaults.restore(before)
                # What was written may be there in part. The first error is the one to tell.
                if error.code != "not_applied" or self._run(self._generator()).rc == 0:
                    record.write(self._paths, self.name, record.Kept(change.old, change.created))
                raise

    def _verify(self, ours: Sequence[Argument], known: Sequence[Argument], theirs: Collection[Argument]) -> None:
        for entry in self._entries():
            verify(f"'{entry.title}' in {self._config_path()}", entry.arguments, ours, known, theirs)

    def _entries(self) -> Tuple[Entry, ...]:
        """Return the entries that must have our arguments."""
        path = self._config()
        text = files.read_text(path) or ""
        found = [entry for entry in entries(text, files.read_text(path.parent / "grubenv") or "") if not entry.recovery]
        # Other systems on this machine, Xen and entries written by hand have sections of their own.
        linux = [entry for entry in found if Path(entry.section).name.startswith("10_linux")]
        if not found:
            raise FleetError(
                f"{self._config_path()} has no entry that boots Linux. Run {' '.join(self._generator())} by hand, see "
                "what it says, then try again.",
                code="bad_boot_config",
                path=self._config_path(),
            )
        return tuple(linux or found)

    def _config(self) -> Path:
        path = config_file(self._root)
        if path is None:
            raise FleetError(
                "No grub.cfg that boots Linux is in /boot/grub, /boot/grub2 or /boot/efi/EFI/*. Mount /boot and write "
                "it with update-grub or grub2-mkconfig, then try again.",
                code="bad_boot_config",
            )
        return path

    def _config_path(self) -> str:
        return f"/{self._config().relative_to(self._root)}"

    def _generator(self) -> List[str]:
        if program(self._root, "update-grub"):
            return ["update-grub"]
        tool = program(self._root, "grub-mkconfig", "grub2-mkconfig") or "grub-mkconfig"
        return [tool, "-o", self._config_path()]


def config_file(root: Path) -> Optional[Path]:
    """Return the grub.cfg that this host boots with, or None.

    update-grub knows only /boot/grub. Elsewhere a host that was booted by UEFI may have the real one on the EFI system
    partition (RHEL 8), where others keep one that only leads to /boot.
    """
    own = "boot/grub" if program(root, "update-grub", "grub-mkconfig") else "boot/grub2"
    candidates = [root / own / "grub.cfg", root / "boot/grub2/grub.cfg", root / "boot/grub/grub.cfg"]
    if (root / "sys/firmware/efi").exists() and not program(root, "update-grub"):
        candidates = [*sorted(root.glob("boot/efi/EFI/*/grub.cfg")), *candidates]
    return next((path for path in candidates if _BOOTS.search(files.read_text(path) or "")), None)


def takes_bls_entries(root: Path) -> bool:
    """Tell whether grub.cfg takes its entries from /boot/loader/entries."""
    path = config_file(root)
    return path is not None and bool(_ENTRIES_OF_BLS.search(files.read_text(path) or ""))
