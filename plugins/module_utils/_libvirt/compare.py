# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""A CPU, given or a VM's, beside what this host can give to guests, or beside the CPU of the host's pool."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, FrozenSet, Optional, Tuple

from .._cpu import missing as lacking
from .._cpu import parse_cpu
from .._domain import parse_domain
from .._errors import FleetError
from .._host.pool_record import PoolRecord
from .cpu import (
    Comparison,
    Unknown,
    compare,
    expand,
    expand_foreign,
    own_cpu_xml,
    require_model,
    unknown_names,
    without_features,
)
from .domains import definition, get, live_xml

# A feature that must not be there, or need not, is no loss where libvirt does not know it.
_DISPENSABLE = ("disable", "forbid", "optional")


@dataclass(frozen=True)
class Judgement:
    """What libvirt says to a CPU: names it does not know, and its comparison of ``cpu_xml``, the CPU without those.

    An unknown model or required feature makes the CPU ``incompatible``; ``nonsense`` tells that from a poorer host.
    """

    comparison: Comparison
    unknown: Unknown
    cpu_xml: str
    nonsense: bool = False


def judge(conn: Any, cpu_xml: str) -> Judgement:
    """Compare a CPU with this hypervisor, without the features to disable that libvirt does not know."""
    described = parse_cpu(cpu_xml)
    model = require_model(described)
    policies = {feature.name: feature.policy for feature in described.features}
    unknown = unknown_names(conn, model, sorted(policies))
    needed = tuple(name for name in unknown.features if policies[name] not in _DISPENSABLE)
    culprits = (unknown.model, *needed) if unknown.model is not None else needed
    if culprits:
        found = Comparison("incompatible", needed, unknown.reasons[culprits[0]])
        return Judgement(found, unknown, cpu_xml, nonsense=True)
    known_xml = without_features(cpu_xml, unknown.features)
    return Judgement(compare(conn, known_xml), unknown, known_xml)


def cpu_of_vm(conn: Any, vm: str) -> str:
    """Return the CPU that a VM of this host runs with, or that of its definition if it is off.

    Raises ``vm_unknown``, or ``no_cpu`` for a VM that leaves the choice to the hypervisor.
    """
    domain = get(conn, vm)
    xml = live_xml(domain) if domain.isActive() else definition(domain)
    cpu_xml = parse_domain(xml).cpu_xml
    if cpu_xml is None:
        raise FleetError(
            f"VM {vm} names no CPU, so it has the hypervisor's default. Give it one with vm_cpu.", "no_cpu", vm=vm
        )
    return cpu_xml


def beyond(conn: Any, cpu_xml: str) -> Tuple[str, ...]:
    """Return the features that this host can give to guests and the CPU does not have, sorted."""
    own = own_cpu_xml(conn)
    return lacking(expand(conn, own), expand_foreign(conn, cpu_xml)) if own else ()


def compare_with_pool(conn: Any, cpu_xml: str, record: PoolRecord) -> Tuple[Comparison, Tuple[str, ...]]:
    """Compare a CPU with that of the host's pool; return also what the pool's CPU has beyond it."""
    described = parse_cpu(cpu_xml)
    named = expand_foreign(conn, record.cpu.xml())
    missing, extra = relate(expand_foreign(conn, cpu_xml), frozenset(record.features), named)
    if described.vendor and described.vendor != record.vendor:
        reason = f"The CPU's vendor is {described.vendor}, that of pool {record.pool} is {record.vendor}."
        return Comparison("incompatible", missing, reason), extra
    if missing:
        return Comparison("incompatible", missing, f"The CPU of pool {record.pool} lacks {', '.join(missing)}."), extra
    return Comparison("superset" if extra else "identical"), extra


def relate(
    cpu: FrozenSet[str], given: FrozenSet[str], named: FrozenSet[str]
) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
    """Return what ``cpu`` has and guests of a pool do not, and the other way round.

    Guests see ``given``, of which the pool's definition says ``named``. The rest QEMU adds to every guest, so it does
    not count as more than ``cpu`` has.
    """
    return lacking(cpu, given | named), lacking(given & named, cpu)


def pool_of(record: Optional[PoolRecord]) -> PoolRecord:
    """Return the record of the host's pool, or raise ``no_pool``."""
    if record is None:
        raise FleetError("This host is in no CPU pool. Let it join one, or compare with the host.", "no_pool")
    return record
