# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""One VM's way from one host to another: look at both hosts, judge, act, look again."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Dict, List, Mapping, Optional

from ..._errors import FleetError
from ..api import fleet_error, libvirt
from ..host_cpu import dotted
from . import verdict as v
from .arrival import Departure, arrive, depart, is_unfinished
from .attempt import Attempt, Options, transferred
from .destination import require_destination
from .failures import FAILURES, Failures
from .freight import Freight
from .recovery import TRANSIENT, recover, settled
from .sides import Sides
from .trace import Trace
from .watch import Watch

# look, migrate, look, recover, look, arrive: more rounds than any sane course takes.
MAX_ROUNDS = 8

# Releases of libvirt, in thousandths, whose daemon crashes at the destination when a broken post-copy is taken up
# (seen with 11.3.0 of Debian 13, with virsh as well).
CRASHES_ON_RESUME = (11003,)

Report = Callable[[Mapping[str, Any]], None]


def _tell_nobody(_news: Mapping[str, Any]) -> None:
    """Report of a passage that is only planned."""


def _nobody_waits() -> None:
    """Tell nobody that nearly all has been sent."""


@dataclass
class Passage:
    """The state of one move while it is carried out. ``through`` is called when nearly all is sent."""

    sides: Sides
    options: Options
    report: Report = _tell_nobody
    forecast: Optional[Dict[str, Any]] = None
    through: Callable[[], None] = _nobody_waits
    departure: Optional[Departure] = None
    tried: bool = False
    taken_up: bool = False
    was_off: bool = False
    error: Optional[Exception] = None
    watch: Optional[Watch] = None
    found: str = v.UNKNOWN
    begun: float = field(default_factory=time.monotonic)
    handled: List[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Find what was written down of this VM."""
        move = self.sides.move
        self.trace, self.freight = Trace(self.sides), Freight(self.sides, self.options.host)
        self.failures = Failures(move.vm, self.options.host, move.destination, self.options.wait_timeout)

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
        self.found = found = v.judge(*self.sides.look())
        if found == v.STOPPED and self.options.offline:
            return self._result("already_there" if self._is_off_there() else "would_move")
        if found in FAILURES and found != v.POST_COPY_BROKEN:
            raise self.failures.impossible(found)
        if found == v.MOVED:
            return self._result(self._would() if is_unfinished(self.sides) else "already_there")
        if not self.options.begins:
            pending = found != v.STAYED or self.trace.pending()
            return self._result("would_reconcile" if pending else "at_source")
        require_destination(self.sides)
        return self._result("would_move")

    def _would(self) -> str:
        return "would_move" if self.options.begins else "would_reconcile"

    def _run(self) -> Dict[str, Any]:
        self._finish_earlier()
        silence = self._require_two_hosts()
        for _round in range(MAX_ROUNDS):
            self.found = settled(self.sides) if self.watch else v.judge(*self.sides.look())
            self.report({"state": self.found})
            if self.found == v.MOVED:
                return self._moved()
            if self.found == v.STAYED and not self.options.begins:
                return self._stayed()
            if self.found == v.STOPPED and self._is_off_there():
                return self._moved()
            self._go_on(silence)
        raise FleetError(f"VM {self.sides.move.vm} did not come to rest on either host.", "not_recovered")

    def _go_on(self, silence: Optional[FleetError]) -> None:
        """Do what the last look asks for; raises where nothing can be done, or nothing more."""
        if self.found == v.STAYED:
            if self.tried or (self.watch and self.watch.cancelled):
                self._end_trace()
                raise self.failures.refused(self.watch, self.error)
            if silence is not None:
                raise silence
            self._migrate()
            return
        if self.found == v.IN_PROGRESS:
            if self.watch and self.watch.cancelled:
                raise self.failures.not_cancelled(self.watch)
            self.handled.append(self.found)
            self._follow()
        elif self.found == v.POST_COPY_BROKEN and not self.taken_up and silence is None:
            self.handled.append(self.found)
            self._take_up()
        elif self.found in (v.STOPPED, v.GONE):
            self._go_on_off(silence)
        elif self.found in FAILURES:
            raise self.failures.impossible(self.found)
        else:
            self._recover()

    def _go_on_off(self, silence: Optional[FleetError]) -> None:
        """Send a VM that is off if it may be sent; one that was shut down on its way is somebody's will."""
        if self.found == v.STOPPED and self._may_go_off():
            if silence is not None:
                raise silence
            self._migrate()
            return
        self._end_trace()
        raise self.failures.refused(self.watch, self.error) if self.was_off else self.failures.impossible(self.found)

    def _is_off_there(self) -> bool:
        """Whether a VM that is off has arrived: only its destination has a definition of it."""
        source, destination = self.sides.look()
        there = destination.state is not None and destination.persistent
        return self.options.offline and there and source.reachable and source.state is None

    def _may_go_off(self) -> bool:
        if self.tried or not (self.options.offline and self.options.begins):
            return False
        source = self.sides.source_domain()
        return source is not None and not source.isActive()

    def _require_two_hosts(self) -> Optional[FleetError]:
        """Raise unless both ends are the hosts they should be: the same one asked twice would look like two VMs.

        Returns why the destination does not answer, for then the VM is judged by what the source says.
        """
        try:
            require_destination(self.sides)
        except FleetError as error:
            if error.code in ("wrong_host", "same_host"):
                raise
            return error
        return None

    def _recover(self) -> None:
        found = settled(self.sides)
        if found in TRANSIENT:
            self.handled.append(found)
            recover(self.sides, found)

    def _migrate(self) -> None:
        domain = self.sides.source_domain()
        if domain is None:
            # It has left since the last look; the next one tells.
            return
        here, there = require_destination(self.sides)
        self.trace.begin(domain.UUIDString(), there)
        try:
            disks = self.freight.load(domain) if self.options.copy_storage and domain.isActive() else ()
            self.departure = depart(domain, here, self.options.host, self.options.record_home)
            attempt = Attempt(domain, self.sides.move, self.options, disks=disks)
        except (FleetError, libvirt.libvirtError):
            self._end_trace()
            raise
        self.tried, self.was_off = True, not domain.isActive()
        self._carry_out(attempt)

    def _take_up(self) -> None:
        """Send the rest of a VM's memory after its post-copy broke."""
        self.taken_up = True
        release = self.sides.destination().getLibVersion()
        if release // 1000 in CRASHES_ON_RESUME:
            raise self.failures.cannot_resume(dotted(release))
        domain = self.sides.source_domain()
        if domain is not None:
            self._carry_out(Attempt(domain, self.sides.move, self.options, resumes=True))

    def _carry_out(self, attempt: Attempt) -> None:
        attempt.start()
        self._follow(attempt)
        self.error = attempt.error
        if not attempt.running:
            self.through()

    def _follow(self, attempt: Optional[Attempt] = None) -> None:
        self.watch = Watch(self.sides, self.options, self._news, self.through)
        self.watch.follow(attempt)

    def _news(self, news: Mapping[str, Any]) -> None:
        self.freight.note_progress()
        self.report(news)

    def _moved(self) -> Dict[str, Any]:
        mended = arrive(self.sides, self.departure)
        figures = transferred(self.sides.destination_domain(), self.freight.sent) if self.watch else {}
        self.freight.leave()
        self.trace.forget()
        acted = self.watch is not None or bool(mended) or bool(self.handled)
        outcome = "moved" if self.options.begins else "reconciled"
        return self._result(outcome if acted else "already_there", mended=mended, **figures)

    def _stayed(self) -> Dict[str, Any]:
        """Return that the VM runs on its source, where nothing of a migration is left at either end."""
        mended = ["destination_volumes"] if self.freight.unload() else []
        mended += ["destination_definition"] if self.trace.clear() else []
        return self._result("reconciled" if mended or self.handled else "at_source", mended=mended)

    def _end_trace(self) -> None:
        # A destination that is silent now is cleared by a later run, which the journal tells of it.
        with suppress(FleetError, libvirt.libvirtError):
            self.freight.unload()
            self.trace.clear()

    def _finish_earlier(self) -> None:
        """Finish what an earlier run began for this VM to another host; it may run there, or be on its way.

        Raises unless the VM then runs on its source: beginning another migration could make two of it. A host that it
        was sent to may be silent then, for a source that runs the VM has not handed it over.
        """
        earlier = self.trace.earlier()
        if earlier is None:
            return
        passage = Passage(self.sides.of(earlier), replace(self.options, begins=False), self.report)
        ended = passage.run()
        if passage.found == v.STAYED:
            return
        if ended["outcome"] == "failed":
            raise FleetError(ended["msg"], ended["error"])
        raise FleetError(
            f"VM {earlier.vm} is not on {self.options.host}, for an earlier migration has brought it to "
            f"{earlier.destination}. Ask for its moves from there, or plan again.",
            "moved_elsewhere",
        )

    def _runs_on(self) -> Optional[str]:
        """Return the host that runs the VM, as both hosts proved by the last look; ``None`` if they did not."""
        places = {v.MOVED: self.sides.move.destination, v.STAYED: self.options.host}
        return places.get(self.found) if self.sides.answered else None

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
            "runs_on": self._runs_on(),
            "seconds": round(time.monotonic() - self.begun, 1),
            "downtime_ms": None,
            "transferred_mib": None,
            "iterations": self.watch.rounds if self.watch else 0,
            "throttle_percent": self.watch.throttle_percent if self.watch else 0,
            "forecast": self.forecast,
            "left_volumes": self.freight.left,
            **facts,
        }
        self.report({"state": outcome, "downtime_ms": result["downtime_ms"], "msg": result.get("msg")})
        return result
