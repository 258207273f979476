# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""vCPUs plugged into a running VM and unplugged from it, and read back: from libvirt, QEMU and the guest."""

from __future__ import annotations

from functools import partial
from typing import Callable, FrozenSet, Sequence, Tuple

from ..._errors import FleetError
from ..._host.settling import SettlingNote
from ..._topology import format_cpuset
from ..._vcpus import count_of, online_of
from ..api import fleet_error, is_error, libvirt, translated
from ..deadline import Deadline
from ..undo import Undo
from .look import GuestVcpus, Look, guest_vcpus, look_at, set_guest_vcpus, threads_of

# QEMU's words for a vCPU that the guest was asked to give back before.
_ASKED_BEFORE = "in the process of unplug"


def plug(look: Look, numbers: Sequence[int], undo: Undo, deadline: Deadline) -> None:
    """Give a running VM vCPUs, and wait until QEMU runs them and the guest uses them, as far as its agent tells.

    Raises ``FleetError``: ``plug_failed`` with libvirt's words, ``not_applied``, ``guest_not_using`` and
    ``agent_refused``.
    """
    before = guest_vcpus(look)
    for number in numbers:
        undo.add(look.name, partial(_take_back, look, number, deadline.bound_s))
        with translated(f"VM {look.name} does not get vCPU {number}", "plug_failed", vm=look.name):
            look.domain.setVcpu(str(number), 1, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    _require_plugged(look_at(look.domain), numbers)
    if before is not None:
        _await_guest(look, before, len(numbers), deadline)


def _require_plugged(look: Look, numbers: Sequence[int]) -> None:
    threads = threads_of(look)
    missing = frozenset(numbers) - frozenset(online_of(look.slots))
    idle = frozenset(numbers) - threads if threads is not None else frozenset()
    if missing or idle:
        where = "libvirt" if missing else "QEMU's threads"
        raise FleetError(
            f"VM {look.name} was given the vCPUs {format_cpuset(missing or idle)}, but {where} shows none of them. "
            f"Look at /var/log/libvirt/qemu/{look.name}.log.",
            "not_applied",
            vm=look.name,
        )


def _await_guest(look: Look, before: GuestVcpus, more: int, deadline: Deadline) -> None:
    """Wait until the guest uses so many more CPUs; what is new to it and offline is taken online."""
    wanted = len(before.online) + more

    def uses_them() -> bool:
        now = guest_vcpus(look)
        if now is None or len(now.online) >= wanted:
            return now is not None
        waiting = now.known - now.online - before.known
        if waiting:
            set_guest_vcpus(look, format_cpuset(waiting), True)
        return False

    advice = "Look inside it, or set can_plug to false for it if it cannot."
    _require_used(look, wanted, uses_them, deadline, advice)


def _require_used(look: Look, wanted: int, reached: Callable[[], bool], deadline: Deadline, advice: str) -> None:
    if deadline.until(reached):
        return
    now = guest_vcpus(look)
    uses = "its agent does not answer any more" if now is None else f"it uses {len(now.online)} CPUs"
    raise FleetError(
        f"The guest of VM {look.name} was to use {wanted} CPUs, and after {deadline.bound_s:g} seconds {uses}. "
        f"{advice}",
        "guest_not_using",
        vm=look.name,
    )


def _take_back(look: Look, number: int, seconds: float) -> None:
    """Unplug one that was plugged a moment ago."""
    if number not in online_of(look_at(look.domain).slots):
        return
    _ask(look, number)
    if not Deadline(seconds).until(lambda: number not in online_of(look_at(look.domain).slots)):
        raise FleetError(f"VM {look.name} has not given vCPU {number} back.", "unplug_timeout", vm=look.name)


def unplug(look: Look, numbers: Sequence[int], note: SettlingNote, deadline: Deadline) -> None:
    """Take vCPUs from a running VM, and wait until it has given all of them back.

    What it was asked for before is not asked for again. Raises ``unplug_failed`` with libvirt's words, and
    ``unplug_timeout`` if the guest keeps some; their number is read back then (facts ``current`` and ``left``).
    """
    runtime_id = look.live.runtime_id if look.live else None
    asked = note.read(runtime_id)
    note.write(tuple(numbers), runtime_id)
    for number in numbers:
        if number not in asked:
            _ask(look, number)
    if deadline.until(lambda: not _left_of(look_at(look.domain), numbers)):
        note.forget()
        return
    now = look_at(look.domain)
    left = _left_of(now, numbers)
    raise FleetError(
        f"VM {look.name} still has the vCPUs {format_cpuset(left)}: its guest has not given them back within "
        f"{deadline.bound_s:g} seconds. It has {count_of(now.slots)} vCPUs, and its definition is as it was. It may "
        "give them back later; the same task then goes on. Look into the guest for what keeps them.",
        "unplug_timeout",
        vm=look.name,
        current=count_of(now.slots),
        left=sorted(left),
    )


def _left_of(now: Look, numbers: Sequence[int]) -> FrozenSet[int]:
    """Return which of these vCPUs libvirt or QEMU still have."""
    return frozenset(numbers) & (frozenset(online_of(now.slots)) | (threads_of(now) or frozenset()))


def _ask(look: Look, number: int) -> None:
    """Ask the guest for a vCPU; libvirt waits some seconds, and its timeout says nothing about the result."""
    try:
        look.domain.setVcpu(str(number), 0, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    except libvirt.libvirtError as error:
        if not is_error(error, "VIR_ERR_OPERATION_TIMEOUT") and _ASKED_BEFORE not in str(error):
            raise fleet_error(
                error, f"VM {look.name} does not give vCPU {number} back", "unplug_failed", vm=look.name
            ) from error


def use_in_guest(look: Look, count: int, deadline: Deadline) -> None:
    """Let the guest use so many CPUs by its agent; the VM keeps all its vCPUs.

    Raises ``no_agent``, ``above_plugged``, ``too_few``, ``not_offlinable``, ``agent_refused`` and ``guest_not_using``.
    """
    numbers, online = guest_change(look, count)
    if not numbers:
        return
    set_guest_vcpus(look, format_cpuset(numbers), online)

    def uses_them() -> bool:
        now = guest_vcpus(look)
        return now is not None and len(now.online) == count

    _require_used(look, count, uses_them, deadline, "Look inside it.")


def guest_change(look: Look, count: int) -> Tuple[FrozenSet[int], bool]:
    """Return which CPUs of the guest to take online, or offline, so that it uses so many."""
    now = require_guest(look)
    have = len(now.online)
    more = sorted(now.known - now.online)
    if count < 1:
        raise _refused(look, have, "too_few", f"cannot use {count} CPUs", "It needs at least one.")
    if count > len(now.known):
        advice = "Plug more into the VM (method live)."
        raise _refused(look, have, "above_plugged", f"has {len(now.known)} CPUs and cannot use {count}", advice)
    if count >= have:
        return frozenset(more[: count - have]), True
    less = sorted(now.online & now.offlinable, reverse=True)[: have - count]
    if len(less) < have - count:
        what = f"can go without {len(less)} of its CPUs only"
        raise _refused(look, have, "not_offlinable", what, f"Ask for {have - len(less)} or more.")
    return frozenset(less), False


def require_guest(look: Look) -> GuestVcpus:
    """Return what the guest's agent tells; raises ``no_agent``."""
    found = guest_vcpus(look)
    if found is None:
        raise FleetError(
            f"VM {look.name} has no guest agent that tells its CPUs. Start qemu-guest-agent in it, or use the method "
            "live.",
            "no_agent",
            vm=look.name,
        )
    return found


def _refused(look: Look, have: int, code: str, what: str, advice: str) -> FleetError:
    text = f"The guest of VM {look.name} {what}. It uses {have} now. {advice}"
    return FleetError(text, code, vm=look.name, current=have)
