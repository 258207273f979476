# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Who limits what: effective feature sets of hosts against each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import AbstractSet, Any, Dict, FrozenSet, List, Mapping, Sequence, Tuple


@dataclass(frozen=True)
class Limit:
    """A feature that some hosts of a group have and ``hosts`` lack, so that the group as a whole does not have it."""

    feature: str
    hosts: Tuple[str, ...]


def limits(hosts: Mapping[str, AbstractSet[str]]) -> Tuple[Limit, ...]:
    """Return each feature that only some of ``hosts`` (name to features) have, with those that lack it; all sorted."""
    everything: FrozenSet[str] = frozenset().union(*hosts.values())
    found = (
        Limit(feature, tuple(sorted(name for name in hosts if feature not in hosts[name])))
        for feature in sorted(everything)
    )
    return tuple(limit for limit in found if limit.hosts)


def gain_without(hosts: Mapping[str, AbstractSet[str]]) -> Dict[str, Tuple[str, ...]]:
    """Return for each host the features that all others would have in common if it left, sorted; none for the last."""
    alone: Dict[str, Tuple[str, ...]] = dict.fromkeys(sorted(hosts), ())
    for limit in limits(hosts):
        if len(limit.hosts) == 1:
            alone[limit.hosts[0]] += (limit.feature,)
    return alone


def masked(hosts: Mapping[str, AbstractSet[str]], pool_features: AbstractSet[str]) -> Dict[str, Tuple[str, ...]]:
    """Return for each host the features it has and guests with ``pool_features`` do not see, sorted."""
    return {name: tuple(sorted(frozenset(hosts[name]) - pool_features)) for name in sorted(hosts)}


def limits_data(hosts: Mapping[str, AbstractSet[str]]) -> List[Dict[str, Any]]:
    """Return ``limits`` as results have them: ``[{feature, hosts that lack it}]``."""
    return [{"feature": limit.feature, "hosts": list(limit.hosts)} for limit in limits(hosts)]


def by_host_data(found: Mapping[str, Sequence[str]]) -> List[Dict[str, Any]]:
    """Return ``gain_without`` or ``masked`` as results have them: ``[{host, features}]``, of hosts that have any."""
    return [{"host": host, "features": list(features)} for host, features in found.items() if features]
