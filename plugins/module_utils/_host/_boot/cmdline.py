# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The kernel command line as a value, read as the kernel reads it (``next_arg`` in lib/cmdline.c)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Collection, Iterable, Iterator, List, Optional, Sequence, Tuple

from ..._errors import FleetError
from .. import files

# What the boot loader itself adds in front or behind: GRUB, and systemd-boot or its stub.
_OF_THE_LOADER = ("BOOT_IMAGE", "initrd")
_BLANKS = " \t\n\v\f\r"
# Everything after this word is init's and no longer the kernel's.
_END = "--"


@dataclass(frozen=True)
class Argument:
    """One argument. ``value`` is None for a bare word (``quiet``) and empty for ``name=``."""

    name: str
    value: Optional[str] = None

    @property
    def text(self) -> str:
        """The argument as on the command line, in quotes where the kernel needs them."""
        plain = self.name if self.value is None else f"{self.name}={self.value}"
        for text in (plain, f'{self.name}="{self.value or ""}"', f'"{plain}"', f'"{plain}'):
            if parse(text) == (self,):
                return text
        return plain


def parse(line: str) -> Tuple[Argument, ...]:
    """Return the arguments of a command line, whatever it is."""
    return tuple(argument for _start, _end, argument in _found(line))


def arguments(texts: Iterable[str]) -> Tuple[Argument, ...]:
    """Return the arguments that are written one in a text each, as options and records hold them.

    Raises ``bad_argument`` for a text that the kernel would not read as exactly one argument.
    """
    return tuple(_one(text) for text in texts)


def format_line(wanted: Sequence[Argument]) -> str:
    """Return arguments as a command line."""
    return " ".join(argument.text for argument in wanted)


def same_name(one: str, other: str) -> bool:
    """Tell whether the kernel takes two names for one: it does not distinguish ``-`` from ``_`` (``parameq``)."""
    return one.replace("-", "_") == other.replace("-", "_")


def for_kernel(line: Sequence[Argument]) -> Tuple[Argument, ...]:
    """Return the arguments that the kernel reads itself: those before ``--``."""
    bare = Argument(_END)
    return tuple(line[: line.index(bare)]) if bare in line else tuple(line)


def running(root: Path) -> Tuple[Argument, ...]:
    """Return the running kernel's arguments without those that the boot loader adds by itself."""
    line = parse(files.read_text(root / "proc/cmdline") or "")
    return tuple(argument for argument in line if argument.name not in _OF_THE_LOADER)


def difference(
    wanted_next: Sequence[Argument], running_now: Sequence[Argument], names: Collection[str]
) -> Tuple[str, ...]:
    """Return those of ``names`` whose values, in their order, differ between two command lines."""
    return tuple(name for name in names if _values(name, wanted_next) != _values(name, running_now))


def append(line: str, ours: Sequence[Argument]) -> str:
    """Return a line, kept to the letter, with arguments behind it, or before what is for init."""
    if not ours:
        return line
    text = format_line(ours)
    for start, _end, argument in _found(line):
        if argument == Argument(_END):
            return f"{line[:start]}{text} {line[start:]}"
    return f"{line} {text}" if line else text


def cut(line: str, ours: Sequence[Argument]) -> str:
    """Undo ``append``: take out the last occurrence of each argument and one blank before it."""
    for argument in reversed(ours):
        spans = [(start, end) for start, end, found in _found(line) if found == argument]
        if spans:
            start, end = spans[-1]
            if line[start - 1 : start] == " " and line[end : end + 1] != " ":
                start -= 1
            elif line[end : end + 1] == " ":
                end += 1
            line = line[:start] + line[end:]
    return line


def split(line: Sequence[Argument], known: Sequence[Argument]) -> Tuple[Tuple[Argument, ...], Tuple[Argument, ...]]:
    """Divide a line into the others' arguments and ours: of each known one the last. Both keep their order."""
    others, ours, wanted = [], [], list(known)
    for argument in reversed(line):
        if argument in wanted:
            wanted.remove(argument)
            ours.append(argument)
        else:
            others.append(argument)
    return tuple(reversed(others)), tuple(reversed(ours))


def _values(name: str, line: Sequence[Argument]) -> List[Optional[str]]:
    return [argument.value for argument in for_kernel(line) if same_name(argument.name, name)]


def _one(text: str) -> Argument:
    found = parse(text)
    if len(found) != 1 or found[0].name == _END or parse(found[0].text) != found:
        raise FleetError(
            f"'{text}' is not one kernel argument. Write name, name=value or name=\"a value with blanks\".",
            code="bad_argument",
            argument=text,
        )
    return found[0]


def _found(line: str) -> Iterator[Tuple[int, int, Argument]]:
    """Yield start, end and value of each argument of a line."""
    start = 0
    while start < len(line):
        if line[start] in _BLANKS:
            start += 1
            continue
        end = _end_of(line, start)
        yield start, end, _argument(line[start:end])
        start = end


def _end_of(line: str, start: int) -> int:
    quoted = False
    for index in range(start, len(line)):
        if line[index] == '"':
            quoted = not quoted
        elif line[index] in _BLANKS and not quoted:
            return index
    return len(line)


def _argument(word: str) -> Argument:
    """Split one word. A quote before the name or before the value is no part of them, nor is the one that ends it."""
    quoted = word.startswith('"')
    word = word[1:] if quoted else word
    # A name has at least one character, even if that is the equals sign.
    equals = word.find("=", 1)
    name, value = (word, None) if equals < 0 else (word[:equals], word[equals + 1 :])
    if value is not None and value.startswith('"'):
        value, quoted = value[1:], True
    if value is None:
        return Argument(name[:-1] if quoted and name.endswith('"') else name)
    return Argument(name, value[:-1] if quoted and value.endswith('"') else value)
