# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which VMs would start with a host: libvirt's own autostart, and the service libvirt-guests."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Dict, List

from .._host.libvirt_guests import LibvirtGuests
from .api import is_error, libvirt, translated


def at_boot(conn: Any, guests: LibvirtGuests) -> Dict[str, Any]:
    """Return ``autostart`` and ``libvirt_guests`` as ``host_maintenance`` does; nothing is changed."""
    with translated("Reading which VMs start with the host"):
        stopped = conn.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE)
        starting = [{"name": domain.name(), "uuid": domain.UUIDString()} for domain in stopped if _starts(domain)]
        names = {domain.UUIDString(): domain.name() for domain in stopped} if guests.resumes else {}
    ordered: List[Dict[str, str]] = sorted(starting, key=lambda entry: str(entry["name"]))
    return {"autostart": ordered, "libvirt_guests": guests.as_dict(names)}


def _starts(domain: Any) -> bool:
    try:
        return bool(domain.autostart()) or _starts_once(domain)
    except libvirt.libvirtError as error:
        # It was undefined since it was listed.
        if is_error(error, "VIR_ERR_NO_DOMAIN"):
            return False
        raise


def _starts_once(domain: Any) -> bool:
    # Since libvirt 11.2.0 a VM may be told to start at the next boot only. A daemon without the call has no such VM.
    with suppress(AttributeError, libvirt.libvirtError):
        return bool(domain.autostartOnce())
    return False
