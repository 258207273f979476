# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The files that systemd reads for a unit, and what they set a list of CPUs to; see systemd.unit(5)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, FrozenSet, Iterable, List, Optional

from .._errors import FleetError
from .._topology import parse_cpuset
from . import files

# From the highest priority to the lowest: a file hides those of the same name further down.
UNIT_DIRECTORIES = (
    "etc/systemd/system.control",
    "run/systemd/system.control",
    "run/systemd/transient",
    "run/systemd/generator.early",
    "etc/systemd/system",
    "etc/systemd/system.attached",
    "run/systemd/system",
    "run/systemd/system.attached",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
    "run/systemd/generator.late",
)


def section_of(unit: str) -> str:
    """Return the section that holds the resources of a unit: ``Slice`` for ``machine.slice``."""
    return unit.rpartition(".")[2].capitalize()


def unit_files(root: Path, unit: str) -> List[Path]:
    """Return the files of a unit in the order in which systemd reads them; a later setting wins over an earlier one.

    That is the unit's own file, then all drop-ins sorted by name, wherever they lie.
    """
    own = next((root / each / unit for each in UNIT_DIRECTORIES if _exists(root / each / unit)), None)
    drop_ins: Dict[str, Path] = {}
    # Drop-ins of the type of unit come last, so those of the unit hide theirs.
    for directory in (f"{unit}.d", f"{unit.rpartition('.')[2]}.d"):
        for each in UNIT_DIRECTORIES:
            for path in sorted((root / each / directory).glob("*.conf")):
                drop_ins.setdefault(path.name, path)
    return ([own] if own else []) + [drop_ins[name] for name in sorted(drop_ins)]


def _exists(path: Path) -> bool:
    # A link to /dev/null masks a unit; below another root it may dangle.
    return path.is_symlink() or path.is_file()


def settings(path: Path, section: str, name: str) -> List[str]:
    """Return every value that a unit file assigns to a name, in their order; an empty one takes back those before."""
    # Without their line break; systemd puts a blank in its place.
    text = re.sub(r"\\\n", " ", files.read_text(path) or "")
    values, current = [], ""
    for line in (each.strip() for each in text.splitlines()):
        key, equals, value = line.partition("=")
        if line.startswith("["):
            current = line.strip("[]")
        elif equals and current == section and key.strip() == name:
            values.append(value.strip())
    return values


def add_up(values: Iterable[str]) -> Optional[FrozenSet[int]]:
    """Return the CPUs that several assignments give together; ``None`` when they set none.

    As systemd reads them: a list adds to those before it, an empty value takes them all back, and what is no list of
    CPUs is ignored.
    """
    cpus: Optional[FrozenSet[int]] = None
    for value in values:
        if not value:
            cpus = None
            continue
        try:
            cpus = (cpus or frozenset()) | parse_cpuset(",".join(re.split(r"[\s,]+", value.strip(" ,"))))
        except FleetError:
            continue
    return cpus
