# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""On which NUMA nodes the memory of a VM's process is, and what a node gives back when somebody needs it.

The kernel counts that for control groups anyway. ``numa_maps`` walks the page tables, about a second for 100 GiB in
small pages, with the process's memory locked; huge pages are so few that it is quick for them.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import Dict, Iterable, Iterator, Tuple

from .threads import OF_EMULATOR, parse_cgroup, read_text

# Lines of numa_maps, one a mapping; a process with more is not read to its end, and so not counted at all.
MAX_MAPPINGS = 50_000

# What of a group's memory is a VM's, by the version of control groups; the rest is the cache of files. Version 1 counts
# lists of pages: what is shared stands with what is anonymous, and what is locked is apart.
_KINDS = {1: ("hierarchical_anon", "hierarchical_unevictable"), 2: ("anon", "shmem")}

# The group below that of the VM that systemd leaves to libvirt.
_OF_LIBVIRT = "libvirt"

# The size of pages that are not huge.
_SMALL_KIB = 4

# Version 1 counts in pages, version 2 in bytes.
_PAGE_BYTES = 4096


def memory_by_node(pid: int, huge: bool, walk: bool, root: Path = Path("/")) -> Dict[int, int]:
    """Return the KiB that a VM's process has on each NUMA node; ``{}`` if that cannot be known.

    ``huge`` is for a VM in huge pages, of whose process only these count. ``walk`` allows to walk the page tables of
    another one, if the kernel has not counted.
    """
    held = {} if huge else _counted(pid, root)
    if held or not (huge or walk):
        return held
    try:
        with (root / f"proc/{pid}/numa_maps").open(encoding="utf-8", errors="replace") as lines:
            return parse_numa_maps(lines, huge)
    except OSError:
        return {}


def reclaimable_kib(node: int, root: Path = Path("/")) -> int:
    """Return the KiB that a node does not count as free but gives back at once, 0 where that is not known.

    As in the kernel's own estimate for all nodes together (``MemAvailable``), that is the cache of files and half of
    the slabs that can shrink; but not what processes map or what is not written to its file yet.
    """
    text = read_text(root / f"sys/devices/system/node/node{node}/meminfo")
    found = {name: int(kib) for name, kib in re.findall(r"^Node \d+ (\S+): +(\d+) kB$", text, flags=re.MULTILINE)}
    files = found.get("Active(file)", 0) + found.get("Inactive(file)", 0)
    busy = found.get("Mapped", 0) + found.get("Dirty", 0) + found.get("Writeback", 0)
    return max(0, files - busy) + found.get("SReclaimable", 0) // 2


def _counted(pid: int, root: Path) -> Dict[int, int]:
    """Return what the kernel has counted for the control group of a VM, ``{}`` where no group is the VM's alone."""
    text = read_text(root / f"proc/{pid}/cgroup")
    cpus, memory = parse_cgroup(text), parse_cgroup(text, "memory")
    if cpus is None or memory is None or PurePosixPath(cpus[1]).name != OF_EMULATOR:
        return {}
    # Only libvirt makes a group for the emulator, and only below that of its VM.
    group = PurePosixPath(cpus[1]).parent
    hierarchy, path = memory
    if PurePosixPath(path) not in (group, group / OF_EMULATOR):
        return {}
    # With systemd libvirt has a group of its own within that of the VM.
    for place in (group, group.parent) if group.name == _OF_LIBVIRT else (group,):
        file = root / "sys/fs/cgroup" / hierarchy / str(place).lstrip("/") / "memory.numa_stat"
        held = parse_numa_stat(read_text(file), version=1 if hierarchy else 2)
        if held:
            return held
    return {}


def parse_numa_stat(text: str, version: int) -> Dict[int, int]:
    """Return the KiB on each node from ``memory.numa_stat`` of a control group."""
    held: Dict[int, int] = {}
    for line in text.splitlines():
        kind, *counts = re.split(r"[ =]", line, maxsplit=1)
        if kind in _KINDS[version] and counts:
            for node, count in _nodes(counts[0].split()):
                held[node] = held.get(node, 0) + count * (_PAGE_BYTES if version == 1 else 1)
    return {node: size // 1024 for node, size in held.items()}


def parse_numa_maps(lines: Iterable[str], huge: bool = False) -> Dict[int, int]:
    """Return the KiB on each node from the lines of ``numa_maps``, whose counts are in pages of the mapping's size.

    With ``huge`` only huge pages count.
    """
    held: Dict[int, int] = {}
    for number, line in enumerate(lines):
        if number >= MAX_MAPPINGS:
            return {}
        words = line.split()[2:]
        size_kib = next((word.partition("=")[2] for word in words if word.startswith("kernelpagesize_kB=")), "4")
        if size_kib.isdigit() and (int(size_kib) > _SMALL_KIB or not huge):
            for node, count in _nodes(words):
                held[node] = held.get(node, 0) + count * int(size_kib)
    return held


def _nodes(words: Iterable[str]) -> Iterator[Tuple[int, int]]:
    """Return the nodes with their counts among words such as ``N0=12``."""
    for word in words:
        found = re.match(r"N([0-9]+)=([0-9]+)\Z", word)
        if found:
            yield int(found[1]), int(found[2])
