# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""One call of libvirt's migration: started, watched, bounded, cancelled."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Callable, Dict, Mapping, Optional

from ..api import libvirt
from ..domains import definition, migratable_xml
from .move import Move
from .sides import Sides, migration_job

POLL_S = 0.5
# How long a cancelled migration may take to come to rest before the state is read anyway.
CANCEL_S = 60.0


@dataclass(frozen=True)
class Options:
    """How to migrate. Times in seconds unless the name says otherwise; ``None`` leaves it to libvirt."""

    host: str
    source_uri: str = "qemu:///system"
    concurrency: int = 2
    wait_timeout: int = 600
    bandwidth_mib_s: Optional[int] = None
    max_downtime_ms: Optional[int] = None
    auto_converge: bool = True
    record_home: bool = True


class Attempt:
    """A migration call in a thread of its own; ``error`` is what it raised, which proves nothing."""

    def __init__(self, domain: Any, move: Move, options: Options) -> None:
        self.error: Optional[Exception] = None
        self.expired = False
        self._domain = domain
        self._flags = _flags(domain, options)
        self._params = _params(domain, move, options)
        self._uri = move.uri
        self._thread = threading.Thread(target=self._call, daemon=True, name=f"migrate-{move.vm}")

    def start(self) -> None:
        """Let libvirt begin."""
        self._thread.start()

    def _call(self) -> None:
        try:
            self._domain.migrateToURI3(self._uri, self._params, self._flags)
        except libvirt.libvirtError as error:
            self.error = error

    @property
    def running(self) -> bool:
        """Whether the call has not returned yet."""
        return self._thread.is_alive()


def _flags(domain: Any, options: Options) -> int:
    flags = int(libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_ABORT_ON_ERROR)
    if domain.isPersistent():
        flags |= libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    if options.auto_converge:
        flags |= libvirt.VIR_MIGRATE_AUTO_CONVERGE
    return flags


def _params(domain: Any, move: Move, options: Options) -> Dict[str, Any]:
    params: Dict[str, Any] = {}
    if move.migrate_uri:
        params[libvirt.VIR_MIGRATE_PARAM_URI] = move.migrate_uri
    if options.bandwidth_mib_s:
        params[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = options.bandwidth_mib_s
    if move.pins is not None:
        params[libvirt.VIR_MIGRATE_PARAM_DEST_XML] = move.with_pins(migratable_xml(domain))
        if domain.isPersistent():
            # Without it the destination's definition would keep the pins of the source.
            params[libvirt.VIR_MIGRATE_PARAM_PERSIST_XML] = move.with_pins(definition(domain))
    return params


def follow(
    sides: Sides, attempt: Optional[Attempt], options: Options, report: Callable[[Mapping[str, Any]], None]
) -> bool:
    """Wait for a migration to end, ours or one we found under way, and report its progress.

    Returns whether the time ran out; then the migration was cancelled.
    """
    started = time.monotonic()
    downtime_set = options.max_downtime_ms is None
    while _under_way(sides, attempt):
        stats = _stats(sides)
        if stats:
            report(progress(stats))
            downtime_set = downtime_set or _set_downtime(sides, options)
        if time.monotonic() - started > options.wait_timeout:
            _cancel(sides, attempt)
            return True
        time.sleep(POLL_S)
    return False


def _under_way(sides: Sides, attempt: Optional[Attempt]) -> bool:
    return attempt.running if attempt is not None else _stats(sides) is not None


def _stats(sides: Sides) -> Any:
    # A source that does not answer ends the waiting: both ends are read and judged next.
    with suppress(Exception):
        domain = sides.source_domain()
        return migration_job(domain) if domain is not None else None
    return None


def _set_downtime(sides: Sides, options: Options) -> bool:
    with suppress(libvirt.libvirtError):
        sides.source_domain().migrateSetMaxDowntime(options.max_downtime_ms, 0)
        return True
    return False


def _cancel(sides: Sides, attempt: Optional[Attempt]) -> None:
    deadline = time.monotonic() + CANCEL_S
    while _under_way(sides, attempt) and time.monotonic() < deadline:
        # Refused while the job is being set up; asked again until it is at rest.
        with suppress(Exception):
            sides.source_domain().abortJob()
        time.sleep(POLL_S)


def progress(stats: Mapping[str, Any]) -> Dict[str, Any]:
    """Return what a person wants to see of libvirt's job statistics."""
    total, remaining = stats.get("data_total", 0), stats.get("data_remaining", 0)
    speed = stats.get("memory_bps", 0)
    return {
        "percent": round(100 * (total - remaining) / total) if total else 0,
        "remaining_kib": remaining // 1024,
        "speed_mib_s": round(speed / 1048576, 1),
        "eta_s": round(remaining / speed) if speed else None,
        "iteration": stats.get("memory_iteration", 0),
        "elapsed_ms": stats.get("time_elapsed", 0),
    }


def transferred(domain: Any) -> Dict[str, Any]:
    """Return downtime and volume of a VM's completed incoming migration, if its destination knows them."""
    with suppress(libvirt.libvirtError):
        flags = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
        stats = domain.jobStats(flags)
        return {
            "downtime_ms": stats.get("downtime"),
            "total_ms": stats.get("time_elapsed"),
            "transferred_kib": stats.get("memory_processed", stats.get("data_processed", 0)) // 1024,
        }
    return {"downtime_ms": None, "total_ms": None, "transferred_kib": None}
