# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random CPUs against the libvirt of a host: runs on the host itself, and prints the broken rules as JSON."""

from __future__ import annotations

import json
import random
import sys
from typing import Any, Dict, FrozenSet, List, Sequence

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import cpu as edge
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt.connection import connection

# Models of one vendor each, or of none; a pool of two has no baseline.
MODELS = (
    ("kvm64", "qemu64", "Penryn", "Nehalem", "Westmere", "SandyBridge", "Haswell", "Skylake-Server"),
    ("kvm64", "qemu64", "Opteron_G3", "EPYC", "EPYC-Rome"),
)
POOLS, MANY = 30, 300


def cpu(model: str, require: Sequence[str] = (), disable: Sequence[str] = ()) -> str:
    policies = {**dict.fromkeys(require, "require"), **dict.fromkeys(disable, "disable")}
    features = "".join(f"<feature policy='{policy}' name='{name}'/>" for name, policy in policies.items())
    return f"<cpu mode='custom' match='exact'><model fallback='forbid'>{model}</model>{features}</cpu>"


class Rules:
    """The rules about baselines, checked with one connection; `broken` has what did not hold."""

    def __init__(self, conn: Any, seed: int) -> None:
        self.conn = conn
        self.random = random.Random(seed)
        own = edge.own_cpu_xml(conn) or ""
        self.own = edge.expand(conn, own)
        self.brings = {model: edge.expand_foreign(conn, cpu(model)) for models in MODELS for model in models}
        self.broken: List[Dict[str, Any]] = []
        self.expect(edge.expand_foreign(conn, own) == self.own, "both expansions of the host's own CPU agree", [own])

    def expect(self, holds: bool, rule: str, facts: Any) -> None:
        if not holds:
            self.broken.append({"rule": rule, "facts": facts})

    def member(self, models: Sequence[str], losable: Sequence[str]) -> str:
        """A CPU of a host a little poorer than this one, written with any of the models."""
        model = self.random.choice(models)
        lost = self.random.sample(losable, self.random.randint(0, 6))
        brings = self.brings[model]
        wanted = self.own.difference(lost)
        return cpu(model, sorted(wanted - brings), sorted(brings - wanted))

    def features(self, cpu_xml: str) -> FrozenSet[str]:
        return edge.expand_foreign(self.conn, cpu_xml)

    def pool(self) -> None:
        models = self.random.choice(MODELS)
        members = [self.member(models, sorted(self.own)) for _count in range(self.random.randint(1, 8))]
        found = edge.baseline(self.conn, members)
        common = self.features(found)
        for member in members:
            self.expect(common <= self.features(member), "a baseline is never more than a member", [found, member])
        everyone = frozenset.intersection(*map(self.features, members))
        # invtsc and xsaves are what the flag for migration takes away.
        self.expect(everyone - common <= {"invtsc", "xsaves"}, "a baseline is all that is common", [found, members])
        again = [*members, *self.random.sample(members, 1)]
        self.random.shuffle(again)
        self.expect(edge.baseline(self.conn, again) == found, "order and duplicates do not matter", [members, again])
        self.expect(edge.baseline(self.conn, [found]) == found, "a baseline is its own baseline", [found])
        result = edge.compare(self.conn, found).result
        self.expect(result in ("identical", "superset"), "a member of the pool can give the baseline", [found, result])

    def many(self) -> None:
        # Few features to lose: what hundreds of quite different CPUs have in common is nothing at all.
        losable = self.random.sample(sorted(self.own), 12)
        members = sorted({self.member(MODELS[0], losable) for _count in range(2 * MANY)})[:MANY]
        self.expect(len(members) == MANY, "the test has enough CPUs", len(members))
        found = edge.baseline(self.conn, members)
        everyone = frozenset.intersection(*map(self.features, members))
        self.expect(self.features(found) == everyone - {"invtsc", "xsaves"}, "hundreds of CPUs have a baseline", found)


def main() -> None:
    with connection("qemu:///system") as conn:
        rules = Rules(conn, int(sys.argv[1]))
        for _count in range(POOLS):
            rules.pool()
        rules.many()
    print(json.dumps({"own": len(rules.own), "broken": rules.broken}))


if __name__ == "__main__":
    main()
