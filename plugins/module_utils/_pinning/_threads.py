# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""Where the threads of a VM run, and what a running VM cannot be given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Tuple

from .._domain import AUTO, Domain, Pinning
from .._topology import parse_cpuset

# The kind of a thread, and the number of a vCPU or I/O thread.
Thread = Tuple[str, Optional[int]]

VCPU, EMULATOR, IOTHREAD = "vcpu", "emulator", "iothread"


@dataclass(frozen=True)
class Pending:
    """Memory that a VM takes from elsewhere until it is started or migrated again.

    ``kind`` is ``memory`` (mode and nodes for all of it) or ``memnode`` (for the guest's NUMA cells); ``live`` is what
    it has and ``wanted`` what it should have, as in ``Pinning.as_dict``.
    """

    kind: str
    live: Any
    wanted: Any


def thread_sets(
    domain: Domain, online: FrozenSet[int], pinning: Optional[Pinning] = None
) -> Dict[Thread, FrozenSet[int]]:
    """Return the CPUs on which each thread that a VM has now may run, with its own pins or with others.

    A thread without a pin has the ``cpuset`` of ``<vcpu>``, else all CPUs that are online. The set is empty where it is
    not known, because numad chose it.
    """
    pins = domain.pinning if pinning is None else pinning
    own = pinned(pins)
    threads: List[Thread] = [(VCPU, number) for number in domain.vcpus.online]
    threads += [(EMULATOR, None), *((IOTHREAD, number) for number in domain.iothreads)]
    return {thread: _cpus(own.get(thread) or pins.cpuset, online) for thread in threads}


def _cpus(text: Optional[str], online: FrozenSet[int]) -> FrozenSet[int]:
    if text == AUTO:
        return frozenset()
    stated = parse_cpuset(text) if text else online
    return stated & online or stated


def live_changes(
    live: Domain, wanted: Pinning, online: FrozenSet[int], floating: FrozenSet[Thread]
) -> Mapping[Thread, FrozenSet[int]]:
    """Return the threads of a running VM that must be pinned anew, with their CPUs.

    One that is ``floating`` is left without a pin where it runs on these CPUs already. Others are pinned even then:
    that a policy or the user chose CPUs for a thread, is told by its pin.
    """
    now, then = thread_sets(live, online), thread_sets(live, online, wanted)
    have, need = pinned(live.pinning), pinned(wanted)

    def differs(thread: Thread) -> bool:
        if thread in have:
            return have[thread] != need.get(thread, have[thread]) or now[thread] != then[thread]
        return now[thread] != then[thread] or thread not in floating

    return {thread: cpus for thread, cpus in then.items() if cpus and differs(thread)}


def pinned(pins: Pinning) -> Dict[Thread, str]:
    """Return the pins of single threads."""
    found: Dict[Thread, str] = {(VCPU, pin.vcpu): pin.cpus for pin in pins.vcpus}
    found.update({(IOTHREAD, pin.iothread): pin.cpus for pin in pins.iothreads})
    if pins.emulator is not None:
        found[EMULATOR, None] = pins.emulator
    return found


def pending(live: Domain, wanted: Pinning) -> Tuple[Pending, ...]:
    """Return what of the memory only a restart or a migration brings."""
    now, then = live.pinning.as_dict(), wanted.as_dict()
    found: List[Pending] = []
    for kind, key in (("memory", "memory"), ("memnode", "cells")):
        if now[key] != then[key]:
            found.append(Pending(kind, now[key], then[key]))
    return tuple(found)
