# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What a pool is, by the records of its members.

A generation is what one run wrote to all members. The records are the only store, so a run that was cut off leaves some
members with an older generation; nothing here depends on the order in which they were written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Dict, List, Mapping, Optional, Tuple

from .model import Content, Fleet, Host, Record


@dataclass(frozen=True)
class Standing:
    """A pool as it stands.

    ``basis`` is what the pool is, or what an unfinished run wanted it to be. ``complete`` says whether all its members
    that were seen hold it or have passed it, ``torn`` that records of one generation disagree about the CPU or, while
    it is unfinished, about anything. ``highest`` is the highest generation on record, ``holders`` are the hosts whose
    record names the pool, by name.
    """

    pool: str
    basis: Optional[Record] = None
    complete: bool = True
    torn: bool = False
    highest: int = 0
    holders: Tuple[Host, ...] = ()

    @property
    def content(self) -> Optional[Content]:
        """What the members hold in common."""
        return self.basis.content if self.basis else None

    def is_member(self, host: Host) -> bool:
        """Whether a host is a member: by its own record, and by the pool's."""
        return host.pool == self.pool and self.content is not None and host.uuid in self.content.uuids

    @property
    def members(self) -> Tuple[Host, ...]:
        """The members that were seen, by name."""
        return tuple(host for host in self.holders if self.is_member(host))


def standings(fleet: Fleet) -> Dict[str, Standing]:
    """Return every pool that a record names."""
    names = sorted({host.pool for host in fleet.hosts.values() if host.pool is not None})
    return {name: standing(name, fleet) for name in names}


def standing(pool: str, fleet: Fleet) -> Standing:
    """Return a pool as its records say; one that no record names has no basis.

    The highest generation that all its members hold or have passed is the pool. A single higher one that is unfinished
    is what the pool is about to become.
    """
    holders = tuple(host for host in fleet.hosts.values() if host.pool == pool)
    versions = _versions(holders)
    if not versions:
        return Standing(pool)
    highest = versions[0].generation
    complete = [record for record in versions if _is_complete(record, fleet.seen)]
    going_on = [record for record in versions if not complete or _goes_on(record, complete[0])]
    top = [record for record in going_on if record.generation == going_on[0].generation]
    finished = [record for record in complete if record.generation == top[0].generation]
    if finished and len({_terms(record) for record in finished}) == 1:
        # Of two pools that were founded apart with one CPU, the smaller one joins the other.
        return Standing(pool, finished[0], True, False, highest, holders)
    if len(top) == 1:
        return Standing(pool, top[0], False, False, highest, holders)
    return Standing(pool, complete[0] if complete else top[0], False, True, highest, holders)


def _terms(record: Record) -> Content:
    """Return what a record says of its pool besides who is in it."""
    return replace(record.content, members=())


def _goes_on(record: Record, complete: Record) -> bool:
    """Whether a record is about the pool that is ``complete``.

    A host may come back with a higher generation of a pool of this name that is no more; then it knows none of the
    members.
    """
    return record.generation <= complete.generation or bool(record.content.uuids & complete.content.uuids)


def _versions(holders: Tuple[Host, ...]) -> List[Record]:
    """Return one record of each different content, the highest generation first, then the one with most members."""
    found: List[Record] = []
    for record in (host.record for host in holders if host.record):
        if not any(record.generation == other.generation and record.content == other.content for other in found):
            found.append(record)
    return sorted(found, key=_rank)


def _rank(record: Record) -> Tuple[int, int, str, str]:
    content = record.content
    uuids = ",".join(member.uuid for member in content.members)
    return (-record.generation, -len(content.members), uuids, content.cpu.digest())


def _is_complete(record: Record, seen: Mapping[str, Host]) -> bool:
    """Whether every member that was seen holds this content, or a later generation of the pool."""
    hosts = [seen[member.uuid] for member in record.content.members if member.uuid in seen]
    return all(host.record_error is not None or _has_reached(host.record, record) for host in hosts)


def _has_reached(own: Optional[Record], record: Record) -> bool:
    if own is None or own.pool != record.pool:
        return False
    return own.generation > record.generation or (own.generation, own.content) == (record.generation, record.content)
