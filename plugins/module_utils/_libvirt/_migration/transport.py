# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""How the memory of a VM is sent: what libvirt is asked for, and which wishes exclude each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, Optional, Tuple

from ..._domain import Domain
from ..._errors import FleetError
from ..._migration import Schedule
from ..._topology import parse_cpuset
from ..api import libvirt

# What QEMU can compress with: one stream with xbzrle, several with the others.
ONE_STREAM, SEVERAL_STREAMS = ("xbzrle",), ("zlib", "zstd")
COMPRESSIONS = (*ONE_STREAM, *SEVERAL_STREAMS)


@dataclass(frozen=True)
class Transport:
    """The way of the memory. Bandwidths in MiB/s for one VM; ``None`` leaves it to libvirt.

    ``tls`` encrypts QEMU's stream; ``tunnelled`` sends it through libvirt's own connection instead.
    """

    bandwidth_mib_s: Optional[int] = None
    post_copy_bandwidth_mib_s: Optional[int] = None
    parallel_connections: int = 1
    compression: Optional[str] = None
    tls: bool = False
    tunnelled: bool = False


def require_possible(transport: Transport, schedule: Schedule, copy_storage: bool = False) -> None:
    """Raise ``bad_input`` for wishes that libvirt or QEMU cannot fulfil together."""
    for one, other in _excluded(transport, schedule, copy_storage):
        raise FleetError(f"{one} is not possible with {other}. Leave out one of them.", "bad_input")


def _excluded(transport: Transport, schedule: Schedule, copy_storage: bool) -> Iterator[Tuple[str, str]]:
    parallel, post_copy = transport.parallel_connections > 1, schedule.uses_post_copy
    compression = f"compression: {transport.compression}"
    if transport.tunnelled and transport.tls:
        yield "tunnelled", "tls"
    if transport.tunnelled and parallel:
        yield "tunnelled", "parallel_connections"
    if transport.tunnelled and post_copy:
        yield "tunnelled", "a schedule with post_copy"
    if transport.tunnelled and copy_storage:
        yield "tunnelled", "copy_storage"
    if parallel and post_copy:
        yield "parallel_connections", "a schedule with post_copy"
    if parallel and transport.compression in ONE_STREAM:
        yield compression, "parallel_connections"
    if not parallel and transport.compression in SEVERAL_STREAMS:
        yield compression, "one connection"


def connections(transport: Transport, vm: Domain) -> int:
    """Return over how many connections a VM's memory is sent: no more than its emulator threads have CPUs.

    The threads that send would otherwise take the time of the vCPUs with which they share them.
    """
    emulator = vm.pinning.emulator
    return min(transport.parallel_connections, len(parse_cpuset(emulator)) if emulator else 255)


def flags(transport: Transport, schedule: Schedule, streams: int) -> int:
    """Return libvirt's flags for the way and for what the schedule needs from the start."""
    found = {
        libvirt.VIR_MIGRATE_AUTO_CONVERGE: schedule.auto_converge,
        libvirt.VIR_MIGRATE_POSTCOPY: schedule.uses_post_copy,
        libvirt.VIR_MIGRATE_TLS: transport.tls,
        libvirt.VIR_MIGRATE_TUNNELLED: transport.tunnelled,
        libvirt.VIR_MIGRATE_PARALLEL: streams > 1,
        libvirt.VIR_MIGRATE_COMPRESSED: _compression(transport, streams) is not None,
    }
    return sum(int(flag) for flag, wanted in found.items() if wanted)


def params(transport: Transport, streams: int) -> Dict[str, Any]:
    """Return libvirt's typed parameters for the way."""
    found = {
        libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: transport.bandwidth_mib_s,
        libvirt.VIR_MIGRATE_PARAM_BANDWIDTH_POSTCOPY: transport.post_copy_bandwidth_mib_s,
        libvirt.VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS: streams if streams > 1 else None,
        libvirt.VIR_MIGRATE_PARAM_COMPRESSION: _compression(transport, streams),
    }
    return {name: value for name, value in found.items() if value is not None}


def _compression(transport: Transport, streams: int) -> Optional[str]:
    # A VM whose emulator threads allow one connection only goes without.
    several = transport.compression in SEVERAL_STREAMS
    return None if several and streams == 1 else transport.compression
