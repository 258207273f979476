# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What is wanted of each pool, and whether the hosts that name it agree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Set, Tuple

from .._cpu import PRESETS, is_default_name
from .model import Refusal
from .request import NO_BITS, Request, Wish
from .settle import Standing

BASIC, BASELINE = "basic", "baseline"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Policy:
    """What is wanted of a pool; ``definition`` and ``address_bits`` of ``None`` keep what is there.

    ``recalc`` is a recalculation asked for in this run. With a ``refusal``, the pool keeps its CPU and nobody joins.
    """

    definition: Optional[str] = None
    address_bits: Optional[int] = None
    recalc: bool = False
    refusal: Optional[Refusal] = None

    def asks_for_change(self, standing: Standing) -> bool:
        """Whether the CPU of an existing pool has to become another one, as far as one can tell before computing."""
        if standing.content is None:
            return False
        if self.recalc:
            return True
        own = standing.content.cpu.address_bits or NO_BITS
        other_bits = self.address_bits is not None and self.address_bits != own
        return other_bits or self.definition not in (None, BASELINE, standing.content.definition)


def name_refusal(name: str, host: str) -> Optional[Refusal]:
    """Return why a host cannot name this pool."""
    if not _NAME.fullmatch(name):
        msg = (
            f"Host {host} asks for the pool {name!r}, which is no name of a pool: 1 to 63 letters, digits, dots,"
            " underscores and dashes, a letter or digit first. Choose another name."
        )
        return Refusal("pool_name", msg, host, name)
    if is_default_name(name):
        msg = (
            f"Host {host} asks for {name}, but nobody can choose a default pool. Leave the pool out, and the host joins"
            " the default pool that fits it, or choose another name."
        )
        return Refusal("default_pool", msg, host, name)
    return None


def policies(request: Request, standings: Mapping[str, Standing]) -> Dict[str, Policy]:
    """Return what is wanted of every pool that somebody names."""
    named: Dict[str, List[Wish]] = {}
    for wish in request.wishes:
        if wish.present and wish.pool is not None and name_refusal(wish.pool, wish.name) is None:
            named.setdefault(wish.pool, []).append(wish)
    found = {pool: _agreed(pool, wishes) for pool, wishes in named.items()}
    for pool in request.recalc:
        found[pool] = _recalculated(pool, found.get(pool, Policy()), pool in named or pool in standings)
    return found


def _agreed(pool: str, wishes: List[Wish]) -> Policy:
    groups: Dict[Tuple[Optional[str], Optional[int]], List[str]] = {}
    for wish in wishes:
        groups.setdefault((wish.definition, wish.address_bits), []).append(wish.name)
    if len(groups) > 1:
        return Policy(refusal=_conflict(pool, groups))
    definition, bits = next(iter(groups))
    return Policy(definition, bits, refusal=_definition_refusal(pool, definition))


def _conflict(pool: str, groups: Mapping[Tuple[Optional[str], Optional[int]], List[str]]) -> Refusal:
    ordered = sorted(groups.items(), key=lambda item: sorted(item[1]))
    words = [f"{', '.join(sorted(hosts))}: {_said(*key)}" for key, hosts in ordered]
    msg = (
        f"The hosts of pool {pool} do not agree about its CPU ({'; '.join(words)})."
        " Put definition and address width into the variables of one group."
    )
    return Refusal(
        "definition_conflict",
        msg,
        pool=pool,
        facts={"hosts": sorted(host for hosts in groups.values() for host in hosts)},
    )


def _said(definition: Optional[str], bits: Optional[int]) -> str:
    width = "" if bits is None else f" with {bits or 'no'} address bits"
    return (definition or "no definition") + width


def _definition_refusal(pool: str, definition: Optional[str]) -> Optional[Refusal]:
    if definition in (None, BASIC, BASELINE) or (definition in PRESETS and not is_default_name(str(definition))):
        return None
    known = tiers()
    msg = (
        f"Pool {pool} is to be defined as {definition}, which is not known. Use {BASIC}, {BASELINE} or one of the tiers"
        f" {', '.join(known)}."
    )
    return Refusal("definition", msg, pool=pool, facts={"definition": definition})


def tiers() -> Tuple[str, ...]:
    """Return the names that a definition may have besides basic and baseline."""
    return tuple(sorted(name for name in PRESETS if not is_default_name(name)))


def _recalculated(pool: str, policy: Policy, exists: bool) -> Policy:
    if policy.refusal is not None:
        return policy
    if is_default_name(pool):
        msg = (
            f"The CPU of the default pool {pool} is preset and cannot be recalculated. Move its hosts to another pool."
        )
        return Policy(refusal=Refusal("default_pool", msg, pool=pool))
    if not exists:
        msg = f"There is no pool {pool} to recalculate. Look at the names with the question stat."
        return Policy(refusal=Refusal("pool_name", msg, pool=pool))
    if policy.definition not in (None, BASELINE):
        msg = (
            f"Pool {pool} is to be recalculated, but the inventory defines it as {policy.definition}. Leave the"
            f" definition out of the inventory, or make it {BASELINE}."
        )
        return Policy(refusal=Refusal("definition", msg, pool=pool, facts={"definition": policy.definition}))
    return Policy(policy.definition, policy.address_bits, recalc=True)


def unanswered(found: Mapping[str, Policy], pools: Set[str]) -> List[Refusal]:
    """Return the refusals of pools that exist neither now nor after the plan."""
    return [policy.refusal for name, policy in sorted(found.items()) if policy.refusal and name not in pools]
