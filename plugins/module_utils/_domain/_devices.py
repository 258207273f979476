# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The devices of a VM that decide where it can run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import FrozenSet, Iterator, Optional, Tuple

from .. import _xml

# What makes a disk more than the content of one image, and how to say so.
_PECULIAR = (
    ("backingStore[@type]", "a backing file"),
    ("encryption", "encryption by QEMU"),
    ("source/encryption", "encryption by QEMU"),
    ("source/slices", "a slice of an image"),
    ("source/dataStore", "a data file of its own"),
)


@dataclass(frozen=True)
class Disk:
    """A disk, CD-ROM or floppy. ``source`` is a path, or a pool's or network image's name; ``None`` for an empty drive.

    ``type`` is libvirt's (file, block, dir, network, volume, nvme, vhostuser, vhostvdpa). ``backing`` holds the files
    below the top of the image chain, as far as libvirt states them. ``optional`` is an image that may be missing when
    the VM arrives (``startupPolicy``). ``peculiar`` names what an image of the same size and format would not have.
    """

    target: str
    device: str
    type: str
    source: Optional[str] = None
    pool: Optional[str] = None
    backing: Tuple[str, ...] = ()
    read_only: bool = False
    shareable: bool = False
    transient: bool = False
    cache: Optional[str] = None
    format: Optional[str] = None
    optional: bool = False
    peculiar: Tuple[str, ...] = ()

    @property
    def storage(self) -> FrozenSet[str]:
        """Directories and storage pools a host needs for this disk; block devices are named themselves."""
        if self.source is None:
            return frozenset()
        if self.type == "volume":
            return frozenset({self.pool} if self.pool else ())
        if self.type in ("block", "dir"):
            return frozenset({self.source})
        if self.type != "file":
            return frozenset()
        return frozenset(_folder(path) for path in (self.source, *self.backing))


def _folder(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def disks_of(domain: _xml.Element) -> Tuple[Disk, ...]:
    """Return the disks of a parsed domain, in document order."""
    return tuple(_disk(disk) for disk in domain.iterfind("devices/disk"))


def _disk(disk: _xml.Element) -> Disk:
    return Disk(
        target=_xml.find_attribute(disk, "target", "dev") or "",
        device=disk.get("device", "disk"),
        type=disk.get("type", "file"),
        source=_source(disk),
        pool=_xml.find_attribute(disk, "source", "pool"),
        backing=tuple(_backing(disk)),
        read_only=disk.find("readonly") is not None,
        shareable=disk.find("shareable") is not None,
        transient=disk.find("transient") is not None,
        cache=_xml.find_attribute(disk, "driver", "cache"),
        format=_xml.find_attribute(disk, "driver", "type"),
        optional=_xml.find_attribute(disk, "source", "startupPolicy") in ("optional", "requisite"),
        peculiar=tuple(words for path, words in _PECULIAR if disk.find(path) is not None),
    )


def _source(disk: _xml.Element) -> Optional[str]:
    """Return the attribute that names the source; which one it is depends on the disk's type."""
    source = disk.find("source")
    if source is None:
        return None
    named = [source.get(name) for name in ("file", "dev", "dir", "volume", "name", "path", "namespace")]
    return next((name for name in named if name), None)


def _backing(disk: _xml.Element) -> Iterator[str]:
    for store in disk.iterfind(".//backingStore"):
        path = _source(store)
        if store.get("type") in ("file", "block") and path is not None:
            yield path


def networks_of(domain: _xml.Element) -> Tuple[str, ...]:
    """Return the bridges, libvirt networks and (for macvtap) host interfaces the VM is attached to, sorted.

    A running VM on a libvirt network also states that network's bridge; the network's name counts.
    """
    sources = (interface.find("source") for interface in domain.iterfind("devices/interface"))
    found = (
        source.get("network") or source.get("bridge") or source.get("dev") for source in sources if source is not None
    )
    return tuple(sorted({name for name in found if name}))


def libvirt_networks_of(domain: _xml.Element) -> Tuple[str, ...]:
    """Return the networks of libvirt the VM is attached to, sorted; a host needs them active."""
    sources = (interface.find("source") for interface in domain.iterfind("devices/interface[@type='network']"))
    names = (source.get("network") for source in sources if source is not None)
    return tuple(sorted({name for name in names if name}))


def hostdevs_of(domain: _xml.Element) -> Tuple[str, ...]:
    """Return the kinds of host devices assigned to the VM (pci, usb, mdev, scsi, …), in document order."""
    devices = tuple(device.get("type", device.get("mode", "")) for device in domain.iterfind("devices/hostdev"))
    return devices + tuple("pci" for _interface in domain.iterfind("devices/interface[@type='hostdev']"))
