# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Whether a run has its pools, from what ``pool_lease`` said on each host.

Every host that could be asked must have granted its lease, and those hosts must be more than half of the pool, or the
half with the first member by name. Two runs that each have enough have a host in common, which grants to one of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# How long a run keeps the hosts that it was granted while another, which began at the same moment, gives back others,
# and how long after its beginning a lease can be one of such a run.
COLLISION_S = 60.0
# Another run then has given back, or waits no more.
LOOK_AGAIN_S = 10
SHOWN = 5

Answer = Mapping[str, Any]


@dataclass(frozen=True)
class Terms:
    """What is asked for: for how long to wait, and whether half of a pool must be there. ``now`` is in seconds."""

    now: float
    wait_s: float = 0.0
    majority: bool = True


@dataclass(frozen=True)
class Course:
    """What came before in the same attempt: ``kept_since`` is when the run began to insist on what it was granted.

    ``established`` says that it had the pool before the attempt, so others that begin now stand back.
    """

    begun: float
    established: bool
    kept_since: float | None = None


def verdict(
    answers: Mapping[str, Answer], asked: Sequence[str], terms: Terms, previous: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what becomes of a run that had ``answers`` of the members; only those in ``asked`` are of this round.

    ``state`` is ``held``; ``waiting`` if it is to ask again after up to ``wait_s`` seconds at the host ``wait_at``; or
    ``stopped``. ``give_back`` says that it must not keep what it was granted meanwhile.
    """
    fresh = {host: answers[host] for host in asked if "granted" in answers[host]}
    granted = sorted(host for host, answer in fresh.items() if answer["granted"])
    refused = sorted(host for host, answer in fresh.items() if answer["granted"] is False)
    course = _course(previous, terms, [fresh[host] for host in granted])
    failed = [host for host in asked if host not in fresh and not answers[host].get("unreachable")]
    lacking = list(_lacking(answers, fresh, granted)) if terms.majority else []
    silent = sorted(host for host in answers if host not in fresh)
    found = {"hosts": granted, "silent": silent, "pools": sorted({_pool(fresh[host]) for host in granted})}
    if failed:
        return {**found, **_stopped(course, " ".join(str(answers[host].get("msg")) for host in failed[:SHOWN]))}
    if refused:
        return {**found, **_refused(fresh, granted, refused, terms, course)}
    if not fresh or lacking:
        return {**found, **_stopped(course, " ".join(lacking) or _nobody(silent))}
    return {**found, "state": "held", "give_back": False, "message": "", **_told(course)}


def _course(previous: Mapping[str, Any] | None, terms: Terms, granted: Sequence[Answer]) -> Course:
    if previous:
        return Course(previous["begun"], previous["established"], previous["kept_since"])
    return Course(terms.now, any(answer.get("renewed") for answer in granted))


def _told(course: Course) -> dict[str, Any]:
    return {"begun": course.begun, "established": course.established, "kept_since": course.kept_since}


def _stopped(course: Course, message: str) -> dict[str, Any]:
    return {"state": "stopped", "give_back": True, "message": message, **_told(course)}


def _refused(
    fresh: Mapping[str, Answer], granted: Sequence[str], refused: Sequence[str], terms: Terms, course: Course
) -> dict[str, Any]:
    holders = {host: fresh[host]["holder"] for host in refused}
    told = {"wait_at": refused[0], "message": _in_use(holders)}
    kept_since = terms.now if course.kept_since is None else course.kept_since
    own = [fresh[host]["lease"]["run"] for host in granted]
    if own and _insists(own[0], list(holders.values()), course.established) and terms.now < kept_since + COLLISION_S:
        course = Course(course.begun, course.established, kept_since)
        return {**told, "state": "waiting", "give_back": False, "wait_s": LOOK_AGAIN_S, **_told(course)}
    course = Course(course.begun, established=False)
    left_s = course.begun + terms.wait_s - terms.now
    if left_s <= 0:
        return {**told, **_stopped(course, told["message"])}
    return {**told, "state": "waiting", "give_back": True, "wait_s": math.ceil(left_s), **_told(course)}


def _insists(own: str, holders: Sequence[Answer], established: bool) -> bool:
    """Return whether the other runs are to give back: of those that meet at their beginning the first by name stays."""
    return established or all(own < holder["run"] and holder["age_s"] < COLLISION_S for holder in holders)


def _lacking(answers: Mapping[str, Answer], fresh: Mapping[str, Answer], granted: Sequence[str]) -> Iterator[str]:
    """Yield a line for each pool of which too few members granted the lease."""
    meant = {host: answer for host, answer in fresh.items() if answer["granted"] is not None}
    of_record = {name: _pool(answer) for answer in fresh.values() for name in answer.get("members", ())}
    for pool in sorted({_pool(answer) for answer in meant.values()}):
        silent = [h for h, answer in answers.items() if h not in fresh and of_record.get(h, _pool(answer)) == pool]
        members = sorted([*silent, *(host for host, answer in meant.items() if _pool(answer) == pool)])
        have = [host for host in granted if host in members]
        if 2 * len(have) > len(members) or (2 * len(have) == len(members) and members[0] in have):
            continue
        yield (
            f"Of {_named(pool)} only {len(have)} of {len(members)} in this play could be asked for the lease, which is "
            f"not enough to keep other runs out; {_names(silent)} did not answer. Bring them back, or "
            "take them out of the inventory. If it is certain that nobody else works with the pool, set "
            "pool_lease_majority to false."
        )


def _nobody(silent: Sequence[str]) -> str:
    return f"No host could be asked for the lease of its pool; {_names(silent)} did not answer. Bring them back."


def _in_use(holders: Mapping[str, Answer]) -> str:
    """Return who has the hosts, and what can be done about it."""
    keys = {host: (_pool(holder), holder["run"]) for host, holder in holders.items()}
    uses = [[host for host in holders if keys[host] == key] for key in sorted({*keys.values()})]
    return " ".join(_one_use(hosts, holders) for hosts in uses)


def _one_use(hosts: Sequence[str], holders: Mapping[str, Answer]) -> str:
    holder = holders[hosts[0]]
    purpose = f" ({holder['purpose']})" if holder.get("purpose") else ""
    return (
        f"{holder['owner']}{purpose} has been at work on {_named(_pool(holder))} since {holder['since']}, as told by "
        f"{_names(hosts)}. The lease ends at {holder['expires']} unless it is renewed. Wait until that run has ended, "
        "or let this one wait with pool_lease_wait_s. If it is certain that it is dead, release its lease: ansible "
        f"{','.join(hosts) if len(hosts) <= SHOWN else 'all'} -b -m virtops.kvm_fleet.pool_lease "
        f"-a 'state=released run={holder['run']}'"
    )


def _pool(answer: Answer) -> str:
    return str(answer.get("pool") or "")


def _named(pool: str) -> str:
    return f"the hosts of pool {pool}" if pool else "the hosts without a pool"


def _names(hosts: Sequence[str]) -> str:
    shown = ", ".join(sorted(hosts)[:SHOWN])
    return shown if len(hosts) <= SHOWN else f"{shown} and {len(hosts) - SHOWN} more"
