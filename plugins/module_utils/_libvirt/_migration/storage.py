# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The files in which the disks of VMs are, at both ends of a move, as libvirt's storage pools tell of them."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone
from typing import Any, Iterator, List, Optional, Sequence, Tuple, Union

from ... import _xml
from ..._domain import Disk, Domain, parse_domain
from ..._host.machine import on_shared_storage
from ..._migration import DIRECTORIES, Cargo, Copy, Held, Medium, Place, Pool, Volume, cargo_of, mib
from ..api import is_error, libvirt

# What the image of a volume takes that nothing was written to, by format: QEMU's tables, in bytes.
_EMPTY = {"raw": 0, "qcow2": 262144}


def cargo_on(conn: Any, domain: Any, vm: Domain) -> Cargo:
    """Return which disks of a running VM are on this host only."""
    places = {disk.target: _place(conn, domain, disk) for disk in vm.disks}
    return cargo_of(vm.disks, {target: place for target, place in places.items() if place is not None})


def _place(conn: Any, domain: Any, disk: Disk) -> Optional[Place]:
    path = disk.source if disk.type == "file" else _volume_path(conn, disk)
    if path is None:
        return None
    shared = on_shared_storage(path)
    if shared or disk.read_only:
        return Place(path, shared)
    capacity, allocation, _physical = domain.blockInfo(disk.target)
    return Place(path, shared, int(capacity), int(allocation))


def _volume_path(conn: Any, disk: Disk) -> Optional[str]:
    """Return the file of a disk that is a volume of a storage pool, ``None`` if it is no file."""
    if disk.type != "volume" or not disk.pool or not disk.source:
        return None
    with suppress(libvirt.libvirtError):
        pool = conn.storagePoolLookupByName(disk.pool)
        if _describe(pool).kind in DIRECTORIES:
            return str(pool.storageVolLookupByName(disk.source).path())
    # What cannot be asked is left to libvirt, which refuses it if it is not shared.
    return None


def read_pools(conn: Any, cargo: Cargo, refresh: bool = False) -> Tuple[Pool, ...]:
    """Return the storage pools of a destination, with what they hold of the names in ``cargo``.

    libvirt knows of files that others made only after a ``refresh``, which reads them and changes nothing.
    """
    wanted: List[Union[Copy, Medium]] = [*cargo.copies, *cargo.media]
    return tuple(_filled(conn, pool, wanted, refresh) for pool in conn.listAllStoragePools(0))


def _describe(pool: Any) -> Pool:
    root = _xml.parse_as(pool.XMLDesc(0), "pool")
    directory = _xml.find_text(root, "target/path") or ""
    return Pool(str(pool.name()), root.get("type", ""), bool(pool.isActive()), directory)


def _filled(conn: Any, pool: Any, wanted: Sequence[Union[Copy, Medium]], refresh: bool) -> Pool:
    found = _describe(pool)
    if not found.active or found.kind not in DIRECTORIES:
        return found
    places = [entry for entry in wanted if found.name == entry.pool or (not entry.pool and _is_in(entry.path, found))]
    if not places:
        return found
    if refresh:
        # Refused while a volume is being made there, which is none of ours yet.
        with suppress(libvirt.libvirtError):
            pool.refresh(0)
    held = {entry.name: _held(conn, found, pool, entry.name) for entry in places}
    known = {name: value for name, value in held.items() if value is not None}
    return Pool(found.name, found.kind, True, found.directory, int(pool.info()[3]), known)


def _is_in(path: str, pool: Pool) -> bool:
    return (path.rpartition("/")[0] or "/").rstrip("/") == pool.directory.rstrip("/")


def _held(conn: Any, found: Pool, pool: Any, name: str) -> Optional[Held]:
    volume = volume_of(pool, name)
    if volume is None:
        return None
    root, allocation = _xml.parse_as(volume.XMLDesc(0), "volume"), int(volume.info()[2])
    written = float(_xml.find_text(root, "target/timestamps/mtime") or 0)
    when = datetime.fromtimestamp(written, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    names = sorted(vm.name for vm in users(conn, found.name, name, str(volume.path())))
    whose = f"used by VM {', '.join(names)}" if names else "used by no VM there"
    return Held(allocation, f"{mib(allocation)}, last written {when}, {whose}")


def volume_of(pool: Any, name: str) -> Any:
    """Return a volume by name, ``None`` if the pool does not know it."""
    try:
        return pool.storageVolLookupByName(name)
    except libvirt.libvirtError as error:
        if is_error(error, "VIR_ERR_NO_STORAGE_VOL"):
            return None
        raise


def pool_of(conn: Any, name: str) -> Any:
    """Return a storage pool by name, ``None`` if the host has none."""
    try:
        return conn.storagePoolLookupByName(name)
    except libvirt.libvirtError as error:
        if is_error(error, "VIR_ERR_NO_STORAGE_POOL"):
            return None
        raise


def users(conn: Any, pool: str, name: str, path: str) -> Iterator[Domain]:
    """Yield the VMs of a host, running or off, with a disk that is this volume or rests on it."""
    for domain in conn.listAllDomains(0):
        states = [parse_domain(xml) for xml in _definitions(domain)]
        if any(_uses(disk, pool, name, path) for state in states for disk in state.disks):
            yield states[0]


def _definitions(domain: Any) -> List[str]:
    try:
        return [str(domain.XMLDesc(flags)) for flags in _flags(domain)]
    except libvirt.libvirtError as error:
        if is_error(error, "VIR_ERR_NO_DOMAIN"):
            return []
        raise


def _flags(domain: Any) -> List[int]:
    return [0] + ([libvirt.VIR_DOMAIN_XML_INACTIVE] if domain.isActive() and domain.isPersistent() else [])


def _uses(disk: Disk, pool: str, name: str, path: str) -> bool:
    return (disk.pool, disk.source) == (pool, name) or path in (disk.source, *disk.backing)


def volume_xml(volume: Volume) -> str:
    """Return the definition of a volume of which nothing is allocated yet."""
    root = _xml.new("volume")
    sizes = (("name", volume.name, None), ("capacity", volume.capacity, "bytes"), ("allocation", 0, "bytes"))
    for tag, text, unit in sizes:
        root.append(_xml.new(tag, str(text), unit=unit))
    target = _xml.new("target")
    target.append(_xml.new("format", type=volume.format))
    if volume.format == "qcow2":
        # Without it libvirt makes an image of the kind of 2008.
        target.append(_xml.new("compat", "1.1"))
    permissions = _xml.new("permissions")
    permissions.append(_xml.new("mode", "0600"))
    target.append(permissions)
    root.append(target)
    return str(_xml.serialise(root))


def is_empty(volume: Any) -> bool:
    """Tell whether nothing was ever written to a volume."""
    kind = _xml.find_attribute(_xml.parse_as(volume.XMLDesc(0), "volume"), "target/format", "type")
    return int(volume.info()[2]) <= _EMPTY.get(str(kind), -1)
