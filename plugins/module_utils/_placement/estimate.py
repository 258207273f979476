# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""How long moves take, and the least that any plan needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, Mapping, Sequence, Tuple

from .model import Host, Vm

# A link nobody described is taken for 1 Gbit/s, about what one TCP stream gets out of it.
DEFAULT_LINK_MIB_S = 110.0

# Below this share of the link pre-copy is dominated by its last stop, so a longer estimate would be fiction.
SLOWEST_SHARE = 0.1


@dataclass(frozen=True)
class Bounds:
    """No plan needs less: ``moves`` and ``waves`` are counts, ``seconds`` is pure transfer time at the links' speed."""

    moves: int
    waves: int
    seconds: float


def link(*hosts: Host) -> float:
    """Return the speed between hosts in MiB/s: that of the slowest link."""
    return min(host.link_mib_s or DEFAULT_LINK_MIB_S for host in hosts)


def move_seconds(vm: Vm, source: Host, destination: Host) -> float:
    """Return the expected time of a move that has the link for itself.

    Pre-copy sends memory while the guest dirties it; the rounds form a geometric series with the sum memory / (link -
    dirtying).
    """
    speed = link(source, destination)
    useful = max(speed - (vm.dirty_mib_s or 0.0), speed * SLOWEST_SHARE)
    return round(vm.sent_kib / 1024 / useful, 1)


def may_not_converge(vm: Vm, source: Host, destination: Host) -> bool:
    """Whether the guest dirties memory as fast as the link carries it away."""
    return vm.dirty_mib_s is not None and vm.dirty_mib_s >= link(source, destination)


def transfer_bound(vms: Sequence[Vm], hosts: Mapping[str, Host], possible: Mapping[str, Sequence[Host]]) -> float:
    """Return the seconds that moving ``vms`` once each takes at least.

    ``possible`` maps a VM's key to its destinations, where these are few. No move is faster than its memory over its
    best link, and no host sends or receives faster than its own link.
    """
    fastest = max((link(host) for host in hosts.values()), default=DEFAULT_LINK_MIB_S)
    longest = [_alone(vm, hosts[vm.host], possible.get(vm.key, ()), fastest) for vm in vms]
    sent = _per_host((vm.host, vm) for vm in vms)
    forced = [(targets[0].name, vm) for vm in vms for targets in (possible.get(vm.key, ()),) if len(targets) == 1]
    received = _per_host(forced)
    busy = [total / link(hosts[name]) for load in (sent, received) for name, total in load.items()]
    return round(max([*longest, *busy], default=0.0), 1)


def _alone(vm: Vm, source: Host, targets: Sequence[Host], fastest: float) -> float:
    best = max((link(source, target) for target in targets), default=min(fastest, link(source)))
    return vm.sent_kib / 1024 / best


def _per_host(pairs: Iterable[Tuple[str, Vm]]) -> Dict[str, float]:
    """Return MiB per host."""
    amounts: Dict[str, List[int]] = {}
    for name, vm in pairs:
        amounts.setdefault(name, []).append(vm.sent_kib)
    return {name: sum(kib) / 1024 for name, kib in amounts.items()}
