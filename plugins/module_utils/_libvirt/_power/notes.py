# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The note, stored with a VM's definition, that a maintenance has shut it down and is to start it again."""

from __future__ import annotations

from typing import Any, Optional

from ..._domain import SHUTDOWN_KEY, SHUTDOWN_URI, shutdown_from_xml, shutdown_to_xml
from ..._errors import FleetError
from ..api import is_error, libvirt, translated
from ..domains import states_of


def read_note(domain: Any) -> Optional[str]:
    """Return for which maintenance a VM was shut down, ``None`` if there is no note."""
    if not domain.isPersistent():
        return None
    flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    try:
        text = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, SHUTDOWN_URI, flags)
    except libvirt.libvirtError as error:
        if is_error(error, "VIR_ERR_NO_DOMAIN_METADATA"):
            return None
        raise
    return shutdown_from_xml(text, str(domain.name()))


def write_note(domain: Any, maintenance: Optional[str]) -> None:
    """Store a note with a VM's definition, or remove it everywhere; raises ``not_applied`` if libvirt keeps another."""
    name = str(domain.name())
    with translated(f"Storing with VM {name} that it is to start again"):
        if maintenance is not None:
            # Its definition only: what the running VM has goes when it is off.
            _set(domain, shutdown_to_xml(maintenance), libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        else:
            # A VM that was started has it from its definition.
            for flags in states_of(domain):
                _remove(domain, flags)
        found = read_note(domain)
    if found != maintenance:
        raise FleetError(
            f"libvirt keeps {found!r} as the maintenance that has shut VM {name} down, not {maintenance!r}."
            " Look at the VM's metadata, then try again.",
            "not_applied",
            vm=name,
        )


def _set(domain: Any, text: Optional[str], flags: int) -> None:
    domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, SHUTDOWN_KEY, SHUTDOWN_URI, flags)


def _remove(domain: Any, flags: int) -> None:
    try:
        _set(domain, None, flags)
    except libvirt.libvirtError as error:
        if not is_error(error, "VIR_ERR_NO_DOMAIN_METADATA"):
            raise
