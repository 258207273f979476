# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What somebody asks of a host's CPUs, huge pages and kernel command line, as values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, FrozenSet, Mapping, Optional, Sequence, Tuple

from ..._errors import FleetError
from ..._topology import Isolation
from .._boot import Argument

# How CPUs are isolated. They can be combined, except kernel with tuned, which both write the command line.
KERNEL = "kernel"
SLICES = "slices"
TUNED = "tuned"
METHODS = (KERNEL, SLICES, TUNED)

# Flags of isolcpus= beside `domain`, which is always set: without it the scheduler would not leave the CPUs alone.
ISOLCPUS_FLAGS = ("domain", "managed_irq", "nohz")

_SIZE = re.compile(r"([0-9]+)\s*([KMG])(?:i?B)?\Z", re.IGNORECASE)
_UNIT_KIB = {"K": 1, "M": 1024, "G": 1024 * 1024}


@dataclass(frozen=True)
class CpuSettings:
    """Which CPUs are isolated and how. Without ``methods`` nothing is isolated, whatever was before.

    ``machine_cpus`` are the CPUs that virtual machines may use with the method ``slices``; ``None`` chooses.
    """

    isolation: Isolation
    methods: Tuple[str, ...] = (KERNEL,)
    isolcpus_flags: Tuple[str, ...] = ()
    nohz_full: bool = False
    rcu_nocbs: bool = False
    irqaffinity: bool = False
    machine_cpus: Optional[FrozenSet[int]] = None

    def guest_cpus(self) -> FrozenSet[int]:
        """Return the CPUs that ``machine.slice`` keeps.

        With slices alone they are the isolated ones. CPUs that the kernel isolates are not balanced by the scheduler,
        so there guests without pins need the others too.
        """
        if self.machine_cpus is not None:
            return self.machine_cpus
        everything = self.isolation.isolated | self.isolation.housekeeping
        return everything if KERNEL in self.methods or TUNED in self.methods else self.isolation.isolated


@dataclass(frozen=True)
class HugePages:
    """A number of huge pages of one size: on the kernel command line, or in one NUMA cell at run time."""

    size_kib: int
    count: int
    cell: Optional[int] = None


@dataclass(frozen=True)
class Settings:
    """All of a request. A group that is ``None`` stays as it is; ``arguments`` come with whether they are wanted."""

    cpus: Optional[CpuSettings] = None
    huge_pages: Optional[Tuple[HugePages, ...]] = None
    default_huge_page_kib: Optional[int] = None
    clearcpuid: Optional[Tuple[str, ...]] = None
    arguments: Tuple[Tuple[Argument, bool], ...] = ()


def parse_size_kib(text: str) -> int:
    """Return a page size such as ``2M`` or ``1G`` in KiB; raises ``bad_options``."""
    found = _SIZE.match(text.strip())
    if not found or int(found[1]) == 0:
        raise FleetError(f"{text!r} is not a page size. Write it as in 2M or 1G.", "bad_options", size=text)
    return int(found[1]) * _UNIT_KIB[found[2].upper()]


def format_size(size_kib: int) -> str:
    """Return a page size as the kernel command line takes it, in the largest unit that divides it."""
    for unit in ("G", "M"):
        if size_kib % _UNIT_KIB[unit] == 0:
            return f"{size_kib // _UNIT_KIB[unit]}{unit}"
    return f"{size_kib}K"


def parse_huge_pages(items: Sequence[Mapping[str, Any]]) -> Tuple[HugePages, ...]:
    """Return the pages of a list with ``size``, ``count`` and perhaps ``cell``; raises ``bad_options``."""
    pages = tuple(HugePages(parse_size_kib(item["size"]), item["count"], item.get("cell")) for item in items)
    for page in pages:
        same = [other for other in pages if (other.size_kib, other.cell) == (page.size_kib, page.cell)]
        mixed = [
            other for other in pages if other.size_kib == page.size_kib and (other.cell is None) != (page.cell is None)
        ]
        if page.count < 0 or (page.cell is not None and page.cell < 0):
            problem = "a count and a cell are never below 0"
        elif len(same) > 1:
            problem = "they are given twice"
        elif mixed:
            problem = (
                "they are given for the whole host and for a cell; the kernel would spread the former over all cells"
            )
        else:
            continue
        raise FleetError(
            f"Huge pages of {format_size(page.size_kib)}: {problem}.", "bad_options", size=format_size(page.size_kib)
        )
    return pages
