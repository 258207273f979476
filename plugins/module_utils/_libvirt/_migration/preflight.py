# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What would stop a move, found for all moves of a call before the first VM has moved.

The source's refusals are those of libvirt, in its words and by its rules (``migration_blockers``); the destination is
asked what only it knows (``destination.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from ..._domain import Domain, migration_blockers, offline_blockers, parse_domain
from ..._errors import FleetError
from ..._host.machine import on_shared_storage
from ..api import translated
from ..domains import definition, live_xml
from .attempt import Options
from .destination import Obstacle, migration_port, objections, require_destination
from .move import Move
from .sides import Peers, Sides, migration_job


@dataclass(frozen=True)
class Refusal:
    """A VM that cannot move, with all reasons that were found."""

    vm: str
    obstacles: Tuple[Obstacle, ...]


def require_migratable(peers: Peers, moves: Sequence[Move], options: Options) -> None:
    """Raise one error that names every VM that cannot move, before any of them has moved.

    Its code is that of the reason if all reasons have one, else ``blocked``.
    """
    destinations = _Destinations(peers, options)
    refusals = [
        refusal for move in moves for refusal in _refusals(Sides(peers, options.source_uri, move), destinations)
    ]
    if not refusals:
        return
    codes = {obstacle.code for refusal in refusals for obstacle in refusal.obstacles}
    words = "; ".join(f"{refusal.vm}: {', '.join(entry.text for entry in refusal.obstacles)}" for refusal in refusals)
    raise FleetError(
        f"Nothing was migrated from {options.host}, for not all VMs can be. {words}. "
        "Remove the cause, send them elsewhere, or shut them down.",
        codes.pop() if len(codes) == 1 else "blocked",
        blocked=[
            {"vm": refusal.vm, "blockers": [obstacle.text for obstacle in refusal.obstacles]} for refusal in refusals
        ],
    )


def _refusals(sides: Sides, destinations: _Destinations) -> Iterator[Refusal]:
    domain = sides.source_domain()
    if domain is None or migration_job(domain) is not None or not (domain.isActive() or destinations.offline):
        # It has left, is leaving or is off: what that means is judged from both hosts.
        return
    xml = live_xml(domain) if domain.isActive() else definition(domain)
    words = blockers_of(domain, xml) if domain.isActive() else _left_behind(domain, xml)
    found = [Obstacle("blocked", reason) for reason in words] + destinations.obstacles(sides, parse_domain(xml))
    if found:
        yield Refusal(sides.move.vm, tuple(found))


def blockers_of(domain: Any, xml: str) -> Tuple[str, ...]:
    """Return why the source's libvirt would refuse to migrate a running VM."""
    with translated(f"Reading the snapshots of VM {domain.name()}"):
        snapshots = domain.snapshotNum(0)
    return migration_blockers(xml, snapshots=snapshots, shared_path=on_shared_storage)


def _left_behind(domain: Any, xml: str) -> Iterator[str]:
    """Yield what of a VM that is off would not travel with its definition."""
    with translated(f"Looking for saved memory of VM {domain.name()}"):
        if domain.hasManagedSaveImage(0):
            yield "its memory is saved on this host; start it, or discard that with `virsh managedsave-remove`"
    yield from offline_blockers(xml, on_shared_storage)


class _Destinations:
    """The destinations of a call; whether one can be reached is asked once."""

    def __init__(self, peers: Peers, options: Options) -> None:
        self._peers = peers
        self.offline = options.offline
        self._unreachable: Dict[Tuple[str, Optional[str]], Optional[Obstacle]] = {}

    def obstacles(self, sides: Sides, vm: Domain) -> List[Obstacle]:
        """Return what there is at its destination to stop a VM."""
        move = sides.move
        way = (move.uri, move.migrate_uri)
        if way not in self._unreachable:
            self._unreachable[way] = self._reached(sides)
        broken = self._unreachable[way]
        if broken is not None:
            return [broken]
        with translated(f"Asking {move.destination} whether it can take VM {move.vm}"):
            return list(objections(sides, vm))

    def _reached(self, sides: Sides) -> Optional[Obstacle]:
        try:
            require_destination(sides)
        except FleetError as error:
            return Obstacle(error.code, f"{sides.move.destination}: {error.msg.rstrip('.')}")
        return migration_port(sides.move)
