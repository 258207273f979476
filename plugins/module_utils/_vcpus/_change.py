# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which vCPUs a running VM gets or loses to have a number of them, or why it cannot have that number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import FrozenSet, NoReturn, Optional, Sequence, Tuple

from .._errors import FleetError
from .._topology import format_cpuset
from ._guest_os import Support
from ._slots import Slot, count_of, online_of

REFUSE, KEEP = "refuse", "keep"


@dataclass(frozen=True)
class Limits:
    """What bounds the number of vCPUs of a VM.

    ``threads`` is how many of them form a core of the guest, ``host_cpus`` the most that its host gives one VM
    (``None``: not known). ``pinned`` are the vCPUs that somebody's list of pins names, and ``unplug_pinned`` is what
    becomes of these. ``unplug_allowed`` is what is stored with the VM.
    """

    threads: int = 1
    host_cpus: Optional[int] = None
    pinned: FrozenSet[int] = frozenset()
    unplug_pinned: str = REFUSE
    unplug_allowed: bool = True
    support: Support = field(default_factory=Support)


@dataclass(frozen=True)
class Change:
    """The numbers of the vCPUs to plug, ascending, and to unplug, in the order in which they go."""

    plug: Tuple[int, ...] = ()
    unplug: Tuple[int, ...] = ()


def change_of(vm: str, slots: Sequence[Slot], count: int, limits: Limits) -> Change:
    """Return what gives a running VM ``count`` vCPUs.

    Raises ``FleetError`` (facts ``vm``, ``count``, ``current``): ``too_few``, ``above_maximum``, ``above_host``,
    ``threads_split``, ``not_hotpluggable``, ``plug_unsupported``, ``unplug_unsupported``, ``unplug_forbidden`` and
    ``pinned_vcpus``.
    """
    judge = _Judge(vm, slots, count)
    judge.require_possible(limits)
    if count > judge.current:
        return judge.plug(limits)
    return judge.unplug(limits) if count < judge.current else Change()


class _Judge:
    """Decides about one VM; all refusals name it and what it has."""

    def __init__(self, vm: str, slots: Sequence[Slot], count: int) -> None:
        self._vm = vm
        self._slots = slots
        self._count = count
        self.current = count_of(slots)

    def require_possible(self, limits: Limits) -> None:
        """Refuse a number that no VM of this shape can have."""
        if self._count < 1:
            self._refuse("too_few", f"cannot have {self._count} vCPUs", "It needs at least one.")
        if self._count > len(self._slots):
            self._refuse(
                "above_maximum",
                f"may have {len(self._slots)} vCPUs at most, not {self._count}",
                "A larger maximum can be set for its next start.",
            )
        if self._count % limits.threads:
            self._refuse(
                "threads_split",
                f"has cores of {limits.threads} threads, and {self._count} vCPUs are not whole cores",
                f"Ask for a multiple of {limits.threads}.",
            )
        if limits.host_cpus is not None and self._count > max(limits.host_cpus, self.current):
            self._refuse(
                "above_host",
                f"cannot have {self._count} vCPUs on a host that has {limits.host_cpus} CPUs for a VM",
                "Ask for fewer, or migrate it to a larger host first.",
            )

    def plug(self, limits: Limits) -> Change:
        """Return the lowest vCPUs that can come."""
        if not limits.support.plug:
            self._refuse(
                "plug_unsupported",
                "has a guest that is not expected to use a vCPU that comes while it runs",
                "Change it for the next start, or override what is known of its system.",
            )
        free = [slot.number for slot in self._slots if not slot.plugged and slot.hotpluggable]
        needed = self._count - self.current
        if len(free) < needed:
            self._refuse(
                "not_hotpluggable",
                f"has only {len(free)} vCPUs that can be plugged, {needed} are needed",
                "Change it for the next start.",
            )
        return Change(plug=tuple(free[:needed]))

    def unplug(self, limits: Limits) -> Change:
        """Return the vCPUs that go, the last that came first."""
        if not limits.unplug_allowed:
            self._refuse(
                "unplug_forbidden",
                "is not to lose vCPUs while it runs (hot_unplug is false)",
                "Change it for the next start, or allow it with vm_policy.",
            )
        if not limits.support.unplug:
            self._refuse(
                "unplug_unsupported",
                "has a guest that is not expected to give a vCPU back",
                "Let its agent take it offline (method agent), change it for the next start, or override what is known"
                " of its system.",
            )
        there = [slot for slot in self._slots if slot.plugged and slot.hotpluggable]
        latest = sorted(there, key=lambda slot: (slot.order or slot.number, slot.number), reverse=True)
        going = tuple(slot.number for slot in latest[: self.current - self._count])
        if len(going) < self.current - self._count:
            fixed = format_cpuset({slot.number for slot in self._slots if slot.plugged and not slot.hotpluggable})
            self._refuse(
                "not_hotpluggable",
                f"has the vCPUs {fixed} since its start, and they cannot be unplugged",
                f"It can have {self.current - len(there)} at least; let its agent take others offline (method agent),"
                " or change it for the next start.",
            )
        named = limits.pinned & set(going)
        if named and limits.unplug_pinned == REFUSE:
            self._refuse(
                "pinned_vcpus",
                f"has pins for the vCPUs {format_cpuset(named)}, which would go",
                "Remove these pins first, or set unplug_pinned to keep so that they stay for when the vCPUs come back.",
            )
        return Change(unplug=going)

    def _refuse(self, code: str, what: str, advice: str) -> NoReturn:
        have = f"It has {self.current} now ({format_cpuset(online_of(self._slots))})."
        raise FleetError(
            f"VM {self._vm} {what}. {have} {advice}", code, vm=self._vm, count=self._count, current=self.current
        )
