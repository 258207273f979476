# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Sets of CPU (or NUMA node) numbers in libvirt's notation."""

from __future__ import annotations

import re
from typing import FrozenSet, Iterable, List, Set, Tuple

from .._errors import FleetError

# VIR_DOMAIN_CPUMASK_LEN of libvirt: larger numbers are refused there too.
MAX_CPUS = 16384

# Python reads no number of more than 4300 digits
_PART = re.compile(r"(\^)?([0-9]{1,1000})(?:-([0-9]{1,1000}))?\Z")


def parse_cpuset(text: str) -> FrozenSet[int]:
    """Return the numbers of a set such as ``0,2-5,^4``; empty text is the empty set.

    Parts are applied from left to right as in libvirt's ``virBitmapParse``, so ``^4`` takes away what stands before it.
    Raises ``FleetError`` with code ``bad_cpuset``, which names the text.
    """
    cpus: Set[int] = set()
    if not text.strip():
        return frozenset()
    for part in text.split(","):
        negated, first, last = _parse_part(part.strip(), text)
        if negated:
            cpus.discard(first)
        else:
            cpus.update(range(first, last + 1))
    return frozenset(cpus)


def _parse_part(part: str, text: str) -> Tuple[bool, int, int]:
    match = _PART.match(part)
    if match is None:
        raise _bad(text, f"{part!r} is neither a number, a range such as 2-5, nor an exclusion such as ^4")
    negated, first = bool(match[1]), int(match[2])
    last = first if match[3] is None else int(match[3])
    if negated and match[3] is not None:
        raise _bad(text, f"{part!r} excludes a range; libvirt excludes single numbers only")
    if last < first:
        raise _bad(text, f"the range {part!r} runs backwards")
    if last >= MAX_CPUS:
        raise _bad(text, f"{last} is above the largest number libvirt accepts, {MAX_CPUS - 1}")
    return negated, first, last


def _bad(text: str, cause: str) -> FleetError:
    return FleetError(
        f"The CPU set {text!r} cannot be read: {cause}. Write it as in '0,2-5,^4'.", code="bad_cpuset", cpuset=text
    )


def format_cpuset(cpus: Iterable[int]) -> str:
    """Return a set of numbers as libvirt prints it: ascending, with ranges, for example ``0,2-5``."""
    ranges: List[List[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def canonical_cpuset(text: str) -> str:
    """Return the one spelling of a set that ``format_cpuset`` gives, so that texts can be compared."""
    return format_cpuset(parse_cpuset(text))
