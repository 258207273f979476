# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""How long steps of moves take: a simulation in which moves share the links of their hosts.

As in BtrPlace's network-aware scheduling, at most some moves at once have a host at one end, for all at once would only
lengthen each other's pre-copy. Each gets an equal part of the links at both its ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Dict, List, Mapping, Sequence, Set, Tuple

from .estimate import SLOWEST_SHARE


@dataclass(frozen=True)
class Flow:
    """One migration: hosts by number, memory in MiB, and what the guest dirties in MiB/s."""

    source: int
    destination: int
    mib: float
    dirty_mib_s: float = 0.0


def seconds(steps: Sequence[Sequence[Flow]], links: Mapping[int, float], concurrency: int) -> float:
    """Return how long steps take one after the other; ``links`` are in MiB/s by host."""
    return round(sum(_Step(step, links, concurrency).run() for step in steps), 1)


class _Step:
    """Moves that may all run at once, the largest first, within ``concurrency`` for each host."""

    def __init__(self, flows: Sequence[Flow], links: Mapping[int, float], concurrency: int) -> None:
        self.flows = flows
        self.links = links
        self.concurrency = concurrency
        self.left = [flow.mib for flow in flows]
        self.since = [0.0] * len(flows)
        self.speed = [0.0] * len(flows)
        self.version = [0] * len(flows)
        self.active: Dict[int, Set[int]] = {}
        self.waiting: Dict[int, List[int]] = {}
        self.ends: List[Tuple[float, int, int]] = []
        for number in sorted(range(len(flows)), key=lambda each: (-flows[each].mib, each)):
            for host in (flows[number].source, flows[number].destination):
                self.waiting.setdefault(host, []).append(number)

    def run(self) -> float:
        now = 0.0
        self._begin(sorted(self.waiting), now)
        while self.ends:
            end, number, version = heappop(self.ends)
            if version != self.version[number]:
                continue
            now = end
            flow = self.flows[number]
            for host in (flow.source, flow.destination):
                self.active[host].discard(number)
            self._begin((flow.source, flow.destination), now)
            self._share((flow.source, flow.destination), now)
        return now

    def _begin(self, hosts: Sequence[int], now: float) -> None:
        for host in hosts:
            for number in list(self.waiting.get(host, ())):
                if len(self.active.get(host, ())) >= self.concurrency:
                    break
                flow = self.flows[number]
                other = flow.destination if flow.source == host else flow.source
                if len(self.active.get(other, ())) < self.concurrency:
                    for each in (flow.source, flow.destination):
                        self.waiting[each].remove(number)
                        self.active.setdefault(each, set()).add(number)
                    self.since[number] = now
                    self._share((flow.source, flow.destination), now)

    def _share(self, hosts: Sequence[int], now: float) -> None:
        """Give all moves at these hosts their part of the links from now on."""
        for number in sorted({number for host in hosts for number in self.active[host]}):
            flow = self.flows[number]
            self.left[number] -= self.speed[number] * (now - self.since[number])
            self.since[number] = now
            speed = min(self.links[host] / len(self.active[host]) for host in (flow.source, flow.destination))
            self.speed[number] = max(speed - flow.dirty_mib_s, speed * SLOWEST_SHARE)
            self.version[number] += 1
            end = now + max(0.0, self.left[number]) / self.speed[number]
            heappush(self.ends, (end, number, self.version[number]))
