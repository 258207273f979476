# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What is to be expected of the migrations of a call, from how fast the VMs write and how fast they can be sent."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence

from ..._host.links import link_mib_s
from ..._migration import forecast_move
from ..api import libvirt
from .attempt import Options
from .destination import route
from .move import Move
from .sides import Peers, Sides

# A VM whose memory takes no longer than this is moved before anybody could have decided otherwise.
WORTH_S = 5.0
# How long QEMU watches the pages of a VM, and how long it may take to say what it saw.
SAMPLE_S = 1
ANSWER_S = 5.0
POLL_S = 0.2

# enum virDomainDirtyRateStatus: not begun, under way, measured.
MEASURED = 2


class _Running(NamedTuple):
    domain: Any
    size_kib: int


class Outlook:
    """What to expect of the moves of VMs that run here; QEMU watches their pages from the moment this is made."""

    def __init__(self, peers: Peers, moves: Sequence[Move], options: Options) -> None:
        self._moves, self._options = moves, options
        self._conn = peers.get(options.source_uri)
        found = {move.vm: Sides(peers, options.source_uri, move).of_source(_running, None) for move in moves}
        self._running = {vm: running for vm, running in found.items() if running is not None}
        # Many VMs go to few hosts.
        links = {(move.uri, move.migrate_uri): move for move in moves if move.vm in self._running}
        self._speeds = {way: _speed(move, options, len(self._running)) for way, move in links.items()}
        worth_it = [self._running[move.vm].domain for move in moves if self._is_worth_it(move)]
        self._watched = [domain for domain in worth_it if _start(domain)]

    def _is_worth_it(self, move: Move) -> bool:
        if move.vm not in self._running:
            return False
        speed = self._speeds[(move.uri, move.migrate_uri)]
        return speed is None or self._running[move.vm].size_kib / 1024 / speed > WORTH_S

    def forecasts(self) -> Dict[str, Dict[str, Any]]:
        """Return for each VM what to expect of its move, by name: a ``Forecast`` and what it rests on.

        ``dirty_mib_s`` and ``speed_mib_s`` are ``None`` where QEMU or the kernel do not know; the first also for VMs
        that are moved in no time.
        """
        rates = dirty_rates(self._conn, self._watched)
        found = {}
        for move in self._moves:
            if move.vm in self._running:
                domain, size_kib = self._running[move.vm]
                dirty, speed = rates.get(domain.UUIDString()), self._speeds[(move.uri, move.migrate_uri)]
                forecast = forecast_move(move.vm, size_kib, self._options.schedule, dirty, speed)
                found[move.vm] = {**asdict(forecast), "dirty_mib_s": dirty, "speed_mib_s": speed}
        return found


def _running(domain: Any) -> Optional[_Running]:
    return _Running(domain, int(domain.maxMemory())) if domain.isActive() else None


def _speed(move: Move, options: Options, vms: int) -> Optional[float]:
    """Return what one of so many VMs gets of the way to its destination, in MiB/s."""
    ends = route(move)
    link = link_mib_s(ends[1], options.run) if ends is not None and options.run is not None else None
    shared = None if link is None else link / min(vms, options.limits.source)
    known = [speed for speed in (shared, options.transport.bandwidth_mib_s) if speed]
    return round(min(known), 1) if known else None


def dirty_rates(conn: Any, domains: List[Any]) -> Dict[str, float]:
    """Return how fast VMs write in MiB/s by UUID, once QEMU has measured it."""
    deadline = time.monotonic() + SAMPLE_S + ANSWER_S
    found: Dict[str, float] = {}
    while True:
        for domain, stats in _stats(conn, domains):
            if stats.get("dirtyrate.calc_status") == MEASURED:
                found[domain.UUIDString()] = float(stats["dirtyrate.megabytes_per_second"])
        if len(found) == len(domains) or time.monotonic() > deadline:
            return found
        time.sleep(POLL_S)


def _start(domain: Any) -> bool:
    """Let QEMU watch a VM; needs libvirt 7.2."""
    with suppress(libvirt.libvirtError, AttributeError):
        domain.startDirtyRateCalc(SAMPLE_S, 0)
        return True
    return False


def _stats(conn: Any, domains: List[Any]) -> Sequence[Any]:
    # Without any, libvirt would tell of all.
    if not domains:
        return ()
    with suppress(libvirt.libvirtError):
        found: Sequence[Any] = conn.domainListGetStats(domains, libvirt.VIR_DOMAIN_STATS_DIRTYRATE, 0)
        return found
    return ()


def warnings(migrations: Sequence[Mapping[str, Any]]) -> List[str]:
    """Return what the forecasts of results warn of."""
    told = [entry["forecast"]["warning"] for entry in migrations if entry.get("forecast")]
    return [warning for warning in told if warning]
