# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The migrations that began on this host and are not known to have ended, so that a later run can put them right.

It survives what kills the run that wrote it, and proves what an unfinished migration left elsewhere to be its own.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .._errors import FleetError
from . import files
from .paths import HostPaths

VERSION = 1


@dataclass(frozen=True)
class CopiedDisk:
    """A volume that the migration makes at the destination for the file ``source`` of this host.

    Without ``made`` nobody knows whether it came to that.
    """

    pool: str
    name: str
    path: str
    source: str
    made: bool = False


@dataclass(frozen=True)
class Begun:
    """A migration: ``move`` as ``vm_migrate`` takes it, with ``uuid`` and ``destination_uuid``.

    ``defined_there`` tells that the destination had a definition of the VM before, which then is not the migration's.
    ``disks`` are the volumes made there, ``runtime_id`` is libvirt's number of the VM as it ran here meanwhile.
    """

    move: Mapping[str, Any]
    defined_there: bool
    disks: Tuple[CopiedDisk, ...] = ()
    runtime_id: Optional[int] = None

    @property
    def uuid(self) -> str:
        """The VM's UUID."""
        return str(self.move["uuid"])


class Journal:
    """One record for each VM that is on its way, in a directory of the collection's state."""

    def __init__(self, paths: Optional[HostPaths] = None) -> None:
        self._paths = paths or HostPaths()

    def begin(self, begun: Begun) -> None:
        """Note a migration before it begins; what an earlier one of that VM to the same host left stays its own."""
        files.make_directory(self._paths.state)
        files.make_directory(self._paths.migrations, mode=0o700)
        before = self.find(begun.uuid)
        same = before is not None and before.move["destination_uuid"] == begun.move["destination_uuid"]
        if before is not None and same:
            begun = replace(before, move=begun.move)
        self._write(begun)

    def note_disks(self, uuid: str, disks: Sequence[CopiedDisk], runtime_id: Optional[int]) -> None:
        """Note which volumes a migration that began makes at its destination; raises ``bad_record``."""
        begun = self.find(uuid)
        if begun is not None:
            self._write(replace(begun, disks=tuple(disks), runtime_id=runtime_id))

    def _write(self, begun: Begun) -> None:
        record = {"version": VERSION, "defined_there": begun.defined_there, "move": dict(begun.move)}
        if begun.disks:
            record.update(disks=[asdict(disk) for disk in begun.disks], runtime_id=begun.runtime_id)
        files.write_record(self._paths.migration(begun.uuid), record)

    def end(self, uuid: str) -> None:
        """Forget a migration that has ended, whichever way."""
        files.remove(self._paths.migration(uuid))

    def find(self, uuid: str) -> Optional[Begun]:
        """Return the migration of a VM; raises ``bad_record``."""
        path = self._paths.migration(uuid)
        record = files.read_record(path)
        if record is None:
            return None
        if record.get("version") != VERSION:
            raise files.bad_record(path, f"its version is {record.get('version')}, not {VERSION}")
        move, defined_there = record.get("move"), record.get("defined_there")
        if not isinstance(move, dict) or not isinstance(defined_there, bool) or not _is_complete(move):
            raise files.bad_record(path, "it does not say which VM was sent where")
        if move["uuid"] != uuid:
            raise files.bad_record(path, f"it is about the VM {move['uuid']}")
        disks, runtime_id = record.get("disks", []), record.get("runtime_id")
        if not isinstance(disks, list) or not all(_is_disk(disk) for disk in disks):
            raise files.bad_record(path, "it does not say which volumes were made")
        known = runtime_id if isinstance(runtime_id, int) else None
        return Begun(move, defined_there, tuple(CopiedDisk(**disk) for disk in disks), known)

    def entries(self) -> List[Begun]:
        """Return all migrations, by UUID; raises ``bad_record``."""
        try:
            names = sorted(path.stem for path in self._paths.migrations.glob("*.json"))
        except OSError as error:
            raise FleetError(
                f"Cannot read {self._paths.migrations}: {error.strerror}.",
                "host_file",
                path=str(self._paths.migrations),
            ) from error
        found = (self.find(name) for name in names)
        return [begun for begun in found if begun is not None]


def _is_complete(move: Dict[str, Any]) -> bool:
    needed = ("vm", "uuid", "destination", "destination_uuid", "uri")
    return all(isinstance(move.get(key), str) and move[key] for key in needed)


def _is_disk(disk: Any) -> bool:
    texts = ("pool", "name", "path", "source")
    known = isinstance(disk, dict) and sorted(disk) == sorted((*texts, "made")) and isinstance(disk["made"], bool)
    return known and all(isinstance(disk[key], str) and disk[key] for key in texts)
