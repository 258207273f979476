# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The kernel arguments that a request leads to; pure."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

from ..._errors import FleetError
from ..._topology import format_cpuset
from .._boot import Argument, same_name
from .settings import KERNEL, CpuSettings, HugePages, Settings, format_size

CPU_NAMES = ("isolcpus", "nohz_full", "rcu_nocbs", "irqaffinity")
PAGE_NAMES = ("default_hugepagesz", "hugepagesz", "hugepages")
MASK_NAMES = ("clearcpuid",)
OWN_NAMES = (*CPU_NAMES, *PAGE_NAMES, *MASK_NAMES)

# Where the kernel's name (arch/x86/include/asm/cpufeatures.h) is not libvirt's with "_" for "-" and ".".
_KERNEL_FEATURES = {
    "pclmuldq": "pclmulqdq",
    "tsc-deadline": "tsc_deadline_timer",
    "avx512vnni": "avx512_vnni",
    "avx512vbmi2": "avx512_vbmi2",
    "avx512bitalg": "avx512_bitalg",
    "avx512ifma": "avx512ifma",
    "sha-ni": "sha_ni",
}


def wanted_arguments(ours: Sequence[Argument], settings: Settings) -> Tuple[Argument, ...]:
    """Return our part of the command line: groups that are not asked for stay, the others are written anew.

    Raises ``bad_options`` for a free-form argument that has an option of its own.
    """
    replaced = _replaced_names(settings)
    kept = [item for item in ours if not _among(item.name, replaced)]
    new = _cpu_arguments(settings.cpus) + _page_arguments(settings) + _mask_arguments(settings)
    new += [item for item, present in settings.arguments if present]
    return tuple(sorted(kept + new, key=lambda item: _rank(item.name)))


def _replaced_names(settings: Settings) -> List[str]:
    names: List[str] = []
    if settings.cpus is not None:
        names += CPU_NAMES
    if settings.huge_pages is not None:
        names += PAGE_NAMES
    if settings.clearcpuid is not None:
        names += MASK_NAMES
    for item, _present in settings.arguments:
        if _among(item.name, OWN_NAMES):
            raise FleetError(
                f"The kernel argument {item.name} has an option of its own; do not give it in kernel_arguments.",
                "bad_options",
                argument=item.name,
            )
        names.append(item.name)
    return names


def _among(name: str, names: Sequence[str]) -> bool:
    return any(same_name(name, other) for other in names)


def _rank(name: str) -> int:
    """Groups in a fixed order; within a group the sort is stable, for hugepages= belongs to the hugepagesz= before."""
    for rank, names in enumerate((CPU_NAMES, PAGE_NAMES, MASK_NAMES)):
        if _among(name, names):
            return rank
    return 3


def _cpu_arguments(cpus: Optional[CpuSettings]) -> List[Argument]:
    if cpus is None or KERNEL not in cpus.methods or not cpus.isolation.isolated:
        return []
    isolated = format_cpuset(cpus.isolation.isolated)
    # A list of flags replaces the default flag, domain, which is what keeps the scheduler away.
    flags = sorted({"domain", *cpus.isolcpus_flags}) if cpus.isolcpus_flags else []
    result = [Argument("isolcpus", ",".join([*flags, isolated]))]
    if cpus.nohz_full:
        result.append(Argument("nohz_full", isolated))
    if cpus.rcu_nocbs:
        result.append(Argument("rcu_nocbs", isolated))
    if cpus.irqaffinity:
        result.append(Argument("irqaffinity", format_cpuset(cpus.isolation.housekeeping)))
    return result


def _page_arguments(settings: Settings) -> List[Argument]:
    if settings.huge_pages is None:
        return []
    result = []
    if settings.default_huge_page_kib is not None:
        result.append(Argument("default_hugepagesz", format_size(settings.default_huge_page_kib)))
    for page in at_boot(settings.huge_pages):
        result += [Argument("hugepagesz", format_size(page.size_kib)), Argument("hugepages", str(page.count))]
    return result


def at_boot(pages: Sequence[HugePages]) -> Tuple[HugePages, ...]:
    """Return the pages that the kernel command line reserves: those without a cell, by size."""
    return tuple(sorted((page for page in pages if page.cell is None), key=lambda page: page.size_kib))


def in_cells(pages: Sequence[HugePages]) -> Dict[Tuple[int, int], int]:
    """Return the pages reserved at run time: (cell, size in KiB) → number."""
    return {(page.cell, page.size_kib): page.count for page in pages if page.cell is not None}


def _mask_arguments(settings: Settings) -> List[Argument]:
    if not settings.clearcpuid:
        return []
    return [Argument("clearcpuid", ",".join(sorted({kernel_feature(name) for name in settings.clearcpuid})))]


def kernel_feature(name: str) -> str:
    """Return the kernel's name of a CPU feature that libvirt calls ``name``; a number or a kernel's name is kept."""
    return _KERNEL_FEATURES.get(name, name.replace("-", "_").replace(".", "_"))


def isolated_by(arguments: Sequence[Argument], name: str) -> Optional[str]:
    """Return the CPU list in the last ``isolcpus``, ``nohz_full`` … argument, without flags; ``None`` without one."""
    values = [item.value for item in arguments if same_name(item.name, name)]
    if not values or values[-1] is None:
        return None
    return ",".join(part for part in values[-1].split(",") if part[:1].isdigit())
