# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""A move as the planner orders it and ``vm_migrate`` takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional

from ..._domain import Pinning
from ..._errors import FleetError


@dataclass(frozen=True)
class Move:
    """One VM to one destination.

    ``uri`` is the destination's libvirt URI as seen from the source host, ``migrate_uri`` where the memory is sent
    (``tcp://address``), ``destination_uuid`` the libvirt host UUID that the destination must have, ``pins`` the
    pinning it gets there (``None`` keeps the present one).
    """

    vm: str
    destination: str
    uri: str
    uuid: Optional[str] = None
    destination_uuid: Optional[str] = None
    migrate_uri: Optional[str] = None
    pins: Optional[Pinning] = None

    @property
    def key(self) -> str:
        """What to look the VM up by: its UUID if known, for names can be given twice."""
        return self.uuid or self.vm


def move_from_dict(data: Mapping[str, Any]) -> Move:
    """Return the move in one entry of the module's ``moves``; raises ``bad_pins``."""
    pins: Optional[Dict[str, Any]] = data.get("pins")
    try:
        pinning = Pinning.from_dict(pins) if pins else None
    except FleetError as error:
        raise FleetError(f"VM {data['vm']}: {error.msg}", error.code, **error.facts) from error
    return Move(
        vm=data["vm"],
        destination=data["destination"],
        uri=data["uri"],
        uuid=data.get("uuid"),
        destination_uuid=data.get("destination_uuid"),
        migrate_uri=data.get("migrate_uri"),
        pins=pinning,
    )
