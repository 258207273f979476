# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The migrations that began on this host and are not known to have ended, so that a later run can put them right.

It survives what kills the run that wrote it, and proves what an unfinished migration left elsewhere to be its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional

from .._errors import FleetError
from . import files
from .paths import HostPaths

VERSION = 1


@dataclass(frozen=True)
class Begun:
    """A migration: ``move`` as ``vm_migrate`` takes it, with ``uuid`` and ``destination_uuid``.

    ``defined_there`` tells that the destination had a definition of the VM before, which then is not the migration's.
    """

    move: Mapping[str, Any]
    defined_there: bool

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
        defined = begun.defined_there if before is None or not same else before.defined_there
        record = {"version": VERSION, "defined_there": defined, "move": dict(begun.move)}
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
        return Begun(move, defined_there)

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
