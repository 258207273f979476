# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Whether the disks of all VMs of a call can be copied, found before anything has moved."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Tuple

from ..._domain import UNSHARED, Domain
from ..._migration import Cargo, Obstacle, Pool, Volume, doubles, shortages, stow
from ..api import translated
from .destination import disks_port
from .freight import owned
from .sides import Sides
from .storage import cargo_on, read_pools

HINT = "`copy_storage: true` would take it along"


class Stowing:
    """The copies of a call. They have to find room together, so what each VM needs is kept until all were asked."""

    def __init__(self, copy_storage: bool) -> None:
        self._copies = copy_storage
        self._wanted: Dict[str, Dict[str, Tuple[Volume, ...]]] = {}
        self._pools: Dict[str, Dict[str, Pool]] = {}
        self._hosts: Dict[str, str] = {}

    def cargo(self, sides: Sides, domain: Any, vm: Domain) -> Cargo:
        """Return the disks of a running VM that are on this host only."""
        with translated(f"Looking at the disks of VM {vm.name}"):
            return cargo_on(sides.source(), domain, vm)

    def obstacles(self, sides: Sides, vm: Domain, cargo: Cargo) -> List[Obstacle]:
        """Return what stands against the disks of a VM, and keep what they need."""
        move = sides.move
        if not self._copies:
            # A path is judged as libvirt does, by ``migration_blockers``.
            volumes = [copy for copy in cargo.copies if copy.pool]
            return [Obstacle("blocked", f"{UNSHARED} ({copy.target}: {copy.path}); {HINT}") for copy in volumes]
        if cargo == Cargo():
            return []
        conn = sides.destination()
        with translated(f"Asking {move.destination} where the disks of VM {move.vm} can go"):
            pools = read_pools(conn, cargo, refresh=True)
        stowed = stow(cargo, move.destination, pools, owned(sides, vm))
        self._hosts[move.uri] = move.destination
        self._wanted.setdefault(move.uri, {})[move.vm] = stowed.volumes
        self._pools.setdefault(move.uri, {}).update({pool.name: pool for pool in pools if pool.held is not None})
        closed = disks_port(move) if cargo.copies else None
        return [*stowed.obstacles, *([closed] if closed else [])]

    def together(self) -> Dict[str, List[Obstacle]]:
        """Return by VM what stands against all copies of the call at once."""
        found: Dict[str, List[Obstacle]] = {}
        for uri, wanted in self._wanted.items():
            host, pools = self._hosts[uri], tuple(self._pools[uri].values())
            for more in (shortages(wanted, host, pools), doubles(wanted, host)):
                for vm, obstacles in more.items():
                    found.setdefault(vm, []).extend(obstacles)
        return found


def with_hint(reasons: Sequence[str], copy_storage: bool) -> List[str]:
    """Return why a VM cannot move, with what would take a file along that is on this host only."""
    files = [reason.startswith(UNSHARED) and not reason.endswith(": NVMe)") for reason in reasons]
    hint = "copy_storage copies the disks of VMs that run" if copy_storage else HINT
    return [f"{reason}; {hint}" if file else reason for reason, file in zip(reasons, files)]
