# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The CPU that hosts share, with the features of each of them that it leaves out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, FrozenSet, List, Mapping, Sequence

from .._cpu import PoolCpu, by_host_data, gain_without, limits_data, masked
from .._errors import FleetError
from .cpu import baseline, expand, expand_foreign


@dataclass(frozen=True)
class Shared:
    """A baseline: the CPU, all features that a guest with it has here, and all that each host has."""

    cpu: PoolCpu
    features: FrozenSet[str]
    hosts: Mapping[str, FrozenSet[str]]
    distinct: int

    def expanded(self) -> PoolCpu:
        """Return the CPU with every feature named, also those its model brings."""
        return replace(self.cpu, require=tuple(self.features))


def hosts_of(cpus: Sequence[str]) -> List[Dict[str, Any]]:
    """Return CPUs without hosts as the hosts ``CPU 1``, ``CPU 2`` and so on."""
    return [{"name": f"CPU {number}", "cpu_xml": cpu_xml} for number, cpu_xml in enumerate(cpus, 1)]


def shared_cpu(conn: Any, hosts: Sequence[Mapping[str, Any]], migratable: bool) -> Shared:
    """Return the baseline of ``[{name, cpu_xml, features}]``, where ``features`` may be missing.

    A CPU is told apart by its XML: equal ones count once in ``distinct`` and are expanded once. Raises what
    ``baseline`` does, and ``bad_input`` for a host that is named twice.
    """
    names = [str(host["name"]) for host in hosts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FleetError(f"{', '.join(twice)} is given twice; name every host once.", "bad_input", hosts=twice)
    cpus = [str(host["cpu_xml"]) for host in hosts]
    cpu_xml = baseline(conn, cpus, migratable, names)
    expanded: Dict[str, FrozenSet[str]] = {}
    features: Dict[str, FrozenSet[str]] = {}
    for name, host, text in zip(names, hosts, cpus):
        given = host.get("features")
        if given is None and text not in expanded:
            expanded[text] = expand_foreign(conn, text)
        features[name] = expanded[text] if given is None else frozenset(given)
    return Shared(PoolCpu.from_xml(cpu_xml), expand(conn, cpu_xml), features, len(set(cpus)))


def costs(shared: Shared) -> Dict[str, List[Dict[str, Any]]]:
    """Return ``limits``, ``gain_without`` and ``masked`` as results have them; hosts with nothing to tell are left out.

    ``[{feature, hosts}]``: what some hosts have and these lack. ``[{host, features}]``: what the others would have in
    common without this host, and what a host has that guests with the common CPU do not see.
    """
    return {
        "limits": limits_data(shared.hosts),
        "gain_without": by_host_data(gain_without(shared.hosts)),
        "masked": by_host_data(masked(shared.hosts, shared.features)),
    }
