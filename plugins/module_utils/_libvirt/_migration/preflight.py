# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What would stop a move, found for all moves of a call before the first VM has moved.

The source's refusals are those of libvirt, in its words and by its rules (``migration_blockers``); the destination is
asked what only it knows (``destination.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..._domain import Domain, migration_blockers, offline_blockers, parse_domain
from ..._errors import FleetError
from ..._host.machine import on_shared_storage
from ..._migration import Cargo, Obstacle
from ..api import translated
from ..domains import definition, live_xml
from .attempt import Options
from .destination import Objections, unreached
from .move import Move
from .sides import Peers, Sides, migration_job
from .stowing import Stowing, with_hint


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
    found = [(move, _obstacles(Sides(peers, options.source_uri, move), destinations)) for move in moves]
    together = destinations.stowing.together()
    refusals = [
        Refusal(move.vm, (*obstacles, *together.get(move.vm, ())))
        for move, obstacles in found
        if obstacles or move.vm in together
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


def _obstacles(sides: Sides, destinations: _Destinations) -> List[Obstacle]:
    # Of one that has left, is leaving or is off it is judged from both hosts what that means.
    return sides.of_source(partial(_obstacles_of, sides, destinations), [])


def _obstacles_of(sides: Sides, destinations: _Destinations, domain: Any) -> List[Obstacle]:
    if migration_job(domain) is not None or not (domain.isActive() or destinations.offline):
        return []
    if not domain.isActive():
        xml = definition(domain)
        words = with_hint(_left_behind(domain, xml), destinations.copy_storage)
        return [Obstacle("blocked", reason) for reason in words] + destinations.obstacles(sides, parse_domain(xml))
    xml = live_xml(domain)
    vm, words = parse_domain(xml), with_hint(blockers_of(domain, xml, destinations.copy_storage), False)
    cargo = destinations.stowing.cargo(sides, domain, vm)
    return [Obstacle("blocked", reason) for reason in words] + destinations.obstacles(sides, vm, cargo)


def blockers_of(domain: Any, xml: str, copy_storage: bool) -> Tuple[str, ...]:
    """Return why the source's libvirt would refuse to migrate a running VM.

    With ``copy_storage`` its files are judged by what is to be copied.
    """
    with translated(f"Reading the snapshots of VM {domain.name()}"):
        snapshots = domain.snapshotNum(0)
    shared_path = _is_copied if copy_storage else on_shared_storage
    return migration_blockers(xml, snapshots=snapshots, shared_path=shared_path)


def _is_copied(_path: str) -> bool:
    return True


def _left_behind(domain: Any, xml: str) -> Tuple[str, ...]:
    """Return what of a VM that is off would not travel with its definition."""
    with translated(f"Looking for saved memory of VM {domain.name()}"):
        saved = bool(domain.hasManagedSaveImage(0))
    return offline_blockers(xml, on_shared_storage, saved)


class _Destinations:
    """The destinations of a call; what does not depend on the VM is asked once."""

    def __init__(self, peers: Peers, options: Options) -> None:
        self._peers = peers
        self.offline = options.offline
        self.copy_storage = options.copy_storage
        self.stowing = Stowing(options.copy_storage)
        self._objections = Objections()
        self._unreachable: Dict[Tuple[str, Optional[str]], Optional[Obstacle]] = {}

    def obstacles(self, sides: Sides, vm: Domain, cargo: Optional[Cargo] = None) -> List[Obstacle]:
        """Return what there is at its destination to stop a VM, ``cargo`` of which may travel with it."""
        move = sides.move
        way = (move.uri, move.migrate_uri)
        if way not in self._unreachable:
            self._unreachable[way] = unreached(sides)
        broken = self._unreachable[way]
        if broken is not None:
            return [broken]
        cargo = cargo or Cargo()
        travelling = (*cargo.targets, *(medium.target for medium in cargo.media))
        rest = replace(vm, disks=tuple(disk for disk in vm.disks if disk.target not in travelling))
        with translated(f"Asking {move.destination} whether it can take VM {move.vm}"):
            return [*self._objections.to(sides, rest), *self.stowing.obstacles(sides, vm, cargo)]
