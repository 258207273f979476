# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Pins of a VM that goes to another host.

The source's pins must not be reused blindly: CPUs that do not exist fail the migration with "cannot set CPU
affinity". CPUs the destination has are kept; every other pinned CPU gets a CPU of its own there.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Dict, FrozenSet, Iterable, Mapping, Optional

from .._domain import AUTO, Pinning
from .._topology import format_cpuset, parse_cpuset
from ._threads import pinned


@dataclass(frozen=True)
class Misfit:
    """Why pins cannot be had on a host; ``facts`` are the numbers behind ``text``."""

    code: str
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)


# The same pins are asked for once per host, and parsing their sets is most of the work.
@lru_cache(maxsize=4096)
def pinned_cpus(pinning: Pinning) -> FrozenSet[int]:
    """Return every CPU that a vCPU, the emulator or an I/O thread is pinned to."""
    return frozenset(cpu for text in pinned(pinning).values() if text != AUTO for cpu in parse_cpuset(text))


@lru_cache(maxsize=4096)
def bound_nodes(pinning: Pinning) -> FrozenSet[int]:
    """Return all nodes to which memory is bound, none where numad chooses them."""
    texts = [cell.node for cell in pinning.cells] + ([pinning.memory.nodes] if pinning.memory else [])
    return frozenset(node for text in texts if text and text != AUTO for node in parse_cpuset(text))


def fit_pinning(pinning: Pinning, cpus: Optional[FrozenSet[int]], nodes: Optional[FrozenSet[int]]) -> Optional[Misfit]:
    """Return why a host with these CPUs and NUMA nodes cannot give the pins, or ``None``; not known fits.

    Nodes must exist in every mode: libvirt checks them before it looks at the mode ("NUMA node N is unavailable").
    """
    wanted = pinned_cpus(pinning)
    if cpus is not None and len(wanted) > len(cpus):
        text = f"has {len(cpus)} CPUs, the VM is pinned to {len(wanted)} different ones"
        return Misfit("pinning", text, {"cpus": len(cpus), "needed_cpus": len(wanted)})
    missing = bound_nodes(pinning) - nodes if nodes is not None else frozenset()
    if missing:
        text = f"lacks the NUMA nodes {format_cpuset(missing)} the VM's memory is bound to"
        return Misfit("numa_nodes", text, {"missing": sorted(missing)})
    return None


def keeps_pinning(pinning: Pinning, cpus: Optional[FrozenSet[int]]) -> bool:
    """Whether every pinned CPU exists on a host; CPUs that are not known count as there."""
    return cpus is None or pinned_cpus(pinning) <= cpus


def count_pins(pinnings: Iterable[Pinning]) -> Dict[int, int]:
    """Return how many vCPUs are pinned to each CPU."""
    counts: Dict[int, int] = {}
    for pinning in pinnings:
        for pin in pinning.vcpus:
            for cpu in parse_cpuset(pin.cpus):
                counts[cpu] = counts.get(cpu, 0) + 1
    return counts


def move_pinning(pinning: Pinning, cpus: FrozenSet[int], usage: Mapping[int, int]) -> Pinning:
    """Return the pins for a host that passed ``fit_pinning``; ``usage`` is its ``count_pins``.

    Different CPUs stay different. CPUs that do not exist are replaced in ascending order by the CPUs with the fewest
    pins. A ``cpuset`` for all threads stays as it is.
    """
    wanted = pinned_cpus(pinning)
    kept = wanted & cpus
    spare = sorted(cpus - kept, key=lambda cpu: (usage.get(cpu, 0), cpu))
    new = {cpu: cpu for cpu in kept}
    new.update(zip(sorted(wanted - kept), spare))
    return replace(
        pinning,
        vcpus=tuple(replace(pin, cpus=_renamed(pin.cpus, new)) for pin in pinning.vcpus),
        iothreads=tuple(replace(pin, cpus=_renamed(pin.cpus, new)) for pin in pinning.iothreads),
        emulator=_renamed(pinning.emulator, new) if pinning.emulator else None,
    )


def _renamed(text: str, new: Mapping[int, int]) -> str:
    return AUTO if text == AUTO else format_cpuset(new[cpu] for cpu in parse_cpuset(text))
