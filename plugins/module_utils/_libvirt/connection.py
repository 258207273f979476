# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Connections to hypervisors: opened once, kept alive, bounded in time, always closed."""

from __future__ import annotations

import errno
import os
import socket
import threading
from contextlib import contextmanager, suppress
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, TypeVar
from urllib.parse import urlsplit

from .._errors import FleetError
from .api import fleet_error, require_libvirt, translated

T = TypeVar("T")

# Ports of libvirt's remote transports, https://libvirt.org/uri.html#remote-uris.
TRANSPORT_PORTS: Dict[str, int] = {"ssh": 22, "libssh": 22, "libssh2": 22, "tls": 16514, "tcp": 16509}
REACH_TIMEOUT_S = 5.0
OPEN_TIMEOUT_S = 30.0
# A peer that misses three probes, five seconds apart, counts as gone.
KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT = 5, 3


def bounded(call: Callable[[], T], timeout_s: float, doing: str) -> T:
    """Run ``call`` in a thread and return its value, or raise ``timeout`` after ``timeout_s`` seconds.

    A libvirt call cannot be interrupted: the thread of one that expired stays behind and ends with the process.
    """
    results: List[T] = []
    errors: List[Exception] = []

    def target() -> None:
        try:
            results.append(call())
        except (require_libvirt().libvirtError, FleetError, OSError) as error:
            errors.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if thread.is_alive() or not results:
        raise FleetError(f"{doing}: no answer within {timeout_s:g} seconds.", "timeout")
    return results[0]


@contextmanager
def connection(uri: str) -> Iterator[Any]:
    """Open ``uri``, yield the ``virConnect`` and close it."""
    conn = open_uri(uri)
    try:
        with translated(f"Working with {uri}"):
            yield conn
    finally:
        close(conn)


def open_uri(uri: str) -> Any:
    """Return an open connection; raises ``unreachable`` (no way there), ``not_permitted`` or ``libvirtd_down``."""
    libvirt = require_libvirt()
    _start_event_loop()
    _require_reachable(uri)
    try:
        conn = bounded(lambda: libvirt.open(uri), OPEN_TIMEOUT_S, f"Opening {uri}")
    except libvirt.libvirtError as error:
        if os.strerror(errno.EACCES) in str(error) and remote_endpoint(uri) is None:
            doing = f"Cannot connect to {uri} as this user (set become: true)"
            raise fleet_error(error, doing, "not_permitted", uri=uri) from error
        raise fleet_error(error, f"Cannot connect to {uri} ({_advice(uri)})", "libvirtd_down", uri=uri) from error
    # Drivers without a remote end have nothing to keep alive.
    with suppress(libvirt.libvirtError):
        conn.setKeepAlive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT)
    return conn


def _advice(uri: str) -> str:
    if remote_endpoint(uri) is None:
        return "check that libvirtd or virtqemud runs"
    if "ssh" in urlsplit(uri).scheme:
        return (
            "check that libvirt runs there, and that root of this host may log in there by SSH key without a question"
        )
    return "check that libvirt listens there and accepts this host's certificate"


def close(conn: Any) -> None:
    """Close a connection; one whose peer is gone is only forgotten."""
    with suppress(Exception):
        bounded(conn.close, REACH_TIMEOUT_S, "Closing a connection")


def remote_endpoint(uri: str) -> Optional[Tuple[str, int]]:
    """Return host and TCP port behind a remote URI, or ``None`` for a local or unknown transport."""
    parts = urlsplit(uri)
    transport = parts.scheme.partition("+")[2] or "tls"
    if not parts.hostname or transport not in TRANSPORT_PORTS:
        return None
    return parts.hostname, parts.port or TRANSPORT_PORTS[transport]


def _require_reachable(uri: str) -> None:
    # libvirt waits minutes for a host that is down, and such a wait cannot be cancelled: knock first.
    endpoint = remote_endpoint(uri)
    if endpoint is None:
        return
    try:
        socket.create_connection(endpoint, REACH_TIMEOUT_S).close()
    except OSError as error:
        raise FleetError(
            f"Cannot reach {endpoint[0]} port {endpoint[1]} for {uri}: {error}. "
            "Check that the host is up and that the firewall lets hypervisors reach each other.",
            "unreachable",
            uri=uri,
        ) from error


_loop_started = threading.Event()


def _start_event_loop() -> None:
    # Keepalive needs a running event loop that was registered before the first connection opened.
    if _loop_started.is_set():
        return
    _loop_started.set()
    libvirt = require_libvirt()
    libvirt.virEventRegisterDefaultImpl()

    def loop() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=loop, daemon=True, name="libvirt-events").start()
