# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""One call of libvirt's migration, in a thread of its own."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Sequence

from ..._domain import parse_domain
from ..._host.command import Run
from ..._migration import Limits, Schedule
from ..api import libvirt
from ..domains import definition, live_xml, migratable_xml
from .move import Move
from .transport import Transport, connections, flags, params


@dataclass(frozen=True)
class Options:
    """How to migrate. ``wait_timeout`` is in seconds, for one VM.

    Without ``begins`` no migration begins: what was begun is finished. ``offline`` allows VMs that are off.
    ``copy_storage`` takes disks along that are on this host only. ``forecasts`` asks for what is to be expected;
    ``run`` runs programs of the host for that.
    """

    host: str
    schedule: Schedule
    limits: Limits
    transport: Transport = field(default_factory=Transport)
    source_uri: str = "qemu:///system"
    wait_timeout: int = 600
    record_home: bool = True
    begins: bool = True
    offline: bool = False
    copy_storage: bool = False
    forecasts: bool = False
    run: Optional[Run] = None


class Attempt:
    """A migration call; ``error`` is what it raised, which proves nothing.

    With ``resumes`` it sends the rest of what a broken post-copy has left (libvirt 8.5). ``disks`` are those that are
    copied, by their names in the VM; the destination has volumes for them.
    """

    def __init__(
        self, domain: Any, move: Move, options: Options, resumes: bool = False, disks: Sequence[str] = ()
    ) -> None:
        self.error: Optional[Exception] = None
        self._domain = domain
        if domain.isActive():
            streams = connections(options.transport, parse_domain(live_xml(domain)))
            self._flags = _flags(domain) | flags(options.transport, options.schedule, streams)
            self._params = {**_params(domain, move), **params(options.transport, streams)}
        else:
            self._flags, self._params = _offline_flags(), _offline_params(domain, move)
        if disks:
            self._flags |= libvirt.VIR_MIGRATE_NON_SHARED_DISK
            self._params[libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = list(disks)
        if resumes:
            # Bindings older than libvirt 8.5 have no name for it, and their libvirt refuses it.
            self._flags |= libvirt.VIR_MIGRATE_POSTCOPY | getattr(libvirt, "VIR_MIGRATE_POSTCOPY_RESUME", 1 << 19)
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

    def wait(self, seconds: float) -> None:
        """Wait for the call to return, for so long at most."""
        self._thread.join(seconds)


def _flags(domain: Any) -> int:
    found = int(libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_ABORT_ON_ERROR)
    if domain.isPersistent():
        found |= libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    return found


def _params(domain: Any, move: Move) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    if move.migrate_uri:
        found[libvirt.VIR_MIGRATE_PARAM_URI] = move.migrate_uri
    if move.pins is not None:
        found[libvirt.VIR_MIGRATE_PARAM_DEST_XML] = move.with_pins(migratable_xml(domain))
        if domain.isPersistent():
            # Without it the destination's definition would keep the pins of the source.
            found[libvirt.VIR_MIGRATE_PARAM_PERSIST_XML] = move.with_pins(definition(domain))
    return found


def _offline_flags() -> int:
    moved = libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    return int(libvirt.VIR_MIGRATE_OFFLINE | libvirt.VIR_MIGRATE_PEER2PEER | moved)


def _offline_params(domain: Any, move: Move) -> Dict[str, Any]:
    if move.pins is None:
        return {}
    xml = move.with_pins(definition(domain))
    return {libvirt.VIR_MIGRATE_PARAM_DEST_XML: xml, libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: xml}


def transferred(domain: Any, of_disks: int) -> Dict[str, Any]:
    """Return downtime and volume of a VM's completed incoming migration, if its destination knows them.

    It knows nothing of the bytes ``of_disks``, which only the source counts.
    """
    with suppress(libvirt.libvirtError):
        found = libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED | libvirt.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED
        stats = domain.jobStats(found)
        sent = stats.get("memory_processed", stats.get("data_processed", 0))
        # After a post-copy it has counted nothing.
        in_mib = round((sent + of_disks) / 1048576, 1) if sent else None
        return {"downtime_ms": stats.get("downtime"), "transferred_mib": in_mib}
    return {}
