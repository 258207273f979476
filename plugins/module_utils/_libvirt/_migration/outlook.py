# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What is to be expected of the migrations of a call, from how fast the VMs write and how fast they can be sent."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any, Dict, List, Mapping, Optional, Sequence

from ..._host.links import link_mib_s
from ..._migration import forecast_move
from ..api import libvirt
from .attempt import Options
from .destination import route
from .move import Move
from .sides import Peers, Sides

# How long QEMU watches the pages of a VM, and how long it may take to say what it saw.
SAMPLE_S = 1
ANSWER_S = 5.0
POLL_S = 0.2

# enum virDomainDirtyRateStatus: not begun, under way, measured.
MEASURED = 2


def forecasts(peers: Peers, moves: Sequence[Move], options: Options) -> Dict[str, Dict[str, Any]]:
    """Return for each VM that runs here what to expect of its move, by name: a ``Forecast`` and what it rests on.

    Takes a second or two. ``dirty_mib_s`` and ``speed_mib_s`` are ``None`` where QEMU or the kernel do not know.
    """
    domains = {move.vm: Sides(peers, options.source_uri, move).source_domain() for move in moves}
    running = {vm: domain for vm, domain in domains.items() if domain is not None and domain.isActive()}
    rates = dirty_rates(peers.get(options.source_uri), list(running.values()))
    # Many VMs go to few hosts.
    links = {(move.uri, move.migrate_uri): move for move in moves if move.vm in running}
    speeds = {way: _speed(move, options, len(running)) for way, move in links.items()}
    found = {}
    for move in moves:
        if move.vm in running:
            domain = running[move.vm]
            dirty, speed = rates.get(domain.UUIDString()), speeds[(move.uri, move.migrate_uri)]
            forecast = forecast_move(move.vm, int(domain.maxMemory()), options.schedule, dirty, speed)
            found[move.vm] = {**asdict(forecast), "dirty_mib_s": dirty, "speed_mib_s": speed}
    return found


def _speed(move: Move, options: Options, vms: int) -> Optional[float]:
    """Return what one of so many VMs gets of the way to its destination, in MiB/s."""
    ends = route(move)
    link = link_mib_s(ends[1], options.run) if ends is not None and options.run is not None else None
    shared = None if link is None else link / min(vms, options.limits.source)
    known = [speed for speed in (shared, options.transport.bandwidth_mib_s) if speed]
    return round(min(known), 1) if known else None


def dirty_rates(conn: Any, domains: Sequence[Any]) -> Dict[str, float]:
    """Let QEMU measure how fast VMs write, all at once, and return MiB/s by UUID; needs libvirt 7.2."""
    started = [domain for domain in domains if _start(domain)]
    deadline = time.monotonic() + SAMPLE_S + ANSWER_S
    found: Dict[str, float] = {}
    while len(found) < len(started) and time.monotonic() < deadline:
        time.sleep(POLL_S)
        for domain, stats in _stats(conn, started):
            if stats.get("dirtyrate.calc_status") == MEASURED:
                found[domain.UUIDString()] = float(stats["dirtyrate.megabytes_per_second"])
    return found


def _start(domain: Any) -> bool:
    with suppress(libvirt.libvirtError, AttributeError):
        domain.startDirtyRateCalc(SAMPLE_S, 0)
        return True
    return False


def _stats(conn: Any, domains: List[Any]) -> Sequence[Any]:
    with suppress(libvirt.libvirtError):
        found: Sequence[Any] = conn.domainListGetStats(domains, libvirt.VIR_DOMAIN_STATS_DIRTYRATE, 0)
        return found
    return ()


def warnings(migrations: Sequence[Mapping[str, Any]]) -> List[str]:
    """Return what the forecasts of results warn of."""
    told = [entry["forecast"]["warning"] for entry in migrations if entry.get("forecast")]
    return [warning for warning in told if warning]
