# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What a request asks for: which VMs have to go, and where they may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, FrozenSet, Iterator, Optional, Sequence, Tuple

from .constraints import vm_reasons
from .model import Host, Snapshot, Vm
from .pinned import is_shut_down
from .reasons import Reason
from .request import Options, Request

Within = Callable[[Vm], Optional[FrozenSet[str]]]


@dataclass(frozen=True)
class Question:
    """``within`` gives the names of the only hosts a VM may end on, or ``None`` for all.

    ``emptied`` are the hosts to be emptied. Where it ``makes_room``, other VMs may move too; where it ``parks``, a VM
    may wait on a third host.
    """

    vms: Tuple[Vm, ...]
    within: Within
    options: Options
    emptied: FrozenSet[str] = frozenset()
    makes_room: bool = False
    parks: bool = False


def question_of(request: Request, snapshot: Snapshot) -> Question:
    """Return the question of a request to drain, place or refill."""
    options, more = request.options, request.options.max_extra_moves != 0
    if request.question == "place":
        named = frozenset(host.name for host in request.hosts) or None
        return Question(request.vms, lambda vm: named, options, parks=more and named is None)
    if request.question == "drain":
        return drain_of(frozenset(host.name for host in request.hosts), snapshot, options)
    away = () if request.refill == "none" else tuple(vm for vm in snapshot.vms if _is_away(vm, request))
    return Question(away, lambda vm: frozenset({home_of(vm, request.hosts)}), options, parks=more)


def drain_of(hosts: FrozenSet[str], snapshot: Snapshot, options: Options) -> Question:
    """Return the question how to empty hosts; VMs that are shut down meanwhile stay where they are."""
    more = options.max_extra_moves != 0
    # A leftover keeps its host from being empty, so it is named as well.
    leftovers = (vm for vm in snapshot.leftovers if vm.active and options.stopped != "only")
    there = (vm for vm in (*(vm for vm in snapshot.vms if _moves(vm, options)), *leftovers) if vm.host in hosts)
    vms = tuple(vm for vm in there if not is_shut_down(vm, options))
    return Question(vms, lambda vm: None, options, hosts, makes_room=more, parks=more)


def _moves(vm: Vm, options: Options) -> bool:
    """Whether a VM is one to be moved: one that is off keeps no host from being emptied, so it goes only if it can."""
    if vm.active:
        return options.stopped != "only"
    return options.stopped != "leave" and not vm_reasons(vm, options)


def _is_away(vm: Vm, request: Request) -> bool:
    return _moves(vm, request.options) and home_of(vm, request.hosts) not in ("", vm.host)


def home_of(vm: Vm, hosts: Sequence[Host]) -> str:
    """Return the name of the host a VM belongs to, or nothing where it is none of ``hosts``."""
    return next((host.name for host in hosts if vm.home is not None and vm.home.is_host(host)), "")


def staying_off(request: Request, snapshot: Snapshot) -> Iterator[Tuple[Vm, Tuple[Reason, ...]]]:
    """Yield the VMs of a drain that are off and would move with it if they could, and why they cannot."""
    if request.options.stopped == "leave" or request.question != "drain":
        return
    names = {host.name for host in request.hosts}
    for vm in snapshot.vms:
        reasons = () if vm.active or vm.host not in names else vm_reasons(vm, request.options)
        if reasons:
            yield vm, reasons


def others(snapshot: Snapshot, question: Question) -> Iterator[Vm]:
    """Yield the VMs that may move to make room for those of the question.

    Whatever moves with a risk of its own (migration mode ``manual``) is left where it is.
    """
    if not question.makes_room:
        return
    asked = {vm.key for vm in question.vms}
    for vm in snapshot.vms:
        settled = not vm.active or vm.migration != "automatic" or vm.key in asked or vm.host in question.emptied
        if not settled and not vm_reasons(vm, question.options):
            yield vm
