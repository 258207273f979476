# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Pins of vCPUs that come and go: chosen by the VM's policy, or as its definition names them."""

from __future__ import annotations

from typing import Any, FrozenSet, Optional, Sequence

from ..._domain import PLACING
from ..._pin_rules import policy_of
from ..._pinning import BOTH, LIVE
from ..._topology import parse_cpuset
from .._pinning.applying import pin
from ..api import translated
from ..vm_pinning import Request, require_room, set_pinning
from .look import Look


def is_placed(look: Look) -> bool:
    """Tell whether a policy chooses the VM's CPUs."""
    return look.live is not None and policy_of(look.live).policy in PLACING


def named_pins(look: Look) -> FrozenSet[int]:
    """Return the vCPUs that somebody has pinned: not those of a policy, nor those that follow other VMs."""
    if is_placed(look):
        return frozenset()
    states = [state for state in (look.live, look.defined) if state is not None]
    return frozenset(entry.vcpu for state in states for entry in state.own_pinning.vcpus)


def require_cpus(conn: Any, look: Look, reserved: FrozenSet[int], online: Sequence[int]) -> None:
    """Raise what ``set_pinning`` would if the VM had these vCPUs, before it has them."""
    if is_placed(look):
        require_room(conn, _request(look, reserved), {look.uuid: tuple(online)})


def pin_vcpus(conn: Any, look: Look, reserved: FrozenSet[int], plugged: Sequence[int]) -> None:
    """Pin what was plugged as the definition names it, and let all threads that a policy or the ledger places follow.

    Raises what ``set_pinning`` raises, and ``pin_failed``.
    """
    if not is_placed(look):
        for number in plugged:
            cpus = _named(look, number)
            if cpus is not None:
                with translated(f"vCPU {number} of VM {look.name} cannot be pinned", "pin_failed", vm=look.name):
                    pin(look.domain, ("vcpu", number), parse_cpuset(cpus))
    set_pinning(conn, _request(look, reserved), check_mode=False)


def _named(look: Look, number: int) -> Optional[str]:
    pins = look.defined.own_pinning.vcpus if look.defined is not None else ()
    return next((entry.cpus for entry in pins if entry.vcpu == number), None)


def _request(look: Look, reserved: FrozenSet[int]) -> Request:
    """Return the request for this VM as its policy is, or for nobody but the threads that follow others."""
    return Request(
        vms=[(look.uuid, {})] if is_placed(look) else [],
        apply_to=LIVE if look.defined is None else BOTH,
        repin=False,
        float_others=True,
        keep_free=frozenset(),
        arriving=frozenset(),
        reserved=reserved,
    )
