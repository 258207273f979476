# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""VMs are started one after the other, those that a maintenance has shut down in the order of their priority."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, List, Optional, Sequence

from ..._errors import FleetError
from ..._host.hook import REFUSAL
from ..api import fleet_error, is_error, libvirt, translated
from ..connection import bounded
from ..deadline import PAUSE_S, Deadline
from ..domains import get_each, present, read_policy, state_of
from .answering import agent_answers
from .look import STILL, Look, Result, attempt, is_off, look_at, require_settled, unchanged
from .notes import write_note


@dataclass(frozen=True)
class Start:
    """How to start: ``remembered`` takes only those VMs that this maintenance has shut down, and forgets them.

    With ``agent``, each VM that can have a guest agent is waited for until it answers.
    """

    wait_timeout: int
    remembered: Optional[str] = None
    agent: bool = False


def start(conn: Any, names: Optional[Sequence[str]], how: Start, check_mode: bool) -> List[Result]:
    """Start VMs, in the order of ``names`` or else of their priority, and return what became of each.

    One that does not start does not keep the others from being started.
    """
    looks = _wanted(conn, names, how.remembered)
    for look in looks:
        _require_possible(look, how.remembered is not None)
    if check_mode:
        return [_planned(look, how) for look in looks]
    return [attempt(look, lambda each: _start(each, how), "not_started") for look in looks]


def _wanted(conn: Any, names: Optional[Sequence[str]], remembered: Optional[str]) -> List[Look]:
    if names is not None:
        looks = [look_at(domain) for domain in get_each(conn, names)]
        return [look for look in looks if remembered is None or look.remembered == remembered]
    with translated("Listing the VMs"):
        domains = conn.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
    looks = [look for look in present(domains, look_at) if look.remembered == remembered]
    ranked = present(looks, lambda look: ((-_priority(look), look.name), look))
    return [look for _rank, look in sorted(ranked, key=lambda pair: pair[0])]


def _priority(look: Look) -> int:
    with translated(f"Reading the policy of VM {look.name}"):
        return read_policy(look.domain, libvirt.VIR_DOMAIN_AFFECT_CONFIG).priority


def _require_possible(look: Look, remembered: bool) -> None:
    require_settled(look, "started")
    if look.active and not remembered and look.state.state in STILL:
        raise FleetError(
            f"VM {look.name} is not off but {look.state.state} ({look.state.reason}), so it cannot be started. Resume"
            " it, or find out why it stands still.",
            "vm_paused",
            vm=look.name,
        )


def _planned(look: Look, how: Start) -> Result:
    note = None if how.remembered is not None else look.remembered
    state = look.state.state if look.active else "running"
    outcome = "was_active" if look.active else "would_start"
    return replace(unchanged(look, outcome), after={"state": state, "remembered": note})


def _start(look: Look, how: Start) -> Result:
    deadline, silent = Deadline(how.wait_timeout), None
    if not look.active:
        _create(look, deadline)
        if how.agent:
            silent = _wait_for_agent(look, deadline)
    if how.remembered is not None:
        # Not before it runs: who is killed in between starts it with the next run.
        write_note(look.domain, None)
    outcome, by = ("was_active", None) if look.active else ("started", "agent" if how.agent else "state")
    result = Result(look.name, look.uuid, look.stands(), look_at(look.domain).stands(), outcome, by, deadline.seconds)
    return result if silent is None else replace(result, how="state").failed(outcome, silent)


def _create(look: Look, deadline: Deadline) -> None:
    name = look.name
    try:
        bounded(look.domain.create, deadline.left(), f"Starting VM {name}")
    except libvirt.libvirtError as error:
        # Somebody else may have been faster.
        if is_off(look.domain):
            raise _refused(error, name) from error
    if not deadline.until(lambda: state_of(*look.domain.state(0)).state in ("running", "blocked")):
        state = state_of(*look.domain.state(0))
        text = f"VM {name} was started but is {state.state} ({state.reason}). Look at the log of its QEMU on this host."
        raise FleetError(text, "vm_not_running", vm=name)


def _refused(error: Exception, name: str) -> FleetError:
    if is_error(error, "VIR_ERR_HOOK_SCRIPT_FAILED") and REFUSAL in str(error):
        doing = f"VM {name} is not started while its host is in maintenance; let the host leave it first"
        return fleet_error(error, doing, "cordoned", vm=name)
    doing = f"VM {name} does not start; remove the cause, then try again"
    return fleet_error(error, doing, "start_failed", vm=name)


def _wait_for_agent(look: Look, deadline: Deadline) -> Optional[FleetError]:
    """Return why a guest agent does not answer; one without a channel for an agent is not waited for."""
    cause: Optional[str] = "it is not connected"
    while True:
        now = look_at(look.domain)
        if now.agent:
            cause = agent_answers(now, max(1.0, deadline.left()))
        if now.agent is None or cause is None:
            return None
        if deadline.left() <= 0:
            text = (
                f"VM {look.name} runs, but its guest agent did not answer within {deadline.seconds:g} seconds: {cause}."
                " Look whether the guest has come up, and whether it has an agent."
            )
            return FleetError(text, "agent_silent", vm=look.name)
        time.sleep(min(PAUSE_S, deadline.left()))
