# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Destinations for blocks one after the other, the largest first, without moving anything else."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import Dict, Iterable, Iterator, List, Optional, Tuple

from .blocks import Block
from .problem import Problem
from .room import Room
from .weights import Choice, best

# How many hosts of all that fit are compared by the weights: those with the most memory left.
SHORTLIST = 32

# Of how many hosts that can take a tied VM the pins there are compared: to find them is work.
TIED_SHORTLIST = 16


def by_size(problem: Problem, blocks: Iterable[int]) -> List[int]:
    """Return blocks, the more important first, then the larger; those with fewer destinations first among equals."""

    def key(number: int) -> Tuple[int, int, int, int]:
        block = problem.blocks[number]
        return -block.priority, -block.size, len(block.hosts), number

    return sorted(blocks, key=key)


def preferred(problem: Problem) -> Optional[Room]:
    """Give every block the destination that the weights like best, or ``None`` where one finds no room any more."""
    room = Room(problem)
    arrivals: Dict[int, int] = {}
    for block in by_size(problem, problem.leaving):
        found = ranked(room, block, arrivals, SHORTLIST)
        if not found:
            return None
        room.put(block, found[0])
        arrivals[found[0]] = arrivals.get(found[0], 0) + 1
    return room


def ranked(room: Room, block: int, arrivals: Dict[int, int], shortlist: int) -> List[int]:
    """Return the hosts that take a block, of those with the most memory left, the best first."""
    tied = room.problem.blocks[block].tied
    limit = min(shortlist, TIED_SHORTLIST) if tied else shortlist
    hosts = sorted(islice((host for host in room.emptiest(block) if room.takes(block, host)), limit))
    if len(hosts) < 2:
        return hosts
    choices = [choice_of(room, block, host, arrivals.get(host, 0)) for host in hosts]
    return [hosts[number] for number in best(choices, room.problem.ground.question.options.weights)]


def choice_of(room: Room, block: int, host: int, arrivals: int) -> Choice:
    """Return what the weights judge: of a block, its largest VM."""
    problem, ground = room.problem, room.problem.ground
    wanted = problem.blocks[block]
    cells, broken = room.layout(block, host) if wanted.tied else (0, 0)
    return Choice(
        vm=max(problem.members(block), key=lambda vm: vm.total_kib),
        host=ground.hosts[host],
        capacity_kib=ground.capacity[host][0],
        free_kib=room.floor.free[host][0] - wanted.need[0],
        arrivals=arrivals,
        pinned=ground.pinned[host],
        cells=cells,
        broken=broken,
        tier=ground.reach.tier[host],
    )


def tightest(problem: Problem) -> Tuple[Room, List[int]]:
    """Best-fit decreasing, so that large gaps stay whole: return who is where, and the blocks that found no room."""
    room = Room(problem)
    return room, pack(room, by_size(problem, problem.leaving))


def pack(room: Room, blocks: Iterable[int]) -> List[int]:
    """Put blocks where the least remains, one after the other, and return those that found no room."""
    missing: List[int] = []
    for block in blocks:
        host = room.tightest(block)
        if host is None:
            missing.append(block)
        else:
            room.put(block, host)
    return missing


def better_tiers(problem: Problem) -> Iterator[Problem]:
    """Yield the problem with only the hosts that are wanted most, then with more and more tiers, but never all."""
    reach = problem.ground.reach
    for least in sorted(set(reach.tier))[1:]:
        yield replace(problem, blocks=tuple(_below(problem, block, least) for block in problem.blocks))


def _below(problem: Problem, block: Block, least: int) -> Block:
    """Return a block that may go only to hosts of better tiers."""
    reach = problem.ground.reach
    kinds = None
    if block.kinds is not None:
        kinds = tuple(kind for kind in block.kinds if reach.tier[reach.members((kind,))[0]] < least)
    return replace(block, hosts=tuple(host for host in block.hosts if reach.tier[host] < least), kinds=kinds)
