# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Where each VM of a question could go if it went alone."""

from __future__ import annotations

from typing import Sequence, Tuple

from .answer import Candidates
from .build import Stuck, reachable, rejections
from .direct import ranked
from .problem import Problem
from .room import Room


def candidates(problem: Problem, stuck: Sequence[Stuck]) -> Tuple[Candidates, ...]:
    """Return the destinations of each VM, the best first, and why the other hosts are none.

    VMs that are kept together go together, so that all of them have the same destinations.
    """
    found = [Candidates(item.vm.name, item.vm.uuid, item.vm.host, (), item.reasons) for item in stuck]
    room = Room(problem)
    rest = problem.ground.rest(room.floor, problem.after)
    for number in problem.leaving:
        best = ranked(room, number, {}, len(problem.hosts))
        taking = set(best)
        for vm in problem.members(number):
            full = [host for host in reachable(problem.ground, vm) if host not in taking]
            names = tuple(problem.hosts[host].name for host in best)
            rejected = (*rejections(vm, problem.ground), *rest.reasons(vm, full))
            found.append(Candidates(vm.name, vm.uuid, vm.host, names, rejected))
    return tuple(sorted(found, key=lambda item: (item.vm, item.host)))
