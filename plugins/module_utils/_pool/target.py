# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which CPU a pool is to have, before it is proven."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import Any, Dict, FrozenSet, List, Optional, Sequence, Tuple

from .._cpu import (
    PRESETS,
    PoolCpu,
    basic_preset,
    by_host_data,
    default_pools,
    gain_without,
    is_default_name,
    is_nested,
    limits_data,
    masked,
)
from .model import Host
from .policy import BASELINE, BASIC, Policy
from .request import Candidate
from .settle import Standing

# Every guest has it, and without it a guest does not know that it is one.
_NEVER_DISABLED = frozenset({"hypervisor"})


@dataclass(frozen=True)
class Target:
    """The CPU a pool is to have and where it comes from.

    ``kept`` says that the pool keeps the CPU on record. Without ``cpu``, a baseline has to be computed first.
    """

    definition: str
    kept: bool = False
    cpu: Optional[PoolCpu] = None
    preset: Optional[str] = None


def terms_target(pool: str, vendor: Optional[str], policy: Policy, standing: Standing) -> Target:
    """Return the target as far as it does not depend on who the members are."""
    content = standing.content
    definition = _definition(pool, policy, standing)
    wanted_anew = policy.recalc or policy.definition == BASELINE
    if content is not None and not wanted_anew and definition == content.definition:
        return Target(definition, True, _with_bits(content.cpu, policy), _preset(definition, content.vendor))
    if definition == BASELINE:
        return Target(definition)
    preset = _preset(definition, vendor)
    if preset is None:
        return Target(definition)
    return Target(definition, False, _with_bits(PRESETS[preset].cpu, policy), preset)


def _definition(pool: str, policy: Policy, standing: Standing) -> str:
    if is_default_name(pool):
        return pool
    if policy.recalc:
        return BASELINE
    if policy.definition is not None:
        return policy.definition
    return standing.content.definition if standing.content else BASIC


def _preset(definition: str, vendor: Optional[str]) -> Optional[str]:
    if definition != BASIC:
        return definition if definition in PRESETS else None
    return basic_preset(vendor).name if default_pools(vendor) else None


def _with_bits(cpu: PoolCpu, policy: Policy) -> PoolCpu:
    return cpu if policy.address_bits is None else replace(cpu, address_bits=policy.address_bits or None)


def baseline_target(
    target: Target, members: Sequence[Host], policy: Policy, standing: Standing, candidates: Sequence[Candidate]
) -> Target:
    """Return a target that lacks a CPU with the one that was computed for these members, if it was."""
    wanted = compute_id(members)
    fitting = [item for item in candidates if item.pool == standing.pool and item.compute_id in (None, wanted)]
    if not fitting:
        return target
    cpu = _restricted(fitting[-1], members, policy)
    content = standing.content
    if content is not None and _hides_what_is_gone(content.cpu, cpu, fitting[-1].features):
        cpu = content.cpu
    return replace(target, cpu=cpu)


def _hides_what_is_gone(recorded: PoolCpu, computed: PoolCpu, features: FrozenSet[str]) -> bool:
    """Whether the CPU on record only disables more, namely what no member has any more.

    So a pool stays what it is when a kernel hides what the pool does not have anyway. ``features`` are those of
    ``computed`` as libvirt expands it.
    """
    more = frozenset(recorded.disable) - frozenset(computed.disable)
    return recorded == computed.with_disabled(more) and not more & features


def _restricted(candidate: Candidate, members: Sequence[Host], policy: Policy) -> PoolCpu:
    """Return a computed CPU without nested virtualisation, that disables what some member has and the pool has not.

    Libvirt's models are not QEMU's: a model brings features that libvirt does not list, on some hosts only, unless
    they are disabled by name.
    """
    cpu = candidate.cpu
    everything = frozenset().union(*(host.traits.features or () for host in members), cpu.require, cpu.disable)
    nested = frozenset(name for name in everything | candidate.features if is_nested(name))
    features = candidate.features - nested
    off = ((everything | nested) - features - frozenset(cpu.require)) | nested
    bits = _bits(members) if policy.address_bits is None else policy.address_bits or None
    return replace(cpu.without(nested).with_disabled(sorted(off - _NEVER_DISABLED)), address_bits=bits)


def _bits(members: Sequence[Host]) -> Optional[int]:
    """Return the smallest address width of all members, if all are known."""
    known = [host.traits.address_bits for host in members]
    return min((bits for bits in known if bits is not None), default=None) if None not in known else None


def different_cpus(members: Sequence[Host]) -> List[Dict[str, Any]]:
    """Return the CPUs to compute a baseline of, each once: ``{name, cpu_xml, features}``."""
    found: Dict[str, Dict[str, Any]] = {}
    for host in sorted(members, key=lambda host: host.name):
        if host.cpu_xml is not None:
            item = {"name": host.name, "cpu_xml": host.cpu_xml, "features": sorted(host.traits.features or ())}
            found.setdefault(host.cpu_xml, item)
    return list(found.values())


def compute_on(members: Sequence[Host]) -> Optional[str]:
    """Return the member that computes: the one with the newest libvirt, then QEMU, knows the others' CPUs best."""
    ordered = sorted((host for host in members if host.cpu_xml is not None), key=lambda host: host.name)
    return max(ordered, key=_newness).name if ordered else None


def _newness(host: Host) -> Tuple[List[int], List[int]]:
    versions = host.traits.versions
    return _numbers(versions.get("libvirt", "")), _numbers(versions.get("qemu", ""))


def _numbers(version: str) -> List[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def compute_id(members: Sequence[Host]) -> str:
    """Return what names a computation: the CPUs, and the host, for libvirt intersects with what that host offers."""
    texts = [compute_on(members) or "", *sorted(item["cpu_xml"] for item in different_cpus(members))]
    return "b" + hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def shared_data(members: Sequence[Host], features: Optional[FrozenSet[str]]) -> Dict[str, Any]:
    """Return who limits what among the members, and what they have beyond ``features`` of their pool.

    ``{limits: [{feature, hosts that lack it}], gain_without: [{host, features}], masked: [{host, features}]}``. Nested
    virtualisation is left out of the first two, for no pool has it.
    """
    full = {host.name: host.traits.features for host in members if host.traits.features is not None}
    offered = {name: frozenset(item for item in found if not is_nested(item)) for name, found in full.items()}
    return {
        "limits": limits_data(offered),
        "gain_without": by_host_data(gain_without(offered)),
        "masked": [] if features is None else by_host_data(masked(full, features)),
    }
