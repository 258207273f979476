# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which disks of a running VM travel with it, and which keep it from moving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Mapping, Optional, Sequence, Tuple

from .._domain import Disk

# What can be made at the destination so that the VM finds there what it had.
FORMATS = ("raw", "qcow2")


@dataclass(frozen=True)
class Place:
    """The file in which a disk lies at its source; ``shared`` if the destination sees the same one. Sizes in bytes."""

    path: str
    shared: bool
    capacity: int = 0
    allocation: int = 0


@dataclass(frozen=True)
class Copy:
    """A disk that travels. ``pool`` is the storage pool that the VM's definition names, ``None`` for a path.

    ``capacity`` is what the VM sees of it, ``allocation`` what its file takes; both in bytes.
    """

    target: str
    path: str
    name: str
    pool: Optional[str]
    format: str
    capacity: int
    allocation: int


@dataclass(frozen=True)
class Medium:
    """An image that the VM only reads and that the destination has to have already."""

    target: str
    path: str
    name: str
    pool: Optional[str]


@dataclass(frozen=True)
class Cargo:
    """The disks of a VM that are not on shared storage; ``refusals`` says why some can neither travel nor stay."""

    copies: Tuple[Copy, ...] = ()
    media: Tuple[Medium, ...] = ()
    refusals: Tuple[str, ...] = ()

    @property
    def targets(self) -> Tuple[str, ...]:
        """The disks that travel, by their names in the VM."""
        return tuple(copy.target for copy in self.copies)


def cargo_of(disks: Sequence[Disk], places: Mapping[str, Place]) -> Cargo:
    """Return what has to travel; ``places`` has the disks that are files, by target.

    Block devices are not among them: libvirt takes them for shared, and nothing on one host shows whether it is right.
    """
    copies: List[Copy] = []
    media: List[Medium] = []
    refusals: List[str] = []
    for disk in disks:
        place = places.get(disk.target)
        if place is None or place.shared:
            continue
        why = _refusal(disk)
        if disk.read_only and not disk.optional:
            media.append(Medium(disk.target, place.path, _name(disk, place), disk.pool))
        elif not disk.read_only and why is None:
            sizes = (place.capacity, place.allocation)
            copies.append(Copy(disk.target, place.path, _name(disk, place), disk.pool, str(disk.format), *sizes))
        elif not disk.read_only:
            refusals.append(f"its disk {disk.target} ({place.path}) cannot be copied: {why}")
    return Cargo(tuple(copies), tuple(media), tuple(refusals))


def _name(disk: Disk, place: Place) -> str:
    """Return the name that the file has as a volume of a storage pool."""
    return str(disk.source) if disk.pool else place.path.rpartition("/")[2]


def _refusal(disk: Disk) -> Optional[str]:
    """Return why a writable disk cannot be copied with the VM."""
    if disk.device != "disk":
        return f"only disks are, and this is a {disk.device}"
    if disk.shareable:
        return "it is shareable, so other VMs may write to it"
    if disk.peculiar:
        advice = "; merge it with `virsh blockpull`" if "a backing file" in disk.peculiar else ""
        return f"it has {' and '.join(dict.fromkeys(disk.peculiar))}{advice}"
    if disk.format not in FORMATS:
        return f"its format is {disk.format}, not {' or '.join(FORMATS)}"
    return None
