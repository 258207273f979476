# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What the running kernel says, and what of a request it does not do although it was booted with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from ..._topology import canonical_cpuset, format_cpuset
from .. import files
from .._boot import Argument, same_name
from ..cpus import read_cpus
from .arguments import isolated_by, kernel_feature
from .settings import format_size, parse_size_kib


@dataclass(frozen=True)
class Running:
    """The running kernel: sets of CPUs in cpuset notation, huge pages by size in KiB.

    ``nohz_full`` is ``None`` where the kernel cannot stop the tick.
    """

    command_line: str
    isolated: str
    nohz_full: Optional[str]
    huge_pages: Mapping[int, int] = field(default_factory=dict)

    def to_data(self) -> Dict[str, Optional[str]]:
        """Return what the module tells of it."""
        return {"command_line": self.command_line, "isolated": self.isolated, "nohz_full": self.nohz_full}


@dataclass(frozen=True)
class Ineffective:
    """Something that was asked for at boot and is not so; texts as on the command line."""

    name: str
    wanted: str
    running: str

    def to_data(self) -> Dict[str, str]:
        """Return it as an entry of the module's result."""
        return {"name": self.name, "wanted": self.wanted, "running": self.running}


def read_running(root: Path = Path("/")) -> Running:
    """Read the running kernel; raises ``host_file``."""
    cpus = read_cpus(root)
    return Running(
        (files.read_text(root / "proc/cmdline") or "").strip(),
        format_cpuset(cpus.isolated),
        None if cpus.nohz_full is None else format_cpuset(cpus.nohz_full),
        _huge_pages(root / "sys/kernel/mm/hugepages"),
    )


def _huge_pages(folder: Path) -> Dict[int, int]:
    found = {}
    for path in folder.glob("hugepages-*kB"):
        size = path.name[len("hugepages-") : -len("kB")]
        found[int(size)] = int((files.read_text(path / "nr_hugepages") or "0").strip())
    return found


def ineffective(
    booted: Sequence[Argument], running: Running, guest_features: Optional[FrozenSet[str]] = None
) -> Tuple[Ineffective, ...]:
    """Return what the kernel does not do of arguments that it was booted with.

    ``booted`` are ours that are on the running command line. ``guest_features`` are the CPU features that the
    hypervisor offers to guests now, by libvirt's names; ``None`` leaves masked features
    unchecked.
    """
    found = _cpu_lists(booted, running) + _missing_pages(booted, running)
    if guest_features is not None:
        found += _unmasked(booted, guest_features)
    return tuple(found)


def _cpu_lists(booted: Sequence[Argument], running: Running) -> List[Ineffective]:
    found = []
    for name, now in (("isolcpus", running.isolated), ("nohz_full", running.nohz_full)):
        wanted = isolated_by(booted, name)
        if wanted is not None and canonical_cpuset(wanted) != now:
            found.append(Ineffective(name, canonical_cpuset(wanted), "" if now is None else now))
    return found


def _missing_pages(booted: Sequence[Argument], running: Running) -> List[Ineffective]:
    found, size_kib = [], 0
    for item in booted:
        if same_name(item.name, "hugepagesz") and item.value:
            size_kib = parse_size_kib(item.value)
        elif same_name(item.name, "hugepages") and item.value and size_kib:
            have = running.huge_pages.get(size_kib, 0)
            if have < int(item.value):
                found.append(Ineffective(f"hugepages of {format_size(size_kib)}", item.value, str(have)))
    return found


def _unmasked(booted: Sequence[Argument], guest_features: FrozenSet[str]) -> List[Ineffective]:
    masked = {name for item in booted if same_name(item.name, "clearcpuid") for name in (item.value or "").split(",")}
    return [
        Ineffective("clearcpuid", kernel_feature(feature), feature)
        for feature in sorted(guest_features)
        if kernel_feature(feature) in masked
    ]
