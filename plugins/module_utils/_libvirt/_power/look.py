# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""One VM as it is now, and what became of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Optional, Sequence

from ..._domain import agent_is_connected
from ..._errors import FleetError
from .._migration.sides import migration_job
from ..api import fleet_error, is_error, libvirt, translated
from ..domains import DomainState, live_xml, state_of
from .notes import read_note

# States in which a guest has a process but does not execute.
STILL = ("paused", "pmsuspended")


@dataclass(frozen=True)
class Look:
    """A VM at one moment. ``agent`` is whether its guest agent is connected, ``None`` if there cannot be one.

    ``remembered`` is the maintenance for which it was shut down, as its definition has it.
    """

    domain: Any
    name: str
    uuid: str
    state: DomainState
    active: bool
    persistent: bool
    migrating: bool
    agent: Optional[bool]
    remembered: Optional[str]

    def stands(self) -> Dict[str, Optional[str]]:
        """Return what of the VM is this module's business, for before and after."""
        return {"state": self.state.state, "remembered": self.remembered}


def look_at(domain: Any) -> Look:
    """Read a VM; raises ``libvirt`` for one that is gone."""
    name = str(domain.name())
    with translated(f"Reading VM {name}"):
        active = bool(domain.isActive())
        return Look(
            domain=domain,
            name=name,
            uuid=str(domain.UUIDString()),
            state=state_of(*domain.state(0)),
            active=active,
            persistent=bool(domain.isPersistent()),
            migrating=active and migration_job(domain) is not None,
            agent=agent_is_connected(live_xml(domain)) if active else None,
            remembered=read_note(domain),
        )


@dataclass(frozen=True)
class Result:
    """What became of a VM: its state and note ``before`` and ``after``, the ``outcome``, and ``how`` it was reached.

    ``seconds`` it took. One that failed has ``error`` (a code) and ``msg``.
    """

    name: str
    uuid: str
    before: Dict[str, Optional[str]]
    after: Dict[str, Optional[str]]
    outcome: str
    how: Optional[str] = None
    seconds: float = 0.0
    error: Optional[str] = None
    msg: Optional[str] = None

    def as_dict(self) -> Dict[str, Any]:
        """Return the result with what it has of ``error`` and ``msg``."""
        data = {**vars(self), "changed": self.before != self.after}
        return {key: value for key, value in data.items() if value is not None or key not in ("error", "msg")}

    def failed(self, outcome: str, error: FleetError) -> Result:
        """Return the result with a failure."""
        return replace(self, outcome=outcome, error=error.code, msg=error.msg)


def unchanged(look: Look, outcome: str) -> Result:
    """Return that a VM is as it was."""
    return Result(look.name, look.uuid, look.stands(), look.stands(), outcome)


def is_off(domain: Any) -> bool:
    """Return whether a VM has no process; raises ``changed_meanwhile`` for one that is gone altogether."""
    name = str(domain.name())
    try:
        return not domain.isActive()
    except libvirt.libvirtError as error:
        if not is_error(error, "VIR_ERR_NO_DOMAIN"):
            raise
        text = f"VM {name} is gone from this host: somebody has removed or moved it meanwhile. Look where it is."
        raise FleetError(text, "changed_meanwhile", vm=name) from error


def each(looks: Sequence[Look], work: Callable[[Look], Result], outcome: str) -> List[Result]:
    """Do something with all VMs at once; a failure of one has this outcome and does not touch the others."""

    def safely(look: Look) -> Result:
        return attempt(look, work, outcome)

    if not looks:
        return []
    with ThreadPoolExecutor(max_workers=len(looks)) as pool:
        return list(pool.map(safely, looks))


def attempt(look: Look, work: Callable[[Look], Result], outcome: str) -> Result:
    """Do something with one VM, and return a failure as its result, with the state as it is then."""
    try:
        return work(look)
    except (FleetError, libvirt.libvirtError) as error:
        known = error if isinstance(error, FleetError) else fleet_error(error, f"Working with VM {look.name}")
        return Result(look.name, look.uuid, look.stands(), _stands_now(look), outcome).failed(outcome, known)


def _stands_now(look: Look) -> Dict[str, Optional[str]]:
    try:
        return look_at(look.domain).stands()
    except (FleetError, libvirt.libvirtError):
        return look.stands()


def require_settled(look: Look, wanted: str) -> None:
    """Raise ``in_transit`` for a VM that is on its way to or from another host."""
    if look.migrating:
        raise FleetError(
            f"VM {look.name} is being migrated, so it is not {wanted} here. Wait for the migration, then try again.",
            "in_transit",
            vm=look.name,
        )


def require_all(results: Sequence[Result]) -> None:
    """Raise the failures of VMs as one, with the code of the first and all results in the fact ``vms``."""
    failed = [result for result in results if result.error is not None]
    if failed:
        raise FleetError(
            " ".join(result.msg or "" for result in failed),
            failed[0].error or "failed",
            vms=[result.as_dict() for result in results],
            changed=any(result.before != result.after for result in results),
        )
