# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Why VMs that each fit somewhere do not fit together."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

from .answer import Shortage
from .problem import Problem
from .resources import RESOURCES, UNLIMITED, known


def shortage(problem: Problem) -> Shortage:
    """Return the group of VMs that lacks most, or all VMs where no group lacks anything in total.

    A group is every VM confined to one set of hosts; it cannot be placed if it needs more than these hosts have
    (Hall's condition for sums). Where no group lacks anything, the gaps are too small for the pieces, or only the
    order of moves fails.
    """
    everyone = list(range(len(problem.vms)))
    reachable = sorted({host for hosts in problem.candidates for host in hosts})
    groups = [*sorted(set(problem.candidates)), tuple(reachable)]
    worst: Optional[Tuple[int, int, Tuple[int, ...]]] = None
    for hosts in groups:
        members = [vm for vm in everyone if set(problem.candidates[vm]) <= set(hosts)]
        for kind in range(len(RESOURCES)):
            lacking = _needed(problem, members, kind) - _free(problem, hosts, kind)
            if lacking > 0 and (worst is None or lacking > worst[0]):
                worst = (lacking, kind, hosts)
    if worst is None:
        return _describe(problem, everyone, tuple(reachable), None)
    members = [vm for vm in everyone if set(problem.candidates[vm]) <= set(worst[2])]
    return _describe(problem, members, worst[2], RESOURCES[worst[1]])


def _needed(problem: Problem, vms: Sequence[int], kind: int) -> int:
    return sum(problem.demand[vm][kind] for vm in vms)


def _free(problem: Problem, hosts: Sequence[int], kind: int) -> int:
    free = problem.free_after()
    return min(UNLIMITED, sum(max(0, free[host][kind]) for host in hosts))


def _describe(problem: Problem, vms: Sequence[int], hosts: Sequence[int], proof: Optional[str]) -> Shortage:
    free = problem.free_after()
    needed: Dict[str, int] = {name: _needed(problem, vms, kind) for kind, name in enumerate(RESOURCES)}
    offered: Dict[str, Optional[int]] = {
        name: known(_free(problem, hosts, kind)) for kind, name in enumerate(RESOURCES)
    }
    rows: List[Dict[str, object]] = []
    for host in hosts:
        name = problem.hosts[host].name
        rows.append({"host": name, "free_kib": known(free[host][0]), "free_vcpus": known(free[host][1])})
    return Shortage(tuple(problem.vms[vm].name for vm in vms), proof, needed, offered, tuple(rows))
