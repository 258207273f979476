# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The lease of a host's pool: its value, who is given it, and its file.

Times are those of the host's own clock, in UTC as ``2026-01-31T12:00:00Z``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, Dict, Optional, Tuple

from .._errors import FleetError
from . import files
from .maintenance import utc_now
from .paths import HostPaths
from .record_fields import RecordFields

VERSION = 1
LONGEST_S = 7 * 24 * 3600
_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class Claim:
    """Who wants the lease for how long; runs in ``over`` are known to have ended."""

    run: str
    owner: str
    pool: Optional[str] = None
    purpose: Optional[str] = None
    controller: Optional[str] = None
    expires_s: int = 3600
    over: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Lease:
    """A run has the host's pool for itself: since when, last renewed when, and until when unless it is renewed again.

    ``pool`` is None on a host without one. ``controller`` is what the controller needs to find the run's process.
    """

    pool: Optional[str]
    run: str
    owner: str
    purpose: Optional[str]
    controller: Optional[str]
    since: str
    renewed: str
    expires: str

    def to_data(self) -> Dict[str, Any]:
        """Return the JSON object of the file."""
        return {
            "version": VERSION,
            "pool": self.pool,
            "run": self.run,
            "owner": self.owner,
            "purpose": self.purpose,
            "controller": self.controller,
            "since": self.since,
            "renewed": self.renewed,
            "expires": self.expires,
        }

    def age_s(self, now: str) -> int:
        """Return for how long the run has it."""
        return _seconds(settled(self, now).since, now)

    def left_s(self, now: str) -> int:
        """Return for how long it is in force yet, 0 if it has ended."""
        return max(0, _seconds(now, settled(self, now).expires))


# Rules


def settled(lease: Lease, now: str) -> Lease:
    """Return the lease as it is to be counted at a time.

    One from the future was written before the clock was set back. From now on it lasts as long as it was given for,
    for it must neither be lost nor last for ever.
    """
    renewed = min(lease.renewed, now)
    expires = _later(renewed, min(LONGEST_S, max(0, _seconds(lease.renewed, lease.expires))))
    return replace(lease, since=min(lease.since, now), renewed=renewed, expires=expires)


def take(found: Optional[Lease], claim: Claim, now: str) -> Lease:
    """Return the lease of the host after a claim: the claim's own, or that of another run which is in force."""
    if found is not None and found.run not in (claim.run, *claim.over) and found.left_s(now):
        return settled(found, now)
    own = found if found is not None and found.run == claim.run else None
    return Lease(
        pool=claim.pool,
        run=claim.run,
        owner=claim.owner,
        purpose=claim.purpose or (None if own is None else own.purpose),
        controller=claim.controller,
        since=now if own is None else min(own.since, now),
        renewed=now,
        expires=_later(now, claim.expires_s),
    )


def release(found: Optional[Lease], run: str) -> Optional[Lease]:
    """Return the lease of the host after a run gave up its own; that of another run stays."""
    return None if found is not None and found.run == run else found


def _moment(text: str) -> datetime:
    return datetime.strptime(text, _FORMAT).replace(tzinfo=timezone.utc)


def _seconds(start: str, end: str) -> int:
    return int((_moment(end) - _moment(start)).total_seconds())


def _later(start: str, seconds: int) -> str:
    return (_moment(start) + timedelta(seconds=seconds)).strftime(_FORMAT)


# The file


def read(paths: HostPaths) -> Optional[Lease]:
    """Return the lease on record, whether in force or not, None if there is none; raises ``bad_record``."""
    record = files.read_record(paths.lease)
    if record is None:
        return None
    fields = RecordFields(paths.lease, record)
    if record.get("version") != VERSION or isinstance(record["version"], bool):
        raise fields.wrong("version", str(VERSION))
    pool, purpose, controller = (
        fields.text(key) if fields.has(key) else None for key in ("pool", "purpose", "controller")
    )
    since, renewed, expires = (_time(fields, key) for key in ("since", "renewed", "expires"))
    return Lease(pool, fields.text("run"), fields.text("owner"), purpose, controller, since, renewed, expires)


def _time(fields: RecordFields, key: str) -> str:
    text = fields.text(key)
    try:
        # Times are compared as text, so each must have the one form.
        if _moment(text).strftime(_FORMAT) == text:
            return text
    except ValueError:
        pass
    raise fields.wrong(key, "a time such as 2026-01-31T12:00:00Z")


def hold(paths: HostPaths, claim: Claim) -> Lease:
    """Take or renew the lease under the lock of the state directory; return the one that then is on the host."""
    files.make_directory(paths.state)
    with files.locked(paths.state):
        found = read(paths)
        after = take(found, claim, utc_now())
        _put(paths, found, after)
    return after


def give_up(paths: HostPaths, run: str) -> Optional[Lease]:
    """Remove the lease of a run under the same lock; return the one that then is on the host."""
    if read(paths) is None:
        return None
    with files.locked(paths.state):
        found = read(paths)
        after = release(found, run)
        _put(paths, found, after)
    return after


def _put(paths: HostPaths, found: Optional[Lease], after: Optional[Lease]) -> None:
    if after == found:
        return
    if after is None:
        files.remove(paths.lease)
    else:
        files.write_record(paths.lease, after.to_data())
    there = read(paths)
    if there != after:
        raise FleetError(
            f"{paths.lease} does not hold what was just written; find out which other program writes there.",
            code="not_applied",
            wanted=None if after is None else after.to_data(),
            found=None if there is None else there.to_data(),
        )
