# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The file from which kernel-install takes the command line of each kernel that it adds: /etc/kernel/cmdline.

Lines that begin with ``#`` are comments, and the others make one command line (90-loaderentry.install of systemd).
"""

from __future__ import annotations

from pathlib import Path
from typing import List, Optional, Sequence, Tuple

from .. import files
from .cmdline import Argument, append, cut, format_line, parse, running, split

PATH = "etc/kernel/cmdline"


def read(root: Path) -> Optional[str]:
    """Return the text of the file, or None."""
    return files.read_text(root / PATH)


def base(root: Path, known: Sequence[Argument]) -> str:
    """Return what kernel-install takes when there is no such file, without our arguments."""
    vendor = files.read_text(root / "usr/lib/kernel/cmdline")
    return vendor if vendor is not None else format_line(split(running(root), known)[0]) + "\n"


def parsed(text: str) -> Tuple[Argument, ...]:
    """Return the arguments that a text of the file gives."""
    lines = text.split("\n")
    return parse(" ".join(lines[index] for index in _content(lines)))


def edited(text: str, old: Sequence[Argument], ours: Sequence[Argument]) -> str:
    """Return the text without our old arguments and with the new ones behind all others."""
    lines = text.split("\n")
    rest = tuple(old)
    for index in reversed(_content(lines)):
        mine = split(parse(lines[index]), rest)[1]
        rest = split(rest, mine)[0]
        lines[index] = cut(lines[index], mine)
    last = (_content(lines) or [len(lines) - 1])[-1]
    lines[last] = append(lines[last], ours)
    return "\n".join(lines)


def write(root: Path, text: Optional[str]) -> None:
    """Make the file hold this text; None removes it."""
    path = root / PATH
    if text is None:
        files.remove(path)
        return
    files.make_directory(path.parent)
    files.write_text(path, text, path.stat().st_mode & 0o777 if path.exists() else 0o644)


def _content(lines: Sequence[str]) -> List[int]:
    return [index for index, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]
