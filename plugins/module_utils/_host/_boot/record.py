# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The record of which arguments are ours.

It is written before the boot loader's files and after them. Between the two it holds the old and the new arguments, so
that the next run after a crash knows both for ours. Layout: ``version``, ``backend``, ``arguments`` (one text each),
``created`` (files that the collection made, each with its text before our arguments came in).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Iterator, Mapping, Sequence, Tuple

from .. import files
from ..paths import HostPaths
from .cmdline import Argument, arguments, split

VERSION = 1


@dataclass(frozen=True)
class Kept:
    """The collection's arguments, and the files it made for them with their text before."""

    arguments: Tuple[Argument, ...] = ()
    created: Mapping[str, str] = field(default_factory=dict)


def read(paths: HostPaths) -> Kept:
    """Return the record; raises ``bad_record``."""
    record = files.read_record(paths.kernel_arguments)
    if record is None:
        return Kept()
    texts, created = record.get("arguments"), record.get("created")
    if record.get("version") != VERSION or not isinstance(texts, list) or not isinstance(created, dict):
        raise files.bad_record(paths.kernel_arguments, f"it is not of version {VERSION}")
    return Kept(arguments(str(text) for text in texts), {str(path): str(text) for path, text in created.items()})


@dataclass(frozen=True)
class Change:
    """A change under way. ``old`` are the arguments that may be in place already, ``known`` those and the new ones."""

    old: Tuple[Argument, ...]
    known: Tuple[Argument, ...]
    created: Mapping[str, str]


@contextmanager
def changing(paths: HostPaths, backend: str, ours: Sequence[Argument]) -> Iterator[Change]:
    """Keep old and new arguments on record while the body puts the new in the place of the old."""
    before = read(paths)
    known = before.arguments + split(ours, before.arguments)[0]
    write(paths, backend, Kept(known, before.created))
    yield Change(before.arguments, known, before.created)
    write(paths, backend, Kept(tuple(ours), read(paths).created))


def write(paths: HostPaths, backend: str, kept: Kept) -> None:
    """Write the record; without arguments there is none."""
    if not kept.arguments:
        files.remove(paths.kernel_arguments)
        return
    files.make_directory(paths.state)
    texts = [argument.text for argument in kept.arguments]
    record = {"version": VERSION, "backend": backend, "arguments": texts, "created": dict(kept.created)}
    files.write_record(paths.kernel_arguments, record)
