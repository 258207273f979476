# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The words of GRUB's script language, as far as menu entries use it.

Source: the lexer (grub-core/script/yylex.l) and ``grub_create_loader_cmdline`` (grub-core/lib/cmdline.c) of GRUB 2.12.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Tuple

from ..._errors import FleetError
from .cmdline import Argument, parse

_PLAIN = re.compile(r"[\w.,:=/@%+~^-]+", re.ASCII)
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)
_KERNEL = re.compile(r"\s*linux(?:16|efi)?\s+(.*)")
_ENTRY = re.compile(r"\s*menuentry\s+(.*)")
_SET = re.compile(r"\s*set\s+(\w+)=(.*)", re.ASCII)
_SECTION = re.compile(r"### BEGIN (\S+) ###")


@dataclass(frozen=True)
class Entry:
    """A menu entry that boots Linux. ``section`` is the script in /etc/grub.d that wrote it, or empty."""

    title: str
    recovery: bool
    section: str
    arguments: Tuple[Argument, ...]


def quote(argument: Argument) -> str:
    """Return an argument as one word of GRUB's language.

    GRUB puts a word with blanks in quotes for the kernel, and a backslash before quotes and backslashes, which the
    kernel does not understand: such a value raises ``bad_argument``.
    """
    word = argument.name if argument.value is None else f"{argument.name}={argument.value}"
    if re.search(r"[\\'\"\n]", word):
        raise FleetError(
            f"GRUB cannot give the kernel {argument.text}: quotes and backslashes inside a value reach the kernel "
            "changed. Leave them out.",
            code="bad_argument",
            argument=argument.text,
        )
    return word if _PLAIN.fullmatch(word) else f"'{word}'"


def words(text: str, variables: Mapping[str, str]) -> List[str]:
    """Return the words of one command, quotes removed and known variables replaced; unknown ones stay as written."""
    found: List[str] = []
    word, started, index = "", False, 0
    while index < len(text):
        piece, quoted, length = _piece(text, index, variables, started)
        if not length:
            break
        index += length
        if quoted:
            word, started = word + piece, True
            continue
        # What a bare variable holds is divided at blanks, as the rest of the line is.
        parts = re.split(r"\s+", piece)
        for part in parts[:-1]:
            if started or part:
                found.append(word + part)
            word, started = "", False
        word, started = word + parts[-1], started or bool(parts[-1])
    return [*found, word] if started else found


def entries(config: str, environment: str) -> Tuple[Entry, ...]:
    """Return the Linux entries of a grub.cfg; ``environment`` is the text of grubenv."""
    variables = {**_environment(environment), **_variables(config)}
    return tuple(_entries(config, variables))


def _entries(config: str, variables: Mapping[str, str]) -> Iterator[Entry]:
    section, head = "", ""
    for line in config.splitlines():
        begin, entry, kernel = _SECTION.match(line), _ENTRY.match(line), _KERNEL.match(line)
        if begin:
            section = begin.group(1)
        elif entry:
            head = entry.group(1)
        elif kernel:
            # The first word is the kernel's image.
            arguments = parse(_line([*words(kernel.group(1), variables)][1:]))
            title = (words(head, {}) or [""])[0]
            yield Entry(title, "-recovery-" in head or "(recovery mode)" in title, section, arguments)


def _line(parts: List[str]) -> str:
    escaped = (re.sub(r"([\\'\"])", r"\\\1", part) for part in parts)
    return " ".join(f'"{part}"' if " " in part else part for part in escaped)


def _piece(text: str, index: int, variables: Mapping[str, str], started: bool) -> Tuple[str, bool, int]:
    """Return the text at ``index``, whether it is quoted, and its length; 0 at the command's end."""
    character = text[index]
    if character in ";{}|&<>" or (character == "#" and not started):
        return "", False, 0
    if character == "\\":
        return text[index + 1 : index + 2], True, 2
    if character == "'":
        end = text.find("'", index + 1)
        end = len(text) if end < 0 else end
        return text[index + 1 : end], True, end + 1 - index
    if character == '"':
        return _double_quoted(text, index, variables)
    variable = _VARIABLE.match(text, index)
    if variable:
        name = variable.group(1) or variable.group(2)
        return variables.get(name, variable.group()), False, len(variable.group())
    return character, False, 1


def _double_quoted(text: str, index: int, variables: Mapping[str, str]) -> Tuple[str, bool, int]:
    found, position = "", index + 1
    while position < len(text) and text[position] != '"':
        variable = _VARIABLE.match(text, position)
        if text[position] == "\\" and text[position + 1 : position + 2] in ("$", '"', "\\"):
            found, position = found + text[position + 1], position + 2
        elif variable:
            name = variable.group(1) or variable.group(2)
            found, position = found + variables.get(name, variable.group()), position + len(variable.group())
        else:
            found, position = found + text[position], position + 1
    return found, True, position + 1 - index


def _environment(text: str) -> Dict[str, str]:
    lines = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, equals, value in lines if equals}


def _variables(config: str) -> Dict[str, str]:
    found = (_SET.match(line) for line in config.splitlines())
    return {match.group(1): "".join(words(match.group(2), {})[:1]) for match in found if match}
