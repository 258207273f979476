# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""All moves of one host: checked before anything moves, a few at a time, one executor per host."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator, List, Sequence, Tuple

from ..._domain import migration_blockers
from ..._errors import FleetError
from ..._host import files
from ..._host.machine import on_shared_storage
from ..api import libvirt, translated
from ..domains import find, live_xml
from .attempt import POLL_S, Options, follow
from .move import Move
from .passage import Passage
from .progress import RUN_DIRECTORY, Progress
from .sides import Peers, Sides, migration_job

# A libvirt daemon gives up on a silent sender after five keepalive answers that do not come, five seconds apart
# (keepalive_interval and keepalive_count in libvirtd.conf and virtqemud.conf), and then ends the copy.
CLEARING_S = 60.0


@contextmanager
def only_executor(wait_s: float) -> Iterator[None]:
    """Be the only executor of migrations on this host; another one, left by a killed controller, is waited for."""
    files.make_directory(RUN_DIRECTORY, mode=0o700)
    with files.locked(RUN_DIRECTORY, wait_s):
        yield


def run_moves(moves: Sequence[Move], options: Options) -> List[Dict[str, Any]]:
    """Carry out all moves and return a result for each, in their order; none raises for another's failure.

    Raises before anything moved if a VM cannot be migrated at all (``blocked``), and ``timeout`` if another executor
    keeps this host longer than the migrations of this one may take.
    """
    with only_executor(options.wait_timeout), _peers() as peers:
        settle(peers, options)
        if not moves:
            await_arrivals(peers, options)
        moves = identified(peers, moves, options)
        require_migratable(peers, moves, options)
        return _carry_out(peers, moves, options)


def _carry_out(peers: Peers, moves: Sequence[Move], options: Options) -> List[Dict[str, Any]]:
    progress = Progress()
    try:
        with ThreadPoolExecutor(max_workers=options.concurrency) as pool:
            return list(pool.map(lambda move: _passage(peers, move, options, progress).run(), moves))
    finally:
        progress.end()


def plan_moves(moves: Sequence[Move], options: Options) -> List[Dict[str, Any]]:
    """Return what ``run_moves`` would do, after the same checks, without touching anything."""
    with _peers() as peers:
        moves = identified(peers, moves, options)
        require_migratable(peers, moves, options)
        return [Passage(Sides(peers, options.source_uri, move), options).plan() for move in moves]


@contextmanager
def _peers() -> Iterator[Peers]:
    peers = Peers()
    try:
        with translated("Working with the hypervisors"):
            yield peers
    finally:
        peers.close()


def _passage(peers: Peers, move: Move, options: Options, progress: Progress) -> Passage:
    sides = Sides(peers, options.source_uri, move)
    return Passage(sides, options, lambda news: progress.update(move.vm, move.destination, news))


def identified(peers: Peers, moves: Sequence[Move], options: Options) -> List[Move]:
    """Return the moves with the UUIDs of their VMs: two hosts may each have a VM of the same name."""
    source = peers.get(options.source_uri)
    found = []
    for move in moves:
        domain = find(source, move.key)
        found.append(move if domain is None else replace(move, uuid=domain.UUIDString()))
    return found


def settle(peers: Peers, options: Options) -> None:
    """Wait for migrations that leave this host already, whoever began them; cancel one that takes too long."""
    for domain in _leaving(peers.get(options.source_uri)):
        move = Move(vm=domain.name(), uuid=domain.UUIDString(), destination="", uri=options.source_uri)
        sides = Sides(peers, options.source_uri, move)
        if follow(sides, None, options, lambda _news: None):
            raise FleetError(
                f"A migration of VM {move.vm} that was under way on {options.host} did not end within "
                f"{options.wait_timeout} seconds and was cancelled; the VM is still here. Run this again.",
                "timeout",
            )


def await_arrivals(peers: Peers, options: Options) -> None:
    """Wait until no VM is arriving on this host any more, ``CLEARING_S`` seconds at most.

    It is for the source's executor to wait for one that is on its way. One whose source went silent is not: until
    libvirt has cleared it away, a snapshot would show a second domain of a VM that runs elsewhere.
    """
    deadline = time.monotonic() + CLEARING_S
    while _arriving(peers.get(options.source_uri)) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _leaving(conn: Any) -> List[Any]:
    return [domain for domain, job in _jobs(conn) if job]


def _arriving(conn: Any) -> List[Any]:
    # An incoming migration has no statistics at its destination.
    return [domain for domain, job in _jobs(conn) if job == {}]


def _jobs(conn: Any) -> List[Tuple[Any, Any]]:
    with translated("Listing the VMs of this host"):
        active = conn.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        return [(domain, migration_job(domain)) for domain in active]


@dataclass(frozen=True)
class Blocked:
    """A VM that libvirt would refuse to migrate, with its words."""

    vm: str
    reasons: Tuple[str, ...]


def require_migratable(peers: Peers, moves: Sequence[Move], options: Options) -> None:
    """Raise ``blocked`` naming every VM that libvirt would refuse, before any of them has moved."""
    blocked = []
    for move in moves:
        domain = Sides(peers, options.source_uri, move).source_domain()
        reasons = blockers_of(domain) if domain is not None and domain.isActive() else ()
        if reasons:
            blocked.append(Blocked(move.vm, reasons))
    if blocked:
        text = "; ".join(f"{entry.vm}: {', '.join(entry.reasons)}" for entry in blocked)
        raise FleetError(
            f"Nothing was migrated from {options.host}, for libvirt would refuse {text}. "
            "Remove the cause, or shut these VMs down.",
            "blocked",
            blocked=[{"vm": entry.vm, "blockers": list(entry.reasons)} for entry in blocked],
        )


def blockers_of(domain: Any) -> Tuple[str, ...]:
    """Return why libvirt would refuse to migrate a running VM."""
    with translated(f"Reading the snapshots of VM {domain.name()}"):
        snapshots = domain.snapshotNum(0)
    return migration_blockers(live_xml(domain), snapshots=snapshots, shared_path=on_shared_storage)
