# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""VMs are shut down: through their guest agent, by ACPI, and only where asked by cutting their power."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Iterator, List, Optional, Sequence, Tuple

from ..._errors import FleetError
from ..api import is_error, libvirt
from ..connection import bounded
from ..deadline import Deadline
from ..domains import get_each, is_defined
from ..undo import all_or_nothing
from .look import STILL, Look, Result, each, is_off, look_at, require_settled, unchanged
from .notes import write_note

# A guest whose agent took the request may still be busy with it when ACPI asks again.
AGENT_SHARE = 0.5
DESTROY_TIMEOUT_S = 60.0
# How long a VM is watched after an error before it is asked in another way.
SETTLE_S = 5.0
# Errors that come before a guest hears anything. All others leave open whether it did: libvirt says "End of file from
# agent socket" of a guest that went off faster than it could be told so.
_REFUSALS = (
    "VIR_ERR_OPERATION_INVALID",
    "VIR_ERR_OPERATION_UNSUPPORTED",
    "VIR_ERR_CONFIG_UNSUPPORTED",
    "VIR_ERR_ARGUMENT_UNSUPPORTED",
)


@dataclass(frozen=True)
class Shutdown:
    """How to shut down: ``remember`` is the maintenance for which to start again, ``force`` cuts the power at last."""

    wait_timeout: int
    remember: Optional[str] = None
    force: bool = False


def shut_down(conn: Any, names: Sequence[str], how: Shutdown, check_mode: bool) -> List[Result]:
    """Shut VMs down, all at once, and return what became of each.

    What cannot be is refused before anything is asked. That a VM is to start again is stored before it is asked to shut
    down, so that whoever is killed in between leaves nothing off that nobody knows of.
    """
    looks = [look_at(domain) for domain in get_each(conn, names)]
    for look in looks:
        _require_possible(look, how.force)
    running = [look for look in looks if look.active]
    if check_mode:
        done = [_planned(look, how) for look in running]
    else:
        if how.remember is not None:
            _remember(running, how.remember)
        done = each(running, lambda look: _shut_down(look, how), "not_shut_down")
    found = {result.uuid: result for result in done}
    return [found.get(look.uuid) or unchanged(look, "was_off") for look in looks]


def _require_possible(look: Look, force: bool) -> None:
    # Once it is off, nobody could start it.
    is_defined(look.domain, required=True)
    require_settled(look, "shut down")
    if look.active and not force and look.state.state in STILL:
        raise FleetError(
            f"VM {look.name} is {look.state.state} ({look.state.reason}), so that it cannot shut itself down. Resume"
            " it, or give force=true, which cuts its power.",
            "vm_paused",
            vm=look.name,
        )


def _planned(look: Look, how: Shutdown) -> Result:
    after = {"state": "shutoff", "remembered": how.remember or look.remembered}
    first = "agent" if look.agent else "acpi"
    return Result(look.name, look.uuid, look.stands(), after, "would_shut_down", first)


def _remember(looks: Sequence[Look], maintenance: str) -> None:
    """Store with all VMs that they are to start again, or with none."""
    with all_or_nothing() as undo:
        for look in looks:
            if look.remembered != maintenance:
                undo.add(look.name, partial(write_note, look.domain, look.remembered))
                write_note(look.domain, maintenance)


def _shut_down(look: Look, how: Shutdown) -> Result:
    deadline, asking = Deadline(how.wait_timeout), Asking(look)
    by = asking.ask(deadline) or (_cut_power(look) if how.force else None)
    if by is None and how.remember is not None and not asking.heard:
        write_note(look.domain, None)
    outcome = "not_shut_down" if by is None else "destroyed" if by == "destroy" else "shut_down"
    after = look_at(look.domain).stands()
    result = Result(look.name, look.uuid, look.stands(), after, outcome, by, deadline.seconds)
    return result if by is not None else result.failed(outcome, _too_late(look, how, asking))


def _cut_power(look: Look) -> Optional[str]:
    try:
        bounded(look.domain.destroy, DESTROY_TIMEOUT_S, f"Cutting the power of VM {look.name}")
    except libvirt.libvirtError:
        # It may have been faster.
        if not is_off(look.domain):
            raise
    return "destroy" if is_off(look.domain) else None


class Asking:
    """The ways to ask a guest to shut down.

    ``heard`` are those that were taken, or may have been; ``refused`` says what libvirt had against some. A guest that
    stands still cannot be asked.
    """

    def __init__(self, look: Look) -> None:
        self.look = look
        self.heard: List[str] = []
        self.refused: List[str] = []

    def ask(self, deadline: Deadline) -> Optional[str]:
        """Return which way has shut the VM down, ``None`` if it still runs when the time is over."""
        for way, flags, share in self._ways():
            taken = self._ask(way, flags, deadline.left(share))
            left = deadline.left(share)
            if Deadline(left if taken else min(left, SETTLE_S)).until(lambda: is_off(self.look.domain)):
                return self.heard[-1] if self.heard else "itself"
        return None

    def _ways(self) -> Iterator[Tuple[str, int, float]]:
        if self.look.agent and self.look.state.state not in STILL:
            yield "agent", libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT, AGENT_SHARE
        if self.look.state.state not in STILL:
            yield "acpi", libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN, 1.0

    def _ask(self, way: str, flags: int, timeout_s: float) -> bool:
        """Return whether the guest is to be waited for: no error says that it was not asked, or that nobody knows."""
        name = self.look.name
        try:
            bounded(lambda: self.look.domain.shutdownFlags(flags), timeout_s, f"Asking VM {name} by {way} to shut down")
        except libvirt.libvirtError as error:
            self.refused.append(f"{way}: {error.get_error_message()}")
            if not is_error(error, *_REFUSALS):
                self.heard.append(way)
            return False
        except FleetError as error:
            # The call waits until the guest is off.
            self.refused.append(f"{way}: {error.msg.rstrip('.')}")
        self.heard.append(way)
        return True


def _too_late(look: Look, how: Shutdown, asking: Asking) -> FleetError:
    asked = f"It was asked by {' and '.join(asking.heard)}" if asking.heard else "It could not be asked"
    refused = f" ({'; '.join(asking.refused)})" if asking.refused else ""
    text = (
        f"VM {look.name} did not shut down within {how.wait_timeout} seconds. {asked}{refused}."
        " Shut it down from inside, or give a larger wait_timeout, or force=true, which cuts its power."
    )
    if how.remember is not None and asking.heard:
        text += f" It may still go off; it stays remembered, so that remembered={how.remember} starts it then."
    return FleetError(text, "timeout", vm=look.name)
