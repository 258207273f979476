# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Where the disks that travel with VMs go at their destination, and what there is against it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Collection, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from .cargo import Cargo, Copy, Medium
from .obstacle import Obstacle

# The kinds of storage pools whose volumes are files in a directory.
DIRECTORIES = ("dir", "fs", "netfs")


@dataclass(frozen=True)
class Held:
    """A volume that a destination has: what it takes, in bytes, and what it is, in words."""

    allocation: int
    words: str


@dataclass(frozen=True)
class Pool:
    """A storage pool of a destination, with the bytes that are left of it. ``held`` has its volumes by name."""

    name: str
    kind: str
    active: bool
    directory: str
    available: int = 0
    held: Optional[Mapping[str, Held]] = None


@dataclass(frozen=True)
class Volume:
    """What is to be made for a disk at the destination, and the file at the source of which it is a copy.

    ``capacity`` is what the VM sees of it, ``allocation`` what it takes of the room that is left; both in bytes.
    """

    target: str
    pool: str
    name: str
    path: str
    format: str
    capacity: int
    allocation: int
    source: str


@dataclass(frozen=True)
class Stowed:
    """What is made at the destination for one VM, and what stands against it."""

    volumes: Tuple[Volume, ...] = ()
    obstacles: Tuple[Obstacle, ...] = ()


def stow(cargo: Cargo, host: str, pools: Sequence[Pool], ours: Collection[Tuple[str, str]] = ()) -> Stowed:
    """Return where the disks of a VM go on ``host``.

    ``ours`` names pool and volume of what an earlier try of this migration has made there: no obstacle, for it is made
    anew.
    """
    volumes: List[Volume] = []
    obstacles = [Obstacle("blocked", reason) for reason in cargo.refusals]
    for copy in cargo.copies:
        pool, missing = _pool_for(copy, host, pools)
        if pool is None:
            obstacles.append(Obstacle("storage_missing", f"{missing}, which its disk {copy.target} needs"))
            continue
        path = f"{pool.directory.rstrip('/')}/{copy.name}"
        held = (pool.held or {}).get(copy.name)
        if held is not None and (pool.name, copy.name) not in ours:
            obstacles.append(taken(host, pool.name, copy.name, path, held.words))
        # What an earlier try has made goes before it is made anew.
        sizes = (copy.capacity, max(0, copy.allocation - (held.allocation if held else 0)))
        volumes.append(Volume(copy.target, pool.name, copy.name, path, copy.format, *sizes, copy.path))
    obstacles += [missing for medium in cargo.media for missing in _lacking(medium, host, pools)]
    return Stowed(tuple(volumes), tuple(obstacles))


def taken(host: str, pool: str, name: str, path: str, held: str) -> Obstacle:
    """Return the obstacle that a destination has a volume of that name; ``held`` says what it is."""
    return Obstacle(
        "storage_taken",
        f"{host} has a {path} already ({held}), which may be what a VM left there when it moved away; nothing is "
        f"overwritten: if nobody needs it, remove it there with `virsh vol-delete {name} --pool {pool}`",
    )


def shortages(wanted: Mapping[str, Sequence[Volume]], host: str, pools: Sequence[Pool]) -> Dict[str, List[Obstacle]]:
    """Return by VM what does not find room on ``host``, where all copies of a call have to find it together."""
    found: Dict[str, List[Obstacle]] = {}
    for pool in pools:
        needs = {vm: sum(entry.allocation for entry in made if entry.pool == pool.name) for vm, made in wanted.items()}
        needs = {vm: need for vm, need in needs.items() if need}
        if sum(needs.values()) <= pool.available:
            continue
        each = ", ".join(f"{vm} {mib(need)}" for vm, need in needs.items())
        text = (
            f"the storage pool {pool.name} of {host} has {mib(pool.available)} left, and the copies of the disks that "
            f"go there need {mib(sum(needs.values()))} ({each})"
        )
        for vm in needs:
            found.setdefault(vm, []).append(Obstacle("storage_full", text))
    return found


def doubles(wanted: Mapping[str, Sequence[Volume]], host: str) -> Dict[str, List[Obstacle]]:
    """Return by VM which copies of a call would be the same file on ``host``."""
    takers: Dict[str, List[str]] = {}
    for vm, volumes in wanted.items():
        for volume in volumes:
            takers.setdefault(volume.path, []).append(vm)
    found: Dict[str, List[Obstacle]] = {}
    for path, vms in takers.items():
        for vm in vms if len(vms) > 1 else ():
            text = f"{path} on {host} cannot be the disk of {' and of '.join(dict.fromkeys(vms))}"
            found.setdefault(vm, []).append(Obstacle("storage_taken", text))
    return found


def mib(size: int) -> str:
    """Return a size in bytes as a person reads it."""
    return f"{round(size / 1048576, 1):g} MiB"


def _pool_for(wanted: Union[Copy, Medium], host: str, pools: Sequence[Pool]) -> Tuple[Optional[Pool], str]:
    """Return the pool that has or takes a file, or ``None`` and what is missing."""
    if wanted.pool:
        fitting = [pool for pool in pools if pool.name == wanted.pool]
        what = f"storage pool {wanted.pool}"
    else:
        directory = wanted.path.rpartition("/")[0] or "/"
        fitting = [pool for pool in pools if pool.directory.rstrip("/") == directory.rstrip("/")]
        what = f"storage pool for the directory {directory}"
    fitting = [pool for pool in fitting if pool.kind in DIRECTORIES]
    active = [pool for pool in fitting if pool.active]
    if active:
        return active[0], ""
    if fitting:
        return None, f"{host} has not started its storage pool {fitting[0].name}"
    return None, f"{host} has no {what} that keeps its volumes in a directory"


def _lacking(medium: Medium, host: str, pools: Sequence[Pool]) -> List[Obstacle]:
    pool, missing = _pool_for(medium, host, pools)
    if pool is not None and medium.name in (pool.held or {}):
        return []
    why = missing if pool is None else f"its storage pool {pool.name} does not have it"
    return [
        Obstacle(
            "storage_missing",
            f"its {medium.target} ({medium.path}) is only read, so it is not copied, and nothing shows that {host} has "
            f"it: {why}; put it there, eject it, or make it optional (startupPolicy)",
        )
    ]
