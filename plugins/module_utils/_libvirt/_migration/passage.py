# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""One VM's way from one host to another: look at both hosts, judge, act, look again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional

from ..._errors import FleetError
from ..api import fleet_error, libvirt
from ..host import host_uuid
from . import verdict as v
from .arrival import Departure, arrive, depart, is_unfinished
from .attempt import Attempt, Options, follow, transferred
from .recovery import TRANSIENT, recover, settled
from .sides import Sides

# look, migrate, look, recover, look, arrive: more rounds than any sane course takes.
MAX_ROUNDS = 8

Report = Callable[[Mapping[str, Any]], None]


def _tell_nobody(_news: Mapping[str, Any]) -> None:
    """Report of a passage that is only planned."""


_FAILURES: Dict[str, str] = {
    v.STOPPED: "shut down before its migration ended; its definition is where it was. Start it if it should run.",
    v.GONE: "exists neither on its source nor on its destination; look for it with vm_info on the other hosts.",
    v.SPLIT_BRAIN: "runs on both hosts at once. Nothing was touched: stop the one whose data you do not want, now.",
    v.UNKNOWN: "is in a state that cannot be judged, for one of the hosts does not answer or a post-copy migration "
    "broke. Nothing was touched: bring the host back and run this again.",
}


@dataclass
class Passage:
    """The state of one move while it is carried out."""

    sides: Sides
    options: Options
    report: Report = _tell_nobody
    departure: Optional[Departure] = None
    tried: bool = False
    attached: bool = False
    expired: bool = False
    error: Optional[Exception] = None

    def run(self) -> Dict[str, Any]:
        """Carry the move out and return its result; raises nothing, for other moves go on."""
        return self._guarded(self._run)

    def plan(self) -> Dict[str, Any]:
        """Return what ``run`` would do, touching nothing."""
        return self._guarded(self._plan)

    def _guarded(self, way: Callable[[], Dict[str, Any]]) -> Dict[str, Any]:
        try:
            return way()
        except FleetError as error:
            return self._failed(error)
        except libvirt.libvirtError as error:
            return self._failed(
                fleet_error(error, f"Migrating VM {self.sides.move.vm} to {self.sides.move.destination}")
            )

    def _plan(self) -> Dict[str, Any]:
        self._require_two_hosts()
        found = v.judge(*self.sides.look())
        if found in _FAILURES:
            raise self._impossible(found)
        if found == v.MOVED:
            return self._result("would_move" if is_unfinished(self.sides) else "already_there")
        _require_destination(self.sides, self.sides.source())
        return self._result("would_move")

    def _run(self) -> Dict[str, Any]:
        silence = self._require_two_hosts()
        for _round in range(MAX_ROUNDS):
            found = settled(self.sides) if self.tried or self.attached else v.judge(*self.sides.look())
            self.report({"state": found})
            if found == v.MOVED:
                return self._moved()
            if found == v.IN_PROGRESS:
                if self.expired:
                    raise self._not_cancelled()
                self.attached = True
                self.expired = follow(self.sides, None, self.options, self.report)
            elif found == v.STAYED:
                if self.tried or self.expired:
                    raise self._refused()
                if silence is not None:
                    raise silence
                self._migrate()
            elif found in _FAILURES:
                raise self._impossible(found)
            else:
                self._recover()
        raise FleetError(f"VM {self.sides.move.vm} did not come to rest on either host.", "not_recovered")

    def _require_two_hosts(self) -> Optional[FleetError]:
        """Raise unless both ends are the hosts they should be: the same one asked twice would look like two VMs.

        Returns why the destination does not answer, for then the VM is judged by what the source says.
        """
        try:
            _require_destination(self.sides, self.sides.source())
        except FleetError as error:
            if error.code in ("wrong_host", "same_host"):
                raise
            return error
        return None

    def _recover(self) -> None:
        found = settled(self.sides)
        if found in TRANSIENT:
            recover(self.sides, found)

    def _migrate(self) -> None:
        domain = self.sides.source_domain()
        source = self.sides.source()
        host_uuid = _require_destination(self.sides, source)
        self.departure = depart(domain, host_uuid, self.options.host, self.options.record_home)
        attempt = Attempt(domain, self.sides.move, self.options)
        self.tried = True
        attempt.start()
        self.expired = follow(self.sides, attempt, self.options, self.report)
        self.error = attempt.error

    def _moved(self) -> Dict[str, Any]:
        mended = arrive(self.sides, self.departure)
        figures = transferred(self.sides.destination_domain()) if self.tried or self.attached else {}
        acted = self.tried or self.attached or bool(mended)
        return self._result("moved" if acted else "already_there", mended=mended, **figures)

    def _impossible(self, found: str) -> FleetError:
        move = self.sides.move
        return FleetError(
            f"VM {move.vm} on its way from {self.options.host} to {move.destination} {_FAILURES[found]}",
            _CODES.get(found, found),
        )

    def _not_cancelled(self) -> FleetError:
        return FleetError(
            f"The migration of VM {self.sides.move.vm} to {self.sides.move.destination} took longer than "
            f"{self.options.wait_timeout} seconds and cannot be cancelled; it may still end well. Run this again.",
            "timeout",
        )

    def _refused(self) -> FleetError:
        move = self.sides.move
        where = f"VM {move.vm} did not migrate to {move.destination} and is still on {self.options.host}"
        if self.expired:
            return FleetError(
                f"{where}: not finished within {self.options.wait_timeout} seconds, so it was cancelled. "
                "Raise wait_timeout or bandwidth_mib_s, or migrate it when it is less busy.",
                "timeout",
            )
        if self.error is None:
            return FleetError(f"{where}, though libvirt reported success.", "migration_failed")
        return fleet_error(self.error, where, "migration_failed")

    def _failed(self, error: FleetError) -> Dict[str, Any]:
        move = self.sides.move
        named = error.msg if f"VM {move.vm} " in error.msg else f"VM {move.vm} to {move.destination}: {error.msg}"
        return self._result("failed", **{**error.facts, "error": error.code, "msg": named})

    def _result(self, outcome: str, **facts: Any) -> Dict[str, Any]:
        move = self.sides.move
        result: Dict[str, Any] = {
            "vm": move.vm,
            "uuid": move.uuid,
            "source": self.options.host,
            "destination": move.destination,
            "outcome": outcome,
            "downtime_ms": None,
            "total_ms": None,
            "transferred_kib": None,
            **facts,
        }
        self.report({"state": outcome, "downtime_ms": result["downtime_ms"], "msg": result.get("msg")})
        return result


_CODES = {v.STOPPED: "vm_stopped", v.GONE: "vm_unknown", v.UNKNOWN: "state_unknown"}


def _require_destination(sides: Sides, source: Any) -> str:
    """Return the source's host UUID after the destination proved to be the host it should be."""
    here, there = host_uuid(source), host_uuid(sides.destination())
    move = sides.move
    if move.destination_uuid and there != move.destination_uuid:
        raise FleetError(
            f"{move.uri} leads to host {there}, but {move.destination} is {move.destination_uuid}; "
            "correct its address.",
            "wrong_host",
        )
    if here == there:
        raise FleetError(
            f"{move.destination} ({move.uri}) has the same libvirt host UUID {here} as {sides.move.vm}'s present host; "
            "name another host, or give each its own host_uuid in libvirtd.conf.",
            "same_host",
        )
    return here
