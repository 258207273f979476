# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The note, stored with a VM's definition, that a maintenance has shut it down and is to start it again."""

from __future__ import annotations

from typing import Any, Optional

from ..._domain import SHUTDOWN_KEY, SHUTDOWN_URI, shutdown_from_xml, shutdown_to_xml
from ..._errors import FleetError
from ..api import libvirt, translated
from ..domains import states_of
from ..metadata import read_element, write_element


def read_note(domain: Any) -> Optional[str]:
    """Return for which maintenance a VM was shut down, ``None`` if there is no note."""
    if not domain.isPersistent():
        return None
    text = read_element(domain, SHUTDOWN_URI, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    return None if text is None else shutdown_from_xml(text, str(domain.name()))


def write_note(domain: Any, maintenance: Optional[str]) -> None:
    """Store a note with a VM's definition, or remove it everywhere; raises ``not_applied`` if libvirt keeps another."""
    name = str(domain.name())
    with translated(f"Storing with VM {name} that it is to start again"):
        # Its definition only: what the running VM has goes when it is off. A VM that was started has it from there.
        text = None if maintenance is None else shutdown_to_xml(maintenance)
        for flags in states_of(domain) if text is None else [libvirt.VIR_DOMAIN_AFFECT_CONFIG]:
            write_element(domain, SHUTDOWN_KEY, SHUTDOWN_URI, text, flags)
        found = read_note(domain)
    if found != maintenance:
        raise FleetError(
            f"libvirt keeps {found!r} as the maintenance that has shut VM {name} down, not {maintenance!r}."
            " Look at the VM's metadata, then try again.",
            "not_applied",
            vm=name,
        )
