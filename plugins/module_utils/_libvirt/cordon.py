# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.
"""What maintenance asks of libvirt: does the running daemon enforce the cordon, and which domains still run."""

from __future__ import annotations

import errno
import os
from typing import Any, Dict, List, Optional

from .._errors import FleetError
from .._host.hook import CORDON_PROBE, REFUSAL
from .api import fleet_error, is_error, libvirt, translated
from .connection import close, open_uri
from .probe import default_type, probe_xml, started

# Drivers that may run domains beside QEMU's on one host. A drained host has none of theirs either.
OTHER_DRIVERS = ("lxc:///system", "ch:///system")


def cordon_is_active(conn: Any) -> bool:
    """Return whether libvirt refuses a domain because of the maintenance mark, which must exist.

    A paused domain of 16 MiB without disks is tried. Where it starts, the daemon does not run the hook: the domain is
    destroyed at once, by libvirt itself if this process dies. Raises ``probe_failed`` when it fails for another cause.
    """
    doing = f"Cannot tell whether the cordon works, because the probe domain {CORDON_PROBE} failed"
    try:
        with started(conn, probe_xml(CORDON_PROBE, default_type(conn)), CORDON_PROBE):
            return False
    except libvirt.libvirtError as error:
        if is_error(error, "VIR_ERR_HOOK_SCRIPT_FAILED") and REFUSAL in (error.get_error_message() or ""):
            return True
        raise fleet_error(error, doing, "probe_failed") from error


def running_domains(conn: Any) -> List[Dict[str, str]]:
    """Return ``{driver, name}`` of every active domain on the host: of this connection and of the other drivers.

    Raises ``libvirtd_down`` when a driver exists and cannot be asked: its domains would be overlooked.
    """
    found = _active(conn)
    for uri in OTHER_DRIVERS:
        other = _open_if_present(uri)
        if other is not None:
            try:
                found += _active(other)
            finally:
                close(other)
    return sorted(found, key=lambda domain: (domain["driver"], domain["name"]))


def driver_is_absent(code: Optional[int], message: str) -> bool:
    """Tell from the error of an open whether the host simply has no such driver.

    Monolithic libvirtd answers ``VIR_ERR_NO_CONNECT``, or says that the driver is not active; a modular daemon that is
    not installed has no socket. A socket that nobody serves is another matter: domains may outlive their daemon.
    """
    if code == getattr(libvirt, "VIR_ERR_NO_CONNECT", 5) or "state driver is not active" in message:
        return True
    return code == getattr(libvirt, "VIR_ERR_SYSTEM_ERROR", 38) and os.strerror(errno.ENOENT) in message


def _open_if_present(uri: str) -> Optional[Any]:
    try:
        return open_uri(uri)
    except FleetError as error:
        if driver_is_absent(error.facts.get("libvirt_code"), error.msg):
            return None
        raise


def _active(conn: Any) -> List[Dict[str, str]]:
    with translated("Listing the running domains"):
        driver = str(conn.getType()).lower()
        domains = conn.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return [{"driver": driver, "name": str(domain.name())} for domain in domains]
