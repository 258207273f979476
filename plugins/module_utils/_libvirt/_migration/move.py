# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""A move as the planner orders it and ``vm_migrate`` takes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Mapping, Optional

from ..._domain import Domain, Following, Pinning, Policy, parse_domain, with_pinning, with_policy
from ..._errors import FleetError
from ..._pin_rules import fitted, releases


@dataclass(frozen=True)
class Move:
    """One VM to one destination.

    ``uri`` is the destination's libvirt URI as seen from the source host, ``migrate_uri`` where the memory is sent
    (``tcp://address``), ``destination_uuid`` the libvirt host UUID that the destination must have, ``pins`` the
    pinning it gets there (``None`` keeps the present one) and ``following`` the record of those that are not its own.
    """

    vm: str
    destination: str
    uri: str
    uuid: Optional[str] = None
    destination_uuid: Optional[str] = None
    migrate_uri: Optional[str] = None
    pins: Optional[Pinning] = None
    following: Optional[Following] = None

    @property
    def key(self) -> str:
        """What to look the VM up by: its UUID if known, for names can be given twice."""
        return self.uuid or self.vm

    def as_dict(self) -> Dict[str, Any]:
        """Return the move as ``move_from_dict`` takes it."""
        return {
            "vm": self.vm,
            "uuid": self.uuid,
            "destination": self.destination,
            "destination_uuid": self.destination_uuid,
            "uri": self.uri,
            "migrate_uri": self.migrate_uri,
            "pins": None if self.pins is None else self.pins.as_dict(),
            "following": None if self.following is None else self.following.as_dict(),
        }

    def with_pins(self, xml: str) -> str:
        """Return a definition, live or persistent, with the pins that the VM gets, and their record with them.

        Threads and NUMA cells that it does not have get none.
        """
        if self.pins is None:
            return xml
        domain = parse_domain(xml)
        policy = replace(domain.policy or Policy(), following=self.following_of(domain))
        return with_policy(with_pinning(xml, fitted(domain, self.pins)), None if policy == Policy() else policy)

    def following_of(self, domain: Domain) -> Optional[Following]:
        """Return the record that goes with the pins in one state of the VM."""
        if self.pins is None or not self.pins.cpuset or not releases(domain, self.pins):
            return self.following
        before, own = domain.policy.following if domain.policy else None, domain.own_pinning.cpuset
        limit = before.limit if before else own
        return Following(self.pins.cpuset, None if limit == self.pins.cpuset else limit)


def move_from_dict(data: Mapping[str, Any]) -> Move:
    """Return the move in one entry of the module's ``moves``; raises ``bad_pins``, ``bad_cpuset`` or ``bad_policy``."""
    pins: Optional[Dict[str, Any]] = data.get("pins")
    try:
        pinning = Pinning.from_dict(pins) if pins else None
        following = Following.from_dict(data["following"]) if pins and data.get("following") else None
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
        following=following,
    )
