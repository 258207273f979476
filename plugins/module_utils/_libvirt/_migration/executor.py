# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""All moves of one host: checked before anything moves, a few at a time, one executor per host."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ..._errors import FleetError
from ..._host import files
from ..._host.journal import Journal
from ..._migration import POLICIES, Waiting, startable
from ..api import libvirt, translated
from ..domains import find
from .attempt import Options
from .destination import local_address
from .move import Move, move_from_dict
from .outlook import Outlook
from .passage import Passage
from .preflight import require_migratable
from .progress import RUN_DIRECTORY, Progress
from .sides import Peers, Sides, connected, migration_job
from .watch import POLL_S, Watch, is_broken

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
    with only_executor(options.wait_timeout), connected() as peers:
        settle(peers, options)
        if not moves:
            await_arrivals(peers, options)
        moves, expected = _ready(peers, moves, options)
        return _carry_out(peers, moves, options, expected)


def _carry_out(
    peers: Peers, moves: Sequence[Move], options: Options, expected: Mapping[str, Dict[str, Any]]
) -> List[Dict[str, Any]]:
    waiting = [_waiting(peers, number, move, options) for number, move in enumerate(moves)]
    sending: Dict[int, Waiting] = {}
    under_way: Dict[int, Future[Dict[str, Any]]] = {}
    results: Dict[int, Dict[str, Any]] = {}
    # The numbers of moves that have sent nearly all, each with its result once it has ended.
    news: SimpleQueue[Tuple[int, Optional[Future[Dict[str, Any]]]]] = SimpleQueue()
    progress = Progress({moves[entry.number].vm: entry.size_kib for entry in waiting})
    # What has been sent is looked after while the next one is made ready, or the link would be idle meanwhile.
    workers = 2 * options.limits.source
    try:
        with ThreadPoolExecutor(max_workers=workers) as pool:
            while waiting or under_way:
                following = startable(waiting, tuple(sending.values()), options.limits)
                if following is not None and len(under_way) < workers:
                    waiting.remove(following)
                    number = following.number
                    sending[number] = following
                    passage = _passage(peers, moves[number], options, progress, expected)
                    passage.through = partial(news.put, (number, None))
                    under_way[number] = pool.submit(passage.run)
                    under_way[number].add_done_callback(partial(_tell, news, number))
                    continue
                number, ended = news.get()
                sending.pop(number, None)
                if ended is not None:
                    results[number] = under_way.pop(number).result()
    finally:
        progress.end()
    return [results[number] for number in range(len(moves))]


def _tell(
    news: SimpleQueue[Tuple[int, Optional[Future[Dict[str, Any]]]]], number: int, ended: Future[Dict[str, Any]]
) -> None:
    news.put((number, ended))


def _waiting(peers: Peers, number: int, move: Move, options: Options) -> Waiting:
    """Return a move as the queue sees it; its link is the address of this host from which the memory is sent."""
    with translated(f"Reading the memory of VM {move.vm}"):
        size_kib = Sides(peers, options.source_uri, move).of_source(_size_kib, 0)
    return Waiting(number, move.destination, local_address(move), size_kib)


def _size_kib(domain: Any) -> int:
    return int(domain.maxMemory())


def plan_moves(moves: Sequence[Move], options: Options) -> List[Dict[str, Any]]:
    """Return what ``run_moves`` would do, after the same checks, without touching anything."""
    with connected() as peers:
        moves, expected = _ready(peers, moves, options)
        return [
            Passage(Sides(peers, options.source_uri, move), options, forecast=expected.get(move.vm)).plan()
            for move in moves
        ]


def _ready(peers: Peers, moves: Sequence[Move], options: Options) -> Tuple[List[Move], Mapping[str, Dict[str, Any]]]:
    """Return the moves with the UUIDs of their VMs, all that were begun if none is given, and forecasts if asked for.

    QEMU watches how fast the VMs write while it is found out whether they can move.
    """
    if not options.begins:
        begun = [move_from_dict(entry.move) for entry in Journal().entries()]
        return identified(peers, moves or begun, options), {}
    found = identified(peers, moves, options)
    outlook = Outlook(peers, found, options) if options.forecasts else None
    require_migratable(peers, found, options)
    return found, outlook.forecasts() if outlook else {}


def _passage(
    peers: Peers, move: Move, options: Options, progress: Progress, expected: Mapping[str, Dict[str, Any]]
) -> Passage:
    def report(news: Mapping[str, Any]) -> None:
        progress.update(move.vm, move.destination, news)

    return Passage(Sides(peers, options.source_uri, move), options, report, expected.get(move.vm))


def identified(peers: Peers, moves: Sequence[Move], options: Options) -> List[Move]:
    """Return the moves with the UUIDs of their VMs: two hosts may each have a VM of the same name."""
    source = peers.get(options.source_uri)
    # One that has left can be found by what was written down when it did.
    begun = {str(entry.move["vm"]): entry.uuid for entry in Journal().entries()}
    found = []
    for move in moves:
        domain = find(source, move.key)
        known = begun.get(move.vm) if domain is None else domain.UUIDString()
        found.append(replace(move, uuid=move.uuid or known))
    return found


def settle(peers: Peers, options: Options) -> None:
    """Wait for migrations that leave this host already, whoever began them; cancel one that takes too long.

    Only those of the collection are helped to converge: others have their own settings.
    """
    for domain in _leaving(peers.get(options.source_uri)):
        move = Move(vm=domain.name(), uuid=domain.UUIDString(), destination="", uri=options.source_uri)
        sides = Sides(peers, options.source_uri, move)
        if is_broken(domain):
            # Only the same migration, asked for again, can go on with it.
            continue
        ours = Journal().find(domain.UUIDString()) is not None
        watch = Watch(sides, options if ours else replace(options, schedule=POLICIES["legacy"]), lambda _news: None)
        watch.follow()
        if watch.cancelled:
            raise FleetError(
                f"A migration of VM {move.vm} that was under way on {options.host} did not end in time and was "
                f"cancelled (wait_timeout is {options.wait_timeout} seconds); the VM is still here. Run this again.",
                watch.cancelled,
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
