# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Why VMs that each fit somewhere do not fit together."""

from __future__ import annotations

from typing import Dict, FrozenSet, List, Optional, Sequence, Set, Tuple

from .answer import Shortage
from .problem import Problem
from .question import others
from .resources import RESOURCES, UNLIMITED, Vector, known

# How many hosts a shortage lists, those with the most memory left.
LISTED = 20


def shortage(problem: Problem) -> Shortage:
    """Return the group of VMs that lacks most, or all VMs where no group lacks anything in total.

    A group is every VM confined to one set of hosts; it cannot be placed if it needs more than these hosts have
    (Hall's condition for sums). VMs that may make room count as room only where they can go to hosts beyond the set.
    Where no group lacks anything, the gaps are too small for the pieces, or only the order of moves fails.
    """
    free = problem.emptied().free
    makers = _makers(problem)
    reachable = frozenset(host for block in problem.blocks for host in block.hosts)
    groups = {_closed(hosts, makers) for hosts in {frozenset(block.hosts) for block in problem.blocks} | {reachable}}
    worst: Optional[Tuple[int, int, FrozenSet[int]]] = None
    for hosts in sorted(groups, key=sorted):
        members = [block.need for block in problem.blocks if hosts.issuperset(block.hosts)]
        for kind in range(len(RESOURCES)):
            lacking = sum(need[kind] for need in members) - _offered(free, hosts, kind)
            if lacking > 0 and (worst is None or lacking > worst[0]):
                worst = (lacking, kind, hosts)
    if worst is None:
        return _describe(problem, free, _closed(reachable, makers), None)
    return _describe(problem, free, worst[2], RESOURCES[worst[1]])


def _makers(problem: Problem) -> Dict[int, FrozenSet[int]]:
    """Return for each host where the VMs on it that may make room can go."""
    ground = problem.ground
    found: Dict[int, Set[Tuple[int, ...]]] = {}
    for vm in others(ground.snapshot, ground.question):
        found.setdefault(ground.number[vm.host], set()).add(ground.reach.hosts(vm))
    return {host: frozenset(each for hosts in reaches for each in hosts) for host, reaches in found.items()}


def _closed(hosts: FrozenSet[int], makers: Dict[int, FrozenSet[int]]) -> FrozenSet[int]:
    """Return hosts with all to which their VMs could go."""
    waiting, found = list(hosts), set(hosts)
    while waiting:
        more = makers.get(waiting.pop(), frozenset()) - found
        found |= more
        waiting.extend(more)
    return frozenset(found)


def _offered(free: Sequence[Vector], hosts: FrozenSet[int], kind: int) -> int:
    return min(UNLIMITED, sum(max(0, free[host][kind]) for host in hosts))


def _describe(problem: Problem, free: Sequence[Vector], hosts: FrozenSet[int], proof: Optional[str]) -> Shortage:
    blocks = [block for block in problem.blocks if hosts.issuperset(block.hosts)]
    needed = {name: sum(block.need[kind] for block in blocks) for kind, name in enumerate(RESOURCES)}
    offered = {name: known(_offered(free, hosts, kind)) for kind, name in enumerate(RESOURCES)}
    most = sorted(sorted(hosts), key=lambda host: -free[host][0])[:LISTED]
    rows: List[Dict[str, object]] = [
        {"host": problem.hosts[host].name, "free_kib": known(free[host][0]), "free_vcpus": known(free[host][1])}
        for host in sorted(most)
    ]
    names = sorted(problem.vms[vm].name for block in blocks for vm in block.vms)
    return Shortage(tuple(names), proof, needed, offered, len(hosts), tuple(rows))
