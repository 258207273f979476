# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""GRUB with boot loader entries, as grubby lists them: Fedora, RHEL and their kin.

grubby tells what each entry will boot, also where an entry refers to grubenv (``$kernelopts`` of RHEL 8). The lines are
edited here, because grubby cannot: it divides its arguments at every blank, takes names for regular expressions, drops
what somebody else has set under the same name and squeezes blanks (``update_args`` in its script grubby-bls).
Places, as in grubby's ``--update-kernel=ALL``: the entries in /boot/loader/entries (the rescue entry stays clean),
``kernelopts`` in grubenv, /etc/kernel/cmdline for kernels to come, /etc/default/grub for grub2-mkconfig.

No distribution with grubby is at hand for tests: they use output and rules of grubby 8.40 as published.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

from ..._errors import FleetError
from .. import files
from ..command import Run, run_checked
from ..paths import HostPaths
from . import kernel_cmdline, record
from .cmdline import Argument, append, cut, parse, split
from .config import BootConfig, from_lines, verify
from .grub_defaults import GrubDefaults
from .grub_script import quote

NAME = "grubby"
ENTRIES = "boot/loader/entries"
_GRUBENV = "boot/grub2/grubenv"
_OPTIONS = re.compile(r"^(options[ \t]+)(.*)$", re.MULTILINE)
_FIELD = re.compile(r'^(\w+)="?(.*?)"?$', re.MULTILINE)
_KERNELOPTS = re.compile(r"^kernelopts=(.*)$", re.MULTILINE)


class Grubby:
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
        known = record.read(self._paths).arguments
        return from_lines(self.name, list(self._lines().items()), known, self._defaults.by_others())

    def write(self, ours: Sequence[Argument]) -> None:
        """Edit every place. A place that is right already is left alone."""
        for argument in ours:
            _check(argument)
        theirs = self.read().foreign
        with record.changing(self._paths, self.name, ours) as change:
            # /boot first: where it cannot be written, nothing else is.
            for path in self._paths_of_entries():
                self._edit_entry(path, change.old, ours)
            self._edit_environment(change.old, ours)
            self._edit_settings(change.old, ours)
            for place, line in self._lines().items():
                verify(place, line, ours, change.known, theirs)

    def _edit_entry(self, path: Path, old: Sequence[Argument], ours: Sequence[Argument]) -> None:
        text = files.read_text(path) or ""
        found = list(_OPTIONS.finditer(text))
        # grub2-mkconfig and grubby edit the variable, so an entry that refers to it stays as it is.
        if not found or "$kernelopts" in found[-1].group(2):
            return
        start, end = found[-1].span(2)
        after = text[:start] + _replaced(text[start:end], old, ours) + text[end:]
        if after != text:
            files.write_text(path, after, path.stat().st_mode & 0o777)

    def _edit_environment(self, old: Sequence[Argument], ours: Sequence[Argument]) -> None:
        found = _KERNELOPTS.search(files.read_text(self._root / _GRUBENV) or "")
        line = found.group(1) if found else ""
        after = _replaced(line, old, ours)
        if found and after != line:
            argv = ["grub2-editenv", f"/{_GRUBENV}", "set", f"kernelopts={after}"]
            run_checked(self._run, argv, "set kernelopts")

    def _edit_settings(self, old: Sequence[Argument], ours: Sequence[Argument]) -> None:
        text = kernel_cmdline.read(self._root)
        after = None if text is None else kernel_cmdline.edited(text, old, ours)
        if after != text:
            kernel_cmdline.write(self._root, after)
        if (self._root / "etc/default/grub").exists():
            self._defaults.put(ours)

    def _paths_of_entries(self) -> List[Path]:
        return [path for path in sorted((self._root / ENTRIES).glob("*.conf")) if not _is_rescue(path.stem)]

    def _lines(self) -> Dict[str, Tuple[Argument, ...]]:
        """Return the command line of every entry by its file, the default one's first."""
        default = run_checked(self._run, ["grubby", "--default-index"], "find the default boot entry").strip()
        shown = run_checked(self._run, ["grubby", "--info=ALL"], "list the boot entries")
        entries = sorted(_blocks(shown), key=lambda fields: fields.get("index") != default)
        found = {
            f"/{ENTRIES}/{fields['id']}.conf": _line(fields)
            for fields in entries
            if "id" in fields and not _is_rescue(fields["id"])
        }
        if not found:
            raise FleetError(
                "grubby lists no boot entry for a kernel. Run `grubby --info=ALL` by hand, mend what it shows, then "
                "try again.",
                code="bad_boot_config",
                path=f"/{ENTRIES}",
            )
        return found


def _check(argument: Argument) -> None:
    """Raise ``bad_argument`` for what GRUB would not hand over as it is: it reads an entry's options as a command."""
    quote(argument)
    if re.search(r"[$;{}|&<>]", argument.text):
        raise FleetError(
            f"A boot loader entry cannot hold {argument.text}: GRUB takes one of its characters for its own language. "
            "Leave out $ ; { } | & < and >.",
            code="bad_argument",
            argument=argument.text,
        )


def _replaced(line: str, old: Sequence[Argument], ours: Sequence[Argument]) -> str:
    found = split(parse(line), old)[1]
    return line if found == tuple(ours) else append(cut(line, found), ours)


def _blocks(shown: str) -> Iterator[Dict[str, str]]:
    """Yield the fields of each entry that ``grubby --info`` shows; it writes quotes around values without escaping."""
    for block in re.split(r"^(?=index=)", shown, flags=re.MULTILINE):
        fields = {match.group(1): match.group(2) for match in _FIELD.finditer(block)}
        if fields:
            yield fields


def _line(fields: Dict[str, str]) -> Tuple[Argument, ...]:
    """Return an entry's arguments; grubby shows ``root`` apart, and a variable that holds nothing as its name."""
    root = (Argument("root", fields["root"]),) if "root" in fields else ()
    return root + tuple(a for a in parse(fields.get("args", "")) if not a.name.startswith("$"))


def _is_rescue(name: str) -> bool:
    # dracut's 51-dracut-rescue.install names it MACHINE_ID-0-rescue.
    return "-0-rescue" in name
