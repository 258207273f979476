# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What a destination says when it is asked whether it can take a VM.

libvirt tells others of its CPU, machine types, networks and storage pools, and who has the VM's name there. What it
cannot tell, such as a path or a bridge, it refuses later; the VM then runs on where it is.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import Any, Callable, Dict, Hashable, Iterator, Optional, Set, Tuple
from urllib.parse import urlsplit

from ..._domain import Domain
from ..._errors import FleetError
from ..._migration import Obstacle
from ..api import libvirt
from ..compare import judge
from ..connection import REACH_TIMEOUT_S, remote_endpoint
from ..domains import find
from ..host import host_uuid
from .move import Move
from .sides import Sides

# Where libvirt lets QEMU listen unless qemu.conf says otherwise (migration_port_min).
FIRST_PORT = 49152

_Check = Callable[[Any, Sides, Domain], Iterator[Obstacle]]

# A host that answers "nobody listens" can be reached; a firewall that rejects in the same way cannot be told from it.
_ANSWERS = (0, errno.ECONNREFUSED)


def require_destination(sides: Sides) -> Tuple[str, str]:
    """Return the libvirt host UUIDs of both ends after the destination proved to be the host it should be.

    Raises ``wrong_host``, ``same_host``, or what keeps it from answering.
    """
    here, there = host_uuid(sides.source()), host_uuid(sides.destination())
    move = sides.move
    if move.destination_uuid and there != move.destination_uuid:
        raise FleetError(
            f"{move.uri} leads to host {there}, but {move.destination} is {move.destination_uuid}; "
            "correct its address.",
            "wrong_host",
        )
    if here == there:
        raise FleetError(
            f"{move.destination} ({move.uri}) has the same libvirt host UUID {here} as the host that is to send; "
            "name another host, or give each its own host_uuid in libvirtd.conf.",
            "same_host",
        )
    return here, there


def unreached(sides: Sides) -> Optional[Obstacle]:
    """Return why nothing can be sent to the destination: its libvirt or its migration port cannot be reached."""
    try:
        require_destination(sides)
    except FleetError as error:
        return Obstacle(error.code, f"{sides.move.destination}: {error.msg.rstrip('.')}")
    return migration_port(sides.move)


def migration_port(move: Move) -> Optional[Obstacle]:
    """Return why memory cannot be sent to the destination, as far as an attempt to connect shows it."""
    address = memory_address(move)
    return None if address is None else _closed(move, address, "memory")


def disks_port(move: Move) -> Optional[Obstacle]:
    """Return why disks cannot be sent: a port for memory that was given is not theirs, libvirt chooses one."""
    address = memory_address(move)
    if address is None or address[1] == FIRST_PORT:
        return None
    return _closed(move, (address[0], FIRST_PORT), "disks")


def _closed(move: Move, address: Tuple[str, int], what: str) -> Optional[Obstacle]:
    host, port = address
    try:
        with socket.create_connection((host, port), REACH_TIMEOUT_S):
            return None
    except OSError as error:
        # A timeout has no number; a name that cannot be resolved has one of its own.
        if not isinstance(error, socket.gaierror) and error.errno in _ANSWERS:
            return None
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        return Obstacle(
            "port_blocked",
            f"{move.destination} cannot be sent {what} at {host} port {port} ({why}); open the migration ports "
            "(49152 to 49215 unless qemu.conf has others) between the hypervisors",
        )


def local_address(move: Move) -> Optional[str]:
    """Return the address of this host from which a VM's memory would be sent, as the kernel's routes say now."""
    ends = route(move)
    return None if ends is None else ends[0]


def route(move: Move) -> Optional[Tuple[str, str]]:
    """Return the IP addresses of this host and of the other between which memory would flow."""
    target = memory_address(move)
    if target is None:
        return None
    with suppress(OSError):
        family, kind, _protocol, _name, address = socket.getaddrinfo(*target, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            # Nothing is sent: a datagram socket only learns its route.
            probe.connect(address)
            return str(probe.getsockname()[0]), str(address[0])
    return None


def memory_address(move: Move) -> Optional[Tuple[str, int]]:
    """Return host and first port to which memory is sent; ``None`` where the URIs do not say."""
    if move.migrate_uri:
        parts = urlsplit(move.migrate_uri)
        return (parts.hostname, parts.port or FIRST_PORT) if parts.hostname else None
    endpoint = remote_endpoint(move.uri)
    return (endpoint[0], FIRST_PORT) if endpoint is not None else None


def _name(conn: Any, sides: Sides, vm: Domain) -> Iterator[Obstacle]:
    host, by_name, by_uuid = sides.move.destination, find(conn, vm.name), find(conn, vm.uuid)
    if by_name is not None and by_name.UUIDString() != vm.uuid:
        yield Obstacle("name_taken", f"{host} has another VM of that name ({by_name.UUIDString()})")
    if by_uuid is not None and by_uuid.name() != vm.name:
        yield Obstacle("name_taken", f"{host} knows the VM {vm.uuid} by another name, {by_uuid.name()}")


def _machine_type(conn: Any, sides: Sides, vm: Domain) -> Iterator[Obstacle]:
    try:
        conn.getDomainCapabilities(None, vm.arch, vm.machine, vm.virt_type, 0)
    except libvirt.libvirtError as error:
        yield Obstacle("machine_type_missing", f"{sides.move.destination}: {error.get_error_message()}")


def _cpu(conn: Any, sides: Sides, vm: Domain) -> Iterator[Obstacle]:
    # What host-passthrough gives, only the host itself knows; libvirt does not check it either.
    if vm.cpu_xml is None or vm.cpu_mode != "custom":
        return
    found = judge(conn, vm.cpu_xml).comparison
    if found.result == "incompatible":
        lacks = f" (it lacks {', '.join(found.missing)})" if found.missing else ""
        yield Obstacle("cpu_incompatible", f"{sides.move.destination} cannot give the VM its CPU{lacks}")


def _networks(conn: Any, sides: Sides, vm: Domain) -> Iterator[Obstacle]:
    known = _active_networks(conn) if vm.libvirt_networks else None
    for name in vm.libvirt_networks:
        if known is not None and name not in known:
            yield Obstacle("network_missing", f"{sides.move.destination} has no active libvirt network {name}")


def _active_networks(conn: Any) -> Optional[Set[str]]:
    try:
        return {network.name() for network in conn.listAllNetworks(libvirt.VIR_CONNECT_LIST_NETWORKS_ACTIVE)}
    except libvirt.libvirtError:
        # A host without the network driver cannot be asked; libvirt will refuse there.
        return None


def _storage(conn: Any, sides: Sides, vm: Domain) -> Iterator[Obstacle]:
    for disk in vm.disks:
        if disk.type != "volume" or not disk.pool or not disk.source:
            continue
        try:
            conn.storagePoolLookupByName(disk.pool).storageVolLookupByName(disk.source)
        except libvirt.libvirtError as error:
            yield Obstacle("storage_missing", f"{sides.move.destination}: {error.get_error_message()} ({disk.target})")


# Each check with what of a VM it looks at: VMs that are alike in that get one answer.
_CHECKS: Tuple[Tuple[_Check, Callable[[Domain], Hashable]], ...] = (
    (_name, lambda vm: (vm.name, vm.uuid)),
    (_machine_type, lambda vm: (vm.arch, vm.machine, vm.virt_type)),
    (_cpu, lambda vm: (vm.cpu_mode, vm.cpu_xml)),
    (_networks, lambda vm: vm.libvirt_networks),
    (_storage, lambda vm: vm.disks),
)


class Objections:
    """What reachable destinations have against VMs; what they have said of one is not asked for another like it."""

    def __init__(self) -> None:
        self._known: Dict[Hashable, Tuple[Obstacle, ...]] = {}

    def to(self, sides: Sides, vm: Domain) -> Tuple[Obstacle, ...]:
        """Return what the destination has against a VM, given as it runs; may raise ``libvirtError``."""
        return tuple(found for check, of in _CHECKS for found in self._said(check, of(vm), sides, vm))

    def _said(self, check: _Check, of: Hashable, sides: Sides, vm: Domain) -> Tuple[Obstacle, ...]:
        key = (sides.move.uri, check, of)
        if key not in self._known:
            self._known[key] = tuple(check(sides.destination(), sides, vm))
        return self._known[key]
