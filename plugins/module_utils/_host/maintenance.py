# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The maintenance mark and the history of completed maintenances: values, rules between them, and their two files."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

from .._errors import FleetError
from . import files
from .paths import HostPaths

VERSION = 1
PHASES = ("draining", "drained", "reconfigured")
HISTORY_LENGTH = 50
NO_REASON = "no reason given"


@dataclass(frozen=True)
class Mark:
    """A running maintenance; ``since`` is UTC as ``2026-01-31T12:00:00Z``."""

    id: str
    reason: str
    since: str
    cordon: bool = True
    phase: str = "draining"

    def to_data(self) -> Dict[str, Any]:
        """Return the JSON object of the mark file."""
        return {
            "version": VERSION,
            "id": self.id,
            "reason": self.reason,
            "since": self.since,
            "cordon": self.cordon,
            "phase": self.phase,
        }


@dataclass(frozen=True)
class Completed:
    """A maintenance that this host went through to the end, at a UTC time."""

    id: str
    at: str


@dataclass(frozen=True)
class History:
    """The last completed maintenances, oldest first, each identifier once."""

    completed: Tuple[Completed, ...] = ()

    def has(self, maintenance_id: str) -> bool:
        """Return whether a maintenance is among the completed ones."""
        return any(entry.id == maintenance_id for entry in self.completed)

    def with_completed(self, maintenance_id: str, at: str) -> History:
        """Return the history with one more completed maintenance, bounded to the newest ``HISTORY_LENGTH``."""
        others = tuple(entry for entry in self.completed if entry.id != maintenance_id)
        return History((*others, Completed(maintenance_id, at))[-HISTORY_LENGTH:])

    def to_data(self) -> Dict[str, Any]:
        """Return the JSON object of the history file."""
        return {"version": VERSION, "completed": [{"id": entry.id, "at": entry.at} for entry in self.completed]}


def utc_now() -> str:
    """Return the present time in the form of the records."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


# Rules


def enter(
    mark: Optional[Mark],
    maintenance_id: str,
    now: str,
    reason: Optional[str] = None,
    cordon: bool = True,
    phase: Optional[str] = None,
) -> Mark:
    """Return the mark of a host that enters a maintenance, or goes on with it.

    Entering the same maintenance again keeps when it began, and what is not given: reason and phase.
    Raises ``maintenance_other`` when the host is in another one.
    """
    if mark is None:
        return Mark(maintenance_id, reason or NO_REASON, now, cordon, phase or PHASES[0])
    _require_same(mark, maintenance_id)
    return replace(mark, reason=reason or mark.reason, cordon=cordon, phase=phase or mark.phase)


def leave(mark: Optional[Mark], history: History, maintenance_id: Optional[str], completed: bool, now: str) -> History:
    """Return the history of a host that leaves its maintenance: completed, or else cancelled.

    Without ``maintenance_id`` it leaves whichever it is in. Raises ``maintenance_other`` when it is in another one.
    A maintenance already on record keeps its time unless the host went through it again.
    """
    if mark is not None and maintenance_id is not None:
        _require_same(mark, maintenance_id)
    finished = mark.id if mark is not None else maintenance_id
    if not completed or finished is None or (mark is None and history.has(finished)):
        return history
    return history.with_completed(finished, now)


def is_entered(mark: Optional[Mark], maintenance_id: Optional[str]) -> bool:
    """Return whether the host is in this maintenance."""
    return mark is not None and mark.id == maintenance_id


def is_completed(mark: Optional[Mark], history: History, maintenance_id: Optional[str]) -> bool:
    """Return whether the host is through with a maintenance: on record, and not in it again."""
    if maintenance_id is None:
        return False
    return history.has(maintenance_id) and (mark is None or mark.id != maintenance_id)


def _require_same(mark: Mark, maintenance_id: str) -> None:
    if mark.id == maintenance_id:
        return
    raise FleetError(
        f"The host is in maintenance {mark.id} ({mark.reason}) since {mark.since}, not in {maintenance_id}. "
        f"Finish {mark.id}, or cancel it with host_maintenance state=left id={mark.id}, then enter {maintenance_id}.",
        code="maintenance_other",
        maintenance=mark.to_data(),
        requested_id=maintenance_id,
    )


# Files


def read(paths: Optional[HostPaths] = None) -> Optional[Mark]:
    """Return the mark of this host, None when it is not in maintenance; raises ``bad_record``."""
    path = (paths or HostPaths()).mark
    record = files.read_record(path)
    if record is None:
        return None
    _require_version(path, record)
    _require_types(path, record, {"id": str, "reason": str, "since": str, "cordon": bool, "phase": str})
    if record["phase"] not in PHASES:
        raise files.bad_record(path, f"its phase is {record['phase']}, not one of {', '.join(PHASES)}")
    return Mark(record["id"], record["reason"], record["since"], record["cordon"], record["phase"])


def read_history(paths: Optional[HostPaths] = None) -> History:
    """Return the maintenances this host completed; raises ``bad_record``."""
    path = (paths or HostPaths()).history
    record = files.read_record(path)
    if record is None:
        return History()
    _require_version(path, record)
    _require_types(path, record, {"completed": list})
    for entry in record["completed"]:
        if not isinstance(entry, dict):
            raise files.bad_record(path, "an entry of completed is not an object")
        _require_types(path, entry, {"id": str, "at": str})
    return History(tuple(Completed(entry["id"], entry["at"]) for entry in record["completed"]))


def write(paths: HostPaths, mark: Optional[Mark]) -> None:
    """Write the mark, or remove it; the state directory must exist."""
    if mark is None:
        files.remove(paths.mark)
    else:
        files.write_record(paths.mark, mark.to_data())


def write_history(paths: HostPaths, history: History) -> None:
    """Write the completed maintenances; the state directory must exist."""
    files.write_record(paths.history, history.to_data())


def _require_version(path: Path, record: Mapping[str, Any]) -> None:
    version = record.get("version")
    if version != VERSION or isinstance(version, bool):
        raise files.bad_record(path, f"its version is {version!r} and this release of the collection reads {VERSION}")


def _require_types(path: Path, record: Mapping[str, Any], types: Mapping[str, type]) -> None:
    for key, kind in types.items():
        if not isinstance(record.get(key), kind):
            raise files.bad_record(path, f"its key {key} is missing or not of type {kind.__name__}")
