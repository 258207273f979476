# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Asking both hosts of a move, over connections that may have died meanwhile."""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from typing import Any, Callable, Dict, Iterator, Tuple, TypeVar

from ..._errors import FleetError
from ..api import is_error, libvirt, translated
from ..connection import bounded, close, open_uri
from ..domains import find, state_of
from .move import Move
from .verdict import End

T = TypeVar("T")

ASK_TIMEOUT_S = 30.0


class Peers:
    """One connection for each hypervisor, shared by all threads and opened again if it broke."""

    def __init__(self) -> None:
        self._connections: Dict[str, Any] = {}
        self._locks: Dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def get(self, uri: str) -> Any:
        """Return a live connection to ``uri``; raises ``unreachable`` or ``libvirtd_down``."""
        with self._guard:
            lock = self._locks.setdefault(uri, threading.Lock())
        with lock:
            conn = self._connections.get(uri)
            if conn is not None and _alive(conn):
                return conn
            if conn is not None:
                close(conn)
            self._connections[uri] = open_uri(uri)
            return self._connections[uri]

    def close(self) -> None:
        """Close all connections."""
        for conn in self._connections.values():
            close(conn)
        self._connections.clear()


@contextmanager
def connected() -> Iterator[Peers]:
    """Yield the connections of a call, which are closed at its end."""
    peers = Peers()
    try:
        with translated("Working with the hypervisors"):
            yield peers
    finally:
        peers.close()


def _alive(conn: Any) -> bool:
    with suppress(libvirt.libvirtError):
        return bool(conn.isAlive())
    return False


class Sides:
    """The source and the destination of one move; ``answered`` tells whether both did at the last look."""

    def __init__(self, peers: Peers, source_uri: str, move: Move) -> None:
        self._peers = peers
        self._source_uri = source_uri
        self.move = move
        self.answered = False

    def of(self, move: Move) -> Sides:
        """Return the sides of another move from the same source."""
        return Sides(self._peers, self._source_uri, move)

    def source(self) -> Any:
        """Return the connection to the source."""
        return self._peers.get(self._source_uri)

    def destination(self) -> Any:
        """Return the connection to the destination."""
        return self._peers.get(self.move.uri)

    def source_domain(self) -> Any:
        """Return the VM on the source, ``None`` if it does not know it."""
        return find(self.source(), self.move.key)

    def of_source(self, read: Callable[[Any], T], absent: T) -> T:
        """Return what ``read`` finds of the VM on the source, ``absent`` if it is not there or leaves meanwhile."""
        domain = self.source_domain()
        if domain is None:
            return absent
        try:
            return read(domain)
        except (FleetError, libvirt.libvirtError):
            if self.source_domain() is not None:
                raise
            return absent

    def destination_domain(self) -> Any:
        """Return the VM on the destination, ``None`` if it does not know it."""
        return find(self.destination(), self.move.key)

    def look(self) -> Tuple[End, End]:
        """Return what both hosts say now; the source is asked first and last, for the VM may be on its way."""
        source = _look(self.source_domain)
        destination = _look(self.destination_domain)
        if source.active and destination.active:
            source = _look(self.source_domain)
        self.answered = source.reachable and destination.reachable
        return source, destination


def _look(domain_of: Any) -> End:
    try:
        return bounded(lambda: _read(domain_of()), ASK_TIMEOUT_S, "Asking a host for the state of a VM")
    except (FleetError, libvirt.libvirtError):
        return End(reachable=False)


def _read(domain: Any) -> End:
    if domain is None:
        return End()
    try:
        state = state_of(*domain.state(0))
        return End(
            state=state, job=state.active and migration_job(domain) is not None, persistent=bool(domain.isPersistent())
        )
    except libvirt.libvirtError as error:
        # It went away between look-up and question.
        if is_error(error, "VIR_ERR_NO_DOMAIN"):
            return End()
        raise


def migration_job(domain: Any) -> Any:
    """Return the statistics of the migration under way (``{}`` on the destination, which has none), or ``None``."""
    try:
        stats = domain.jobStats(0)
    except libvirt.libvirtError as error:
        # "migration statistics are available only on the source host"
        refusals = ("VIR_ERR_OPERATION_UNSUPPORTED", "VIR_ERR_OPERATION_INVALID")
        if is_error(error, *refusals) and "only on the source" in error.get_error_message():
            return {}
        if is_error(error, "VIR_ERR_OPERATION_INVALID", "VIR_ERR_NO_DOMAIN"):
            return None
        raise
    under_way = (libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED)
    migrations = (libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT, libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN)
    if stats.get("type") in under_way and stats.get("operation") in migrations:
        return stats
    return None
