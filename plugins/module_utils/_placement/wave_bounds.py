# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""How many waves, moves and seconds a rollout needs at least."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import accumulate
from math import floor
from typing import Container, Dict, Iterable, List, Mapping, Optional, Sequence, Set

from .estimate import link
from .model import Host, Snapshot, Vm
from .pinned import is_shut_down
from .request import Options
from .resources import RESOURCES, UNLIMITED, Vector, capacity, demand


@dataclass(frozen=True)
class WaveBound:
    """``waves`` is 0 where the hosts cannot be emptied in any number of waves; ``by`` names what decides.

    ``at_once`` is how many hosts can be down together at most.
    """

    waves: int
    by: str
    at_once: int


def wave_bound(pool: Pool, options: Options) -> WaveBound:
    """Return in how many waves hosts of a pool can be serviced at best.

    Hosts that are down at once leave room for all VMs on the others: the sum of their capacity is at most what the pool
    has beyond its VMs. Of a group that is kept apart each VM needs a host of its own, and any VM needs one. What is
    shut down with its host needs room nowhere else.
    """
    count = len(pool.serviced)
    if not count:
        return WaveBound(0, "nothing", 0)
    there = _in_use(pool, options)
    names = {host.name for host in there}
    lost = sum(host.name in names for host in pool.serviced)
    found = [WaveBound(1, "hosts", count)]
    if options.max_hosts_down is not None:
        found.append(_at_most(options.max_hosts_down, count, 0, "max_hosts_down"))
    everyone = [*pool.vms, *pool.asleep]
    spare, asleep = _spare(there, everyone), _loads(pool.serviced, pool.asleep)
    for kind, name in enumerate(RESOURCES):
        # What takes no VMs is no loss while it is down, nor is what VMs keep that are down with it.
        left = ((host.name in names, capacity(host)[kind] - asleep[host.name][kind]) for host in pool.serviced)
        sizes = [max(0, size) if takes else 0 for takes, size in left]
        if spare[kind] < UNLIMITED and any(sizes):
            found.append(_by_amount(sizes, spare[kind], name))
    staying = _hosts_of_groups(pool.asleep, names & {host.name for host in pool.serviced})
    for group, hosts in sorted(_hosts_of_groups(everyone, names).items()):
        # A host with a VM of the group that is shut down needs no other one for it.
        leaving = lost - len(staying.get(group, ()))
        if len(hosts) > 1 and leaving:
            found.append(_at_most(len(there) - len(hosts), leaving, count - leaving, f"keep_apart {group}"))
    if lost and any(vm.host in names for vm in pool.vms):
        found.append(_at_most(len(there) - 1, lost, count - lost, "hosts"))
    impossible = [each for each in found if each.waves == 0]
    decides = impossible[0] if impossible else max(found, key=lambda each: each.waves)
    return replace(decides, at_once=min(each.at_once for each in found))


def load_share(pool: Pool, options: Options) -> float:
    """Return which share of the memory of a pool its VMs have."""
    there = _in_use(pool, options)
    names = {host.name for host in there}
    total = sum(capacity(host)[0] for host in there)
    used = sum(demand(vm)[0] for vm in pool.vms if vm.host in names)
    return min(1.0, used / total) if 0 < total < UNLIMITED // 2 else 0.0


def _in_use(pool: Pool, options: Options) -> List[Host]:
    """Return the hosts that have VMs at some time; a host in maintenance that is serviced takes VMs afterwards."""
    serviced = {host.name for host in pool.serviced}
    taking = (host for host in pool.hosts if not host.maintenance or host.name in serviced)
    return [host for host in taking if host.name not in options.exclude_hosts]


def _at_most(most: int, count: int, free: int, name: str) -> WaveBound:
    """Return the bound where so many of ``count`` hosts can be down at once, beside others that are ``free``."""
    return WaveBound(-(-count // most) if most > 0 else 0, name, max(0, most) + free)


def _by_amount(sizes: Sequence[int], spare: int, name: str) -> WaveBound:
    """Return the bound where the sizes of the hosts that are down must not exceed ``spare``."""
    at_once = bisect_right(list(accumulate(sorted(sizes))), spare)
    if max(sizes) > spare:
        return WaveBound(0, name, at_once)
    return WaveBound(max(-(-len(sizes) // at_once), -(-sum(sizes) // spare)), name, at_once)


def _spare(hosts: Sequence[Host], vms: Iterable[Vm]) -> Vector:
    """Return what hosts have left together. What one of them has too little now may stay so."""
    loads = _loads(hosts, vms)
    left = [[max(0, total - load) for total, load in zip(capacity(host), loads[host.name])] for host in hosts]
    sums = (sum(each[kind] for each in left) for kind in range(len(RESOURCES)))
    return tuple(UNLIMITED if amount >= UNLIMITED // 4 else amount for amount in sums)


def _loads(hosts: Iterable[Host], vms: Iterable[Vm]) -> Dict[str, List[int]]:
    """Return what VMs take from each of these hosts."""
    loads: Dict[str, List[int]] = {host.name: [0] * len(RESOURCES) for host in hosts}
    for vm in vms:
        for kind, amount in enumerate(demand(vm) if vm.host in loads else ()):
            loads[vm.host][kind] += amount
    return loads


def _hosts_of_groups(vms: Iterable[Vm], names: Container[str]) -> Dict[str, Set[str]]:
    """Return the hosts with VMs of a group that is kept apart.

    Their number never falls: no VM comes to a host where another one of its group is.
    """
    found: Dict[str, Set[str]] = {}
    for vm in vms:
        for group in vm.keep_apart if vm.host in names else ():
            found.setdefault(group, set()).add(vm.host)
    return found


def moves_bound(pool: Pool, bound: WaveBound, waves: int, comes_home: bool, options: Options) -> int:
    """Return how many moves servicing hosts of a pool in so many waves takes at least.

    Each VM on them has to leave once, and once more to come home. Where VMs stay away, those of the first wave move
    again unless they find room on a host that is not to be serviced.
    """
    counts = Counter(vm.host for vm in pool.vms)
    each = sorted(counts[host.name] for host in pool.serviced)
    if comes_home:
        return 2 * sum(each)
    # What the first wave does not take the others have to.
    first = max(1, len(each) - max(0, waves - 1) * bound.at_once)
    return sum(each) + (_again(pool, sum(each[:first]), options) if first < len(each) else 0)


def _again(pool: Pool, leaving: int, options: Options) -> int:
    """Return how many moves it takes beyond one for each VM, where so many leave in the first wave.

    A VM that leaves a host which is not to be serviced makes room there for some of them, but is a move as well.
    """
    inside = {host.name for host in pool.serviced}
    outside = [host for host in _in_use(pool, options) if host.name not in inside]
    if not outside:
        return leaving
    names = {host.name for host in outside}
    sizes = list(accumulate(sorted(vm.total_kib for vm in pool.vms if vm.host in inside)))
    aside = sorted((vm.total_kib for vm in pool.vms if vm.host in names), reverse=True)
    room, fewest = _spare(outside, [*pool.vms, *pool.asleep])[0], leaving
    for moved, size in enumerate([*aside, 0] if options.max_extra_moves != 0 else [0]):
        if moved >= fewest:
            break
        fewest = min(fewest, moved + max(0, leaving - bisect_right(sizes, room)))
        room += size
    return fewest


def seconds_bound(pool: Pool, at_once: int, hosts: Mapping[str, Host]) -> float:
    """Return the seconds that emptying hosts takes at least, with at most so many of them in a wave.

    Waves follow one another, each as long as its slowest host, so it is best if the slowest hosts are down together.
    """
    amounts: Dict[str, float] = {}
    for vm in pool.vms:
        amounts[vm.host] = amounts.get(vm.host, 0.0) + vm.sent_kib / 1024
    # Tenths that are begun do not count: estimates are rounded, and a bound must not be above them.
    sending = (floor(10 * amounts.get(host.name, 0.0) / link(hosts[host.name])) / 10 for host in pool.serviced)
    return float(sum(sorted(sending, reverse=True)[:: max(1, at_once)]))


@dataclass
class Pool:
    """Hosts whose VMs stay among themselves: those to be serviced, all hosts, and all active VMs on them.

    ``asleep`` are VMs that are shut down while their host is serviced; they are not among ``vms``.
    """

    name: Optional[str]
    serviced: List[Host] = field(default_factory=list)
    hosts: List[Host] = field(default_factory=list)
    vms: List[Vm] = field(default_factory=list)
    asleep: List[Vm] = field(default_factory=list)

    def only(self, names: Container[str]) -> Pool:
        """Return the pool with only some of the hosts to be serviced."""
        return replace(self, serviced=[host for host in self.serviced if host.name in names])


def pools(hosts: Sequence[Host], snapshot: Snapshot, options: Options) -> List[Pool]:
    """Return the pools with hosts to be serviced, by name; all hosts are one where VMs may leave their pools."""
    found: Dict[str, Pool] = {}

    def of(host: Host) -> Pool:
        name = host.pool if options.stay_in_pool else None
        return found.setdefault(name or "", Pool(name))

    for host in hosts:
        of(host).serviced.append(host)
    by_name, serviced = {host.name: host for host in snapshot.hosts}, {host.name for host in hosts}
    for host in snapshot.hosts:
        of(host).hosts.append(host)
    for vm in (*snapshot.vms, *snapshot.leftovers):
        if vm.active:
            pool = of(by_name[vm.host])
            (pool.asleep if vm.host in serviced and is_shut_down(vm, options) else pool.vms).append(vm)
    return [found[name] for name in sorted(found) if found[name].serviced]
