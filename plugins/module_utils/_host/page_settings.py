# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What tmpfiles.d and sysctl.d set the number of huge pages to at boot; see tmpfiles.d(5) and sysctl.d(5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Dict, List, Optional, Tuple

from . import files

# From the highest priority to the lowest: a file hides those of the same name further down.
_DIRECTORIES = ("etc", "run", "usr/local/lib", "usr/lib", "lib")

_CELL = "/sys/devices/system/node/node{cell}/hugepages/hugepages-{size}kB/nr_hugepages"
_ALL = "/sys/kernel/mm/hugepages/hugepages-{size}kB/nr_hugepages"
_SYSCTLS = ("/proc/sys/vm/nr_hugepages", "/proc/sys/vm/nr_hugepages_mempolicy")


@dataclass(frozen=True)
class PageSetting:
    """One line in a file: ``what`` is a path or the name of a sysctl; ``default_kib`` is the size a sysctl is about."""

    file: str
    what: str
    value: str
    default_kib: Optional[int]

    def disturbs(self, cell: int, size_kib: int, count: int) -> bool:
        """Tell whether it sets these pages to another number, or those of the whole host at once."""
        if fnmatch(_CELL.format(cell=cell, size=size_kib), self.what):
            return self.value != str(count)
        path = "/proc/sys/" + self.what.replace(".", "/")
        if self.what in _SYSCTLS or path in _SYSCTLS:
            return size_kib == self.default_kib
        return fnmatch(_ALL.format(size=size_kib), self.what)


def page_settings(root: Path) -> Tuple[PageSetting, ...]:
    """Return every setting of a number of huge pages, in the order of the files."""
    default = re.search(r"^Hugepagesize:\s+(\d+) kB", files.read_text(root / "proc/meminfo") or "", re.MULTILINE)
    size = int(default[1]) if default else None
    found = []
    for path in _conf_files(root, "tmpfiles.d"):
        for line in _lines(path):
            fields = line.split(None, 6)
            if len(fields) == 7 and fields[0].startswith("w") and "nr_hugepages" in fields[1]:
                found.append(PageSetting(_name(root, path), fields[1], fields[6], size))
    for path in [*_conf_files(root, "sysctl.d"), root / "etc/sysctl.conf"]:
        for line in _lines(path):
            name, equals, value = (part.strip() for part in line.partition("="))
            name = name.lstrip("-").replace("/", ".")
            if equals and name.startswith("vm.nr_hugepages"):
                found.append(PageSetting(_name(root, path), name, value, size))
    return tuple(found)


def _conf_files(root: Path, folder: str) -> List[Path]:
    by_name: Dict[str, Path] = {}
    for directory in _DIRECTORIES:
        for path in (root / directory / folder).glob("*.conf"):
            by_name.setdefault(path.name, path)
    return [by_name[name] for name in sorted(by_name)]


def _lines(path: Path) -> List[str]:
    lines = [line.strip() for line in (files.read_text(path) or "").splitlines()]
    return [line for line in lines if line and line[0] not in "#;"]


def _name(root: Path, path: Path) -> str:
    return "/" + str(path.relative_to(root))
