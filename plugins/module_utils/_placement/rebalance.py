# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Rebalance hosts with few moves: each move is the one that evens out the memory load most."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from .answer import Answer, Totals, Wave
from .build import build, widened
from .cell_warnings import of_cells
from .estimate import Bounds, transfer_bound
from .exact import FOUND
from .model import Snapshot
from .moves import duration, moves_of
from .order import in_steps
from .question import Question
from .request import Request
from .resources import known
from .room import Room
from .solve import Solution
from .traffic import Traffic, Transfer
from .transfers import pins_of, transfer

# How many of the fullest and of the emptiest hosts are looked at for each move.
FULLEST = 8
EMPTIEST = 16

# By how much a move has to lessen the sum of the squared shares: half a per cent of a host is not worth it.
LEAST_GAIN = 0.005**2


def rebalance(request: Request, snapshot: Snapshot) -> Answer:
    """Return at most ``max_moves`` moves between the hosts of the request that even out their memory load."""
    names = frozenset(host.name for host in request.hosts)
    question = Question((), lambda vm: names, request.options, makes_room=True)
    asked, _stuck = build(question, snapshot)
    problem = widened(asked)
    room = Room(problem)
    scale = _Scale(room, [asked.ground.number[name] for name in sorted(names)])
    before = scale.percent()
    sequence = scale.even_out(request.max_moves or 0)
    traffic = Traffic(problem.ground.now(), pins_of(problem))
    for move in sequence:
        traffic.start(move)
        traffic.end(move)
    steps = in_steps(sequence, problem.ground.now())
    solution = Solution(problem, steps, FOUND, scale.tried, traffic.entries)
    vms = [problem.vms[move.vm] for move in sequence]
    hosts = {host.name: host for host in snapshot.hosts}
    estimated, some = duration(solution), int(bool(vms))
    return Answer(
        question=request.question,
        waves=(Wave((), moves_of(solution), estimated),) if vms else (),
        unplaced=(),
        bounds=Bounds(scale.fewest_moves(before), some, transfer_bound(vms, hosts, {})),
        totals=Totals(len(vms), some, estimated, 0),
        search=FOUND,
        search_nodes=scale.tried,
        balance={"before": _ends(before), "after": _ends(scale.percent())},
        warnings=tuple(of_cells(solution)),
    )


def _ends(percent: Mapping[int, float]) -> Dict[str, float]:
    """Return the lowest and the highest load."""
    values = [round(value, 1) for value in percent.values()]
    return {"lowest_percent": min(values, default=0.0), "highest_percent": max(values, default=0.0)}


class _Scale:
    """Memory loads of some hosts, and the moves that even them out."""

    def __init__(self, room: Room, hosts: Sequence[int]) -> None:
        self.room = room
        self.problem = room.problem
        self.total = {host: self.problem.ground.capacity[host][0] for host in hosts}
        # What is in maintenance or has no known size is left alone.
        self.total = {
            host: total
            for host, total in self.total.items()
            if known(total) is not None and total > 0 and not self.problem.hosts[host].maintenance
        }
        self.tried = 0

    def percent(self) -> Dict[int, float]:
        """Return the load of each host."""
        return {host: 100 * self._share(host, 0) for host in self.total}

    def _share(self, host: int, change: int) -> float:
        return (self.total[host] - self.room.floor.free[host][0] + change) / self.total[host]

    def even_out(self, most: int) -> List[Transfer]:
        """Carry out up to so many VMs' moves, the best one first, and return them in this order."""
        done: List[Transfer] = []
        while True:
            found = self._best(most - len(done))
            if found is None:
                return done
            block, host = found
            wanted, source = self.problem.blocks[block], self.room.take_away(block)
            self.room.put(block, host)
            done.extend(transfer(self.problem, vm, source, host) for vm in wanted.vms)

    def _best(self, most: int) -> Optional[Tuple[int, int]]:
        """Return the block and the host of the best move of at most so many VMs; none moves twice."""
        order = sorted(self.total, key=lambda host: (-self._share(host, 0), host))
        best: Optional[Tuple[float, int, int]] = None
        for source in order[:FULLEST]:
            for block in sorted(self.room.on.get(source, ())):
                wanted = self.problem.blocks[block]
                if wanted.at != source or len(wanted.vms) > most:
                    continue
                for host in order[: -EMPTIEST - 1 : -1]:
                    gain = self._gain(wanted.need[0], source, host)
                    better = gain > LEAST_GAIN and (best is None or -gain < best[0])
                    self.tried += 1
                    if better and host in wanted.hosts and self.room.takes(block, host):
                        best = (-gain, block, host)
        return None if best is None else best[1:]

    def _gain(self, need: int, source: int, host: int) -> float:
        if source == host:
            return 0.0
        full, empty = self._share(source, 0), self._share(host, 0)
        left, filled = self._share(source, -need), self._share(host, need)
        # On hosts of different size the squares may fall although one of them ends fuller than the other one was.
        if min(left, filled) < empty or max(left, filled) > full:
            return 0.0
        return full**2 + empty**2 - left**2 - filled**2

    def fewest_moves(self, before: Mapping[int, float]) -> int:
        """Return how many VMs have to leave the hosts that were above the highest load of now, at least."""
        highest, count = max(self.percent().values(), default=0.0), 0
        for host, percent in before.items():
            excess = (percent - highest) / 100 * self.total[host]
            sizes = sorted((self.problem.blocks[each].need[0] for each in self._were_on(host)), reverse=True)
            while excess > 1 and sizes:
                excess -= sizes.pop(0)
                count += 1
        return count

    def _were_on(self, host: int) -> List[int]:
        return [number for number, block in enumerate(self.problem.blocks) if block.at == host]
