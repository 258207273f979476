# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The settings that grub-mkconfig reads: /etc/default/grub and, where it reads them, /etc/default/grub.d/*.cfg.

Ours are one assignment that appends to ``GRUB_CMDLINE_LINUX_DEFAULT``, which recovery entries do not get: in a file of
our own that sorts last (Debian, Ubuntu), or in a marked block at the end of /etc/default/grub (everywhere else).
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

from .. import files
from ..command import program
from .cmdline import Argument, parse
from .grub_script import quote, words
from .tuned import BOOTCMDLINE, read_tuned

_DROP_IN = "etc/default/grub.d/zz-kvm_fleet.cfg"
_COMMENT = "# Written by the Ansible collection virtops.kvm_fleet; changes are lost."
_BEGIN, _END = "# BEGIN virtops.kvm_fleet", "# END virtops.kvm_fleet"
# Said in the block, so that taking it out leaves the file as it was.
_UNFINISHED = " (the line before had no end)"
_BLOCK = re.compile(rf"^{_BEGIN}(?P<unfinished>{re.escape(_UNFINISHED)})?\n(?P<body>.*?)^{_END}\n", re.M | re.S)
_VARIABLE = "GRUB_CMDLINE_LINUX_DEFAULT"
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?(GRUB_CMDLINE_LINUX(?:_DEFAULT)?)(\+?)=(.*)")


class GrubDefaults:
    """The settings below ``root``."""

    def __init__(self, root: Path) -> None:
        """Find out where this host's grub-mkconfig looks."""
        self._root = root
        self._drop_in = _reads_drop_ins(root)
        path = root / (_DROP_IN if self._drop_in else "etc/default/grub")
        # A file that is replaced must not replace the link to it.
        self.path = path.resolve() if path.is_symlink() else path

    def ours(self) -> Tuple[Argument, ...]:
        """Return the arguments that our assignment adds."""
        text = files.read_text(self.path) or ""
        block = _BLOCK.search(text)
        body = text if self._drop_in else block.group("body") if block else ""
        found = re.search(rf'^{_VARIABLE}="\${_VARIABLE} "(.*)$', body, re.MULTILINE)
        return tuple(parse(" ".join(_as_kernel(_shell_word(found.group(1)))))) if found else ()

    def put(self, ours: Sequence[Argument]) -> bool:
        """Make these arguments the ones that our assignment adds; return whether that changed anything."""
        before = files.read_text(self.path)
        after = _drop_in(ours) if self._drop_in else _with_block(before or "", ours)
        if before == after:
            return False
        self.restore(after)
        return True

    def restore(self, text: Optional[str]) -> None:
        """Make the file hold this text, and none for None."""
        if text is None:
            files.remove(self.path)
            return
        if self._drop_in:
            files.make_directory(self.path.parent)
        mode = self.path.stat().st_mode & 0o777 if self.path.exists() else 0o644
        files.write_text(self.path, text, mode)

    def by_others(self) -> Dict[Argument, str]:
        """Return the arguments that tuned and the files set by themselves, each with its file.

        The shell is not asked: a word that it would expand is left out, and grub.cfg shows what it gave.
        """
        found: Dict[str, List[Tuple[Argument, str]]] = {}
        for path in self._files():
            text = _BLOCK.sub("", files.read_text(path) or "").replace("\\\n", "")
            for name, appends, value in filter(None, map(_assigned, text.splitlines())):
                kept = found.get(name, []) if appends else []
                kept += [
                    (a, f"/{path.relative_to(self._root)}") for a in parse(value) if not re.search(r"[$`]", a.text)
                ]
                found[name] = kept
        by_tuned = dict.fromkeys(read_tuned(self._root).arguments, f"/{BOOTCMDLINE}")
        return {**by_tuned, **{argument: path for kept in found.values() for argument, path in kept}}

    def _files(self) -> List[Path]:
        """Return the others' files in the order in which they are read."""
        drop_ins = sorted(self._root.glob("etc/default/grub.d/*.cfg")) if self._drop_in else []
        return [self._root / "etc/default/grub", *(path for path in drop_ins if path != self.path)]


def _reads_drop_ins(root: Path) -> bool:
    tool = program(root, "grub-mkconfig", "grub2-mkconfig")
    scripts = [root / directory / str(tool) for directory in ("usr/sbin", "usr/bin", "sbin", "bin")]
    return any("default/grub.d" in (files.read_text(script) or "") for script in scripts)


def _assigned(line: str) -> Optional[Tuple[str, bool, str]]:
    """Return variable, whether it keeps what it had, and the new text of a line that sets a command line."""
    match = _ASSIGNMENT.match(line)
    if not match:
        return None
    name, plus, rest = match.groups()
    return name, bool(plus) or f"${name}" in rest or f"${{{name}" in rest, _shell_word(rest)


def _shell_word(text: str) -> str:
    try:
        return (shlex.split(text, comments=True) or [""])[0]
    except ValueError:
        return ""


def _as_kernel(text: str) -> List[str]:
    return [f'"{word}"' if " " in word else word for word in words(text, {})]


def _assignment(ours: Sequence[Argument]) -> str:
    text = shlex.quote(" ".join(quote(argument) for argument in ours))
    # The shell takes a plain word without quotes too, but a person reads it better with them.
    return f'{_VARIABLE}="${_VARIABLE} "' + (text if text.startswith("'") else f"'{text}'") + "\n"


def _drop_in(ours: Sequence[Argument]) -> Optional[str]:
    return f"{_COMMENT}\n{_assignment(ours)}" if ours else None


def _with_block(text: str, ours: Sequence[Argument]) -> str:
    block = _BLOCK.search(text)
    if block:
        start = block.start() - 1 if block.group("unfinished") else block.start()
        text = text[:start] + text[block.end() :]
    if not ours:
        return text
    unfinished = bool(text) and not text.endswith("\n")
    begin = f"\n{_BEGIN}{_UNFINISHED}" if unfinished else _BEGIN
    return f"{text}{begin}\n{_COMMENT}\n{_assignment(ours)}{_END}\n"
