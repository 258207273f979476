# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which hosts a VM may ever go to, whatever else moves."""

from __future__ import annotations

from itertools import groupby
from typing import Dict, Hashable, List, Sequence, Set, Tuple

from .constraints import HOST_FILTERS, Context, host_reasons
from .model import Host, Vm

Look = Tuple[Hashable, ...]


class Reach:
    """Answers of the filters of hosts, asked once for VMs and hosts that look alike to them.

    Hosts of one ``kind`` are alike to all filters; ``tiers`` tell hosts apart further, those with lower numbers are
    better destinations.
    """

    def __init__(self, hosts: Sequence[Host], context: Context, tiers: Sequence[int] = ()) -> None:
        self._hosts, self._context = hosts, context
        self.tier: Tuple[int, ...] = tuple(tiers) or (0,) * len(hosts)
        looks: List[Look] = []
        for number, host in enumerate(hosts):
            looks.append((self.tier[number], *(each.of_host(host, context) for each in HOST_FILTERS)))
        numbers: Dict[Look, int] = {}
        for index in sorted(range(len(hosts)), key=lambda each: (self.tier[each], each)):
            numbers.setdefault(looks[index], len(numbers))
        self.kind: Tuple[int, ...] = tuple(numbers[look] for look in looks)
        self._of_kind: Dict[int, List[int]] = {}
        for index, kind in enumerate(self.kind):
            self._of_kind.setdefault(kind, []).append(index)
        self._kinds: Dict[Look, Tuple[int, ...]] = {}
        self._members: Dict[Tuple[int, ...], Tuple[int, ...]] = {}
        self._by_tier: Dict[Tuple[int, ...], Tuple[Tuple[int, ...], ...]] = {}
        self._names: Dict[str, Set[int]] = {}
        for number, host in enumerate(hosts):
            for name in (host.name, host.uuid):
                self._names.setdefault(name or "", set()).add(number)

    def kinds(self, vm: Vm) -> Tuple[int, ...]:
        """Return the kinds of hosts that a VM may go to, the better tiers first; single hosts may still refuse it."""
        look = tuple((each.is_single(vm), each.of_vm(vm, self._context)) for each in HOST_FILTERS)
        if look not in self._kinds:
            general = [each for each in HOST_FILTERS if not each.is_single(vm)]
            found = [
                kind
                for kind, hosts in sorted(self._of_kind.items())
                if not any(each.judge(vm, self._hosts[hosts[0]], self._context) for each in general)
            ]
            self._kinds[look] = tuple(found)
        return self._kinds[look]

    def by_tier(self, kinds: Tuple[int, ...]) -> Tuple[Tuple[int, ...], ...]:
        """Return kinds of hosts in groups of one tier, the better tiers first."""
        if kinds not in self._by_tier:
            tiers = [(self.tier[self._of_kind[kind][0]], kind) for kind in kinds]
            groups = groupby(sorted(tiers), key=lambda pair: pair[0])
            self._by_tier[kinds] = tuple(tuple(kind for _tier, kind in group) for _tier, group in groups)
        return self._by_tier[kinds]

    def is_single(self, vm: Vm) -> bool:
        """Whether single hosts may refuse a VM although others of their kind do not."""
        return any(each.is_single(vm) for each in HOST_FILTERS)

    def members(self, kinds: Tuple[int, ...]) -> Tuple[int, ...]:
        """Return the hosts of these kinds, ascending."""
        if kinds not in self._members:
            self._members[kinds] = tuple(sorted(host for kind in kinds for host in self._of_kind[kind]))
        return self._members[kinds]

    def hosts(self, vm: Vm) -> Tuple[int, ...]:
        """Return the hosts that a VM may go to, ascending; its own may be among them."""
        found = self.members(self.kinds(vm))
        if not self.is_single(vm):
            return found
        named = {host for name in vm.allowed_hosts for host in self._names.get(name, ())}
        near = [host for host in found if host in named] if vm.allowed_hosts else found
        return tuple(host for host in near if next(host_reasons(vm, self._hosts[host], self._context), None) is None)
