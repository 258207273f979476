# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The copies of a VM's disks at its destination: made before it leaves, removed again when it stayed.

Nothing is overwritten, and nothing is removed but what this host's journal proves to be made for this migration, while
both hosts prove that the VM is here and no VM there has it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from ..._domain import Domain, parse_domain
from ..._errors import FleetError
from ..._host.journal import Begun, CopiedDisk, Journal
from ..._migration import Volume, shortages, stow, taken
from ..api import is_error, libvirt, translated
from ..domains import live_xml
from .sides import Sides, migration_job
from .storage import cargo_on, is_empty, pool_of, read_pools, users, volume_of, volume_xml
from .verdict import End, has_stayed

# How libvirt refuses to make a volume of which it has made nothing: the pool knows the name, or there is such a file.
_REFUSALS = ("VIR_ERR_STORAGE_VOL_EXIST", "VIR_ERR_OPERATION_INVALID")


class Freight:
    """The disks that travel with one VM from the host of this name.

    ``sent`` is how many bytes of them libvirt said it has copied, ``left`` the host and the path of each file that the
    VM does not use any more.
    """

    def __init__(self, sides: Sides, host: str, journal: Optional[Journal] = None) -> None:
        self.sent = 0
        self.left: List[Dict[str, str]] = []
        self._sides = sides
        self._host = host
        self._journal = journal or Journal()
        self._loaded = False

    def load(self, domain: Any) -> Tuple[str, ...]:
        """Make the volumes for the disks of a running VM that are on this host only, and return those disks.

        Raises what stands against it; what was made until then is in the journal, for ``unload``.
        """
        move = self._sides.move
        conn, host = self._sides.destination(), move.destination
        with translated(f"Looking at the disks of VM {move.vm}"):
            cargo = cargo_on(self._sides.source(), domain, parse_domain(live_xml(domain)))
            if not (cargo.copies or cargo.media or cargo.refusals):
                return ()
            self.unload()
            pools = read_pools(conn, cargo)
            stowed = stow(cargo, host, pools)
            obstacles = [*stowed.obstacles, *shortages({move.vm: stowed.volumes}, host, pools).get(move.vm, [])]
        if obstacles:
            words = ", ".join(obstacle.text for obstacle in obstacles)
            raise FleetError(f"VM {move.vm} was not migrated to {host}: {words}.", obstacles[0].code)
        self._note([_copied(volume) for volume in stowed.volumes], domain.ID())
        self._loaded = True
        for number in range(len(stowed.volumes)):
            self._make(conn, stowed.volumes, number, domain.ID())
        return cargo.targets

    def _make(self, conn: Any, volumes: Sequence[Volume], number: int, runtime_id: int) -> None:
        volume, host = volumes[number], self._sides.move.destination
        rest = [_copied(entry) for entry in volumes[number + 1 :]]
        made = [replace(_copied(entry), made=True) for entry in volumes[:number]]
        try:
            with translated(f"Making {volume.path} on {host}"):
                created = conn.storagePoolLookupByName(volume.pool).createXML(volume_xml(volume), 0)
                path = str(created.path())
        except FleetError as error:
            self._disown_if_taken(conn, volume, [*made, *rest], runtime_id, error)
            raise
        self._note([*made, replace(_copied(volume), path=path, made=True), *rest], runtime_id)
        if path != volume.path:
            raise FleetError(
                f"{host} made {path} for the disk {volume.target} where the VM needs {volume.path}; "
                f"correct the target path of its storage pool {volume.pool}.",
                "storage_missing",
            )

    def _disown_if_taken(
        self, conn: Any, volume: Volume, others: List[CopiedDisk], runtime_id: int, error: FleetError
    ) -> None:
        """Strike out of the journal what libvirt refused to begin with; raises ``storage_taken``."""
        cause = error.__cause__
        if not (isinstance(cause, Exception) and is_error(cause, *_REFUSALS)):
            return
        self._note(others, runtime_id)
        pool = pool_of(conn, volume.pool)
        if pool is not None and pool.isActive():
            words = str(error.facts.get("libvirt_message", error.msg))
            obstacle = taken(self._sides.move.destination, volume.pool, volume.name, volume.path, words)
            raise FleetError(f"VM {self._sides.move.vm} was not migrated: {obstacle.text}.", obstacle.code) from error

    def unload(self) -> bool:
        """Remove what was made at the destination of a VM that is here, and tell whether anything was.

        What cannot be proved to be ours and unused stays, and is in ``left``. Raises if the destination cannot be
        asked; then the journal still knows of it.
        """
        begun = self._begun()
        if begun is None or not begun.disks:
            return False
        source, destination = self._sides.look()
        if not destination.reachable:
            host = self._sides.move.destination
            raise FleetError(f"{host} cannot be asked what it has of VM {self._sides.move.vm}.", "unreachable")
        removed = False
        for disk in begun.disks:
            with translated(f"Removing {disk.path} on {self._sides.move.destination}"):
                volume = self._find(disk)
                if volume is None:
                    continue
                if self._has_stayed(begun, source, destination) and self._is_ours(disk, volume):
                    volume.delete(0)
                    removed = True
                else:
                    self.left.append({"host": self._sides.move.destination, "path": disk.path})
        self._note([], None)
        return removed

    def _find(self, disk: CopiedDisk) -> Any:
        pool = pool_of(self._sides.destination(), disk.pool)
        return None if pool is None else volume_of(pool, disk.name)

    def _is_ours(self, disk: CopiedDisk, volume: Any) -> bool:
        if volume.path() != disk.path or not (disk.made or is_empty(volume)):
            return False
        others = users(self._sides.destination(), disk.pool, disk.name, disk.path)
        return not [vm for vm in others if vm.uuid != self._sides.move.uuid]

    def _has_stayed(self, begun: Begun, source: End, destination: End) -> bool:
        domain = self._sides.source_domain()
        # libvirt numbers the VM anew whenever it starts or arrives.
        same = domain is not None and domain.ID() == begun.runtime_id
        return has_stayed(source, destination, same, self._loaded)

    def note_progress(self) -> None:
        """Look how much of the disks has been copied, as far as libvirt tells."""
        if not self._loaded:
            return
        # Only the source tells it, and only while it sends.
        with suppress(FleetError, libvirt.libvirtError):
            domain = self._sides.source_domain()
            stats: Dict[str, Any] = (migration_job(domain) or {}) if domain is not None else {}
            self.sent = max(self.sent, int(stats.get("disk_processed", 0)))

    def leave(self) -> None:
        """Note the files on this host whose copies the VM uses that has moved."""
        begun = self._begun()
        files = [disk.source for disk in begun.disks if disk.made] if begun is not None else []
        self.left += [{"host": self._host, "path": path} for path in files if Path(path).exists()]

    def _note(self, disks: Sequence[CopiedDisk], runtime_id: Optional[int]) -> None:
        uuid = self._sides.move.uuid
        if uuid:
            self._journal.note_disks(uuid, disks, runtime_id)

    def _begun(self) -> Optional[Begun]:
        """Return what was written down of this move, not of one to another host."""
        uuid = self._sides.move.uuid
        begun = self._journal.find(uuid) if uuid else None
        return begun if begun is not None and begun.move["uri"] == self._sides.move.uri else None


def _copied(volume: Volume) -> CopiedDisk:
    return CopiedDisk(volume.pool, volume.name, volume.path, volume.source)


def owned(sides: Sides, vm: Domain) -> Tuple[Tuple[str, str], ...]:
    """Return pool and name of the volumes that an earlier try of this move made, while the VM has not left since."""
    begun = Journal().find(vm.uuid)
    same = begun is not None and begun.move["uri"] == sides.move.uri and begun.runtime_id == vm.runtime_id
    return tuple((disk.pool, disk.name) for disk in begun.disks) if same and begun is not None else ()
