# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Whether the guests of running VMs live: their agent answers, or at least their vCPUs do something."""

from __future__ import annotations

import time
from typing import Any, List, Optional, Sequence

from ..._errors import FleetError
from ..api import libvirt
from ..connection import bounded
from ..deadline import Deadline
from ..domains import get_each
from .look import Look, Result, each, look_at, require_settled

# An agent that is there answers at once; libvirt itself gives up on one that is not after five seconds.
AGENT_TIMEOUT_S = 10.0
# Linux counts the time of a vCPU in steps of some milliseconds, and an idle guest needs little.
PAUSE_S = 0.5


def see_answering(conn: Any, names: Sequence[str], agent: bool, wait_timeout: int) -> List[Result]:
    """Return by what each VM proved that its guest lives; with ``agent``, no less than its agent where it has one.

    Nothing is changed.
    """
    looks = [look_at(domain) for domain in get_each(conn, names)]
    for look in looks:
        require_settled(look, "judged")
    return each(looks, lambda look: _prove(look, agent, Deadline(wait_timeout)), "not_answering")


def _prove(look: Look, agent: bool, deadline: Deadline) -> Result:
    start, causes = _vcpu_time(look), ["no agent is connected, and its vCPUs stand still"]
    while True:
        now = look_at(look.domain)
        if not now.active or now.state.state not in ("running", "blocked"):
            raise _not_running(now)
        proof = _proof(now, agent, start, deadline, causes)
        if proof is not None:
            return Result(look.name, look.uuid, look.stands(), now.stands(), "answering", proof, deadline.seconds)
        if deadline.left() <= 0:
            raise _silent(look, deadline, causes[-1])
        time.sleep(min(PAUSE_S, deadline.left()))


def _proof(now: Look, agent: bool, start: Optional[int], deadline: Deadline, causes: List[str]) -> Optional[str]:
    if now.agent:
        cause = agent_answers(now, max(1.0, deadline.left()))
        causes += [] if cause is None else [cause]
        return "agent" if cause is None else None
    if agent and now.agent is not None:
        causes.append("its guest agent is not connected")
        return None
    time_now = _vcpu_time(now)
    return "cpu_time" if start is not None and time_now is not None and time_now > start else None


def agent_answers(look: Look, timeout_s: float) -> Optional[str]:
    """Ask a guest's agent for the time, which every agent knows, and return why there was no answer.

    A ping would be a command past libvirt, which taints the VM.
    """
    try:
        bounded(look.domain.getTime, min(AGENT_TIMEOUT_S, timeout_s), "Asking the guest agent")
    except libvirt.libvirtError as error:
        return str(error.get_error_message())
    except FleetError as error:
        return error.msg.rstrip(".")
    return None


def _vcpu_time(look: Look) -> Optional[int]:
    """Return for how many nanoseconds the vCPUs of a VM have run; QEMU's other threads say nothing about the guest."""
    if not look.active:
        return None
    try:
        return sum(int(vcpu[2]) for vcpu in look.domain.vcpus()[0])
    except libvirt.libvirtError:
        return None


def _not_running(look: Look) -> FleetError:
    text = f"VM {look.name} does not run, it is {look.state.state} ({look.state.reason}). Start or resume it."
    return FleetError(text, "vm_not_running", vm=look.name)


def _silent(look: Look, deadline: Deadline, cause: str) -> FleetError:
    text = (
        f"The guest of VM {look.name} gave no sign of life for {deadline.seconds:g} seconds: {cause}. See its console."
    )
    return FleetError(text, "vm_silent", vm=look.name)
