# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of the demo: the table, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.lab import Verdict

from .scene import Guest, Sight

HEAD = ("GUEST", "BEFORE", "WENT TO", "NOW", "DOWNTIME OUT", "DOWNTIME BACK", "MEMORY CHECKS", "TICKS", "VERDICT")
Migration = Mapping[str, Any]


def table(
    guests: Sequence[Guest],
    before: Mapping[str, Sight],
    after: Mapping[str, Sight],
    verdicts: Mapping[str, Verdict],
    migrations: Sequence[Migration],
) -> list[str]:
    """Return a line for each guest under a line of titles."""
    rows = [HEAD]
    for guest in guests:
        name, verdict = guest.name, verdicts[guest.name]
        out, back = _leg(migrations, guest, "source"), _leg(migrations, guest, "destination")
        rows.append(
            (
                f"{name} ({guest.kind})" if guest.kind else name,
                ",".join(before[name].running),
                out["destination"] if out else "-",
                ",".join(after[name].running),
                f"{out['downtime_ms']} ms" if out else "-",
                f"{back['downtime_ms']} ms" if back else "-",
                f"{verdict.memory_ok} ok, {verdict.memory_corrupt} bad",
                f"{verdict.ticks}, {verdict.gaps + verdict.repeats} lost",
                "intact" if verdict.intact else "DAMAGED",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _leg(migrations: Sequence[Migration], guest: Guest, end: str) -> Migration | None:
    """Return the migration of a guest whose ``end`` is its home."""
    moved = [leg for leg in migrations if leg["vm"] == guest.name and leg["outcome"] == "moved"]
    found = [leg for leg in moved if leg[end] == guest.home]
    return found[0] if found else None


def faults(
    guests: Sequence[Guest],
    before: Mapping[str, Sight],
    after: Mapping[str, Sight],
    verdicts: Mapping[str, Verdict],
    migrations: Sequence[Migration],
) -> list[str]:
    """Return everything that is not as promised, in words."""
    return [
        f"{guest.name}: {text}"
        for guest in guests
        for text in _faults(guest, before[guest.name], after[guest.name], verdicts[guest.name], migrations)
    ]


def _faults(
    guest: Guest, before: Sight, after: Sight, verdict: Verdict, migrations: Sequence[Migration]
) -> Iterator[str]:
    if not verdict.intact:
        yield f"is not intact: {verdict}"
    if after.running != (guest.home,):
        yield f"runs on {', '.join(after.running) or 'no host'} and not on {guest.home} alone"
    if after.hosts != (guest.home,):
        yield f"is found on {', '.join(after.hosts) or 'no host'}"
    if after.kept != before.kept:
        yield f"came home with {after.kept} and not with {before.kept}"
    legs = sum(migration["vm"] == guest.name for migration in migrations)
    if legs != 2:
        yield f"was migrated {legs} times and not twice, away and home"
