# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The record of a host's CPU pool: its value, and the file that ``setup`` shows as ``ansible_local.kvm_fleet_pool``.

The file must not be executable: Ansible runs executable facts, and JSON that does not run breaks the whole ``setup``.
The record holds no times, so writing it twice changes nothing.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .._cpu import PoolCpu
from .._errors import FleetError
from . import files
from .cpuid import Component, as_lists
from .paths import HostPaths
from .record_fields import RecordFields, bad_field, is_whole

VERSION = 1
POOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True)
class Member:
    """A host of a pool: its name in the inventory, and libvirt's host UUID, which is its identity."""

    name: str
    uuid: str

    def to_data(self) -> Dict[str, str]:
        """Return the JSON object."""
        return {"name": self.name, "uuid": self.uuid}


@dataclass(frozen=True)
class Tsc:
    """The time stamp counter of the host; ``scaling`` says whether a guest can have another frequency."""

    frequency_hz: int
    scaling: Optional[bool] = None

    def to_data(self) -> Dict[str, Any]:
        """Return the JSON object."""
        return {"frequency_hz": self.frequency_hz, "scaling": self.scaling}


@dataclass(frozen=True)
class Proven:
    """What the host was when the pool's CPU was proven on it; drift is measured against it.

    ``features`` are all that the hypervisor could give to a guest. ``xsave`` is as in ``cpuid.read_xsave``.
    """

    versions: Mapping[str, str]
    virt_type: str
    features: Tuple[str, ...]
    address_bits: Optional[int] = None
    xsave: Optional[Tuple[Component, ...]] = None
    tsc: Optional[Tsc] = None

    def to_data(self) -> Dict[str, Any]:
        """Return the JSON object."""
        return {
            "versions": dict(sorted(self.versions.items())),
            "virt_type": self.virt_type,
            "features": sorted(self.features),
            "address_bits": self.address_bits,
            "xsave": as_lists(self.xsave),
            "tsc": None if self.tsc is None else self.tsc.to_data(),
        }


@dataclass(frozen=True)
class PoolRecord:
    """Which pool a host is in, with which CPU, and with whom.

    ``definition`` is what the CPU comes from: ``basic``, ``baseline``, or the name of a tier or default pool.
    ``generation`` grows with every change of the pool and is the same on all members. ``features`` are what a guest
    with the pool's CPU sees, as QEMU gave it in the proof. ``host`` is this host.
    """

    pool: str
    vendor: str
    definition: str
    generation: int
    members: Tuple[Member, ...]
    cpu: PoolCpu
    features: Tuple[str, ...]
    host: Member
    proven: Proven

    def to_data(self) -> Dict[str, Any]:
        """Return the JSON object of the file."""
        cpu = self.cpu
        return {
            "version": VERSION,
            "pool": self.pool,
            "vendor": self.vendor,
            "definition": self.definition,
            "generation": self.generation,
            "members": [member.to_data() for member in sorted(self.members, key=lambda member: member.uuid)],
            "cpu": {**cpu.as_data(), "xml": cpu.xml(), "features": sorted(self.features)},
            "host": self.host.to_data(),
            "proven": self.proven.to_data(),
        }


def read(paths: Optional[HostPaths] = None) -> Optional[PoolRecord]:
    """Return this host's record, None if it is in no pool.

    Raises ``bad_record`` with ``path`` and ``field`` for a file that cannot be used, and ``record_version`` for one
    of a newer release.
    """
    found = (paths or HostPaths()).pool_record
    data = read_data(found)
    return None if data is None else from_data(data, found)


def read_data(path: Path) -> Optional[Dict[str, Any]]:
    """Return the JSON object in the file as it is, None if there is no file; raises as ``read`` does."""
    data = files.read_record(path)
    if data is None:
        return None
    if os.access(path, os.X_OK):
        raise files.bad_record(path, f"it is executable, so Ansible would run it (chmod 0644 {path} mends that)")
    from_data(data, path)
    return data


def write(paths: HostPaths, record: PoolRecord) -> None:
    """Write the record, and create its directory where there is none."""
    files.make_directory(paths.pool_record.parent.parent)
    files.make_directory(paths.pool_record.parent)
    files.write_record(paths.pool_record, record.to_data())


def remove(paths: HostPaths) -> None:
    """Remove the record; a missing one is fine."""
    files.remove(paths.pool_record)


def from_data(data: Mapping[str, Any], path: Path) -> PoolRecord:
    """Return the record in a JSON object; ``path`` is for messages. Keys that nobody reads are ignored."""
    _require_version(data, path)
    fields = RecordFields(path, data)
    proven, cpu = fields.child("proven"), fields.child("cpu")
    pool = fields.text("pool")
    if not POOL_NAME.fullmatch(pool):
        raise fields.wrong("pool", "the name of a pool")
    return PoolRecord(
        pool=pool,
        vendor=fields.text("vendor"),
        definition=fields.text("definition"),
        generation=fields.whole("generation"),
        members=tuple(_member(child) for child in fields.children("members")),
        cpu=_cpu(cpu),
        features=cpu.texts("features"),
        host=_member(fields.child("host")),
        proven=_proven(proven),
    )


def _require_version(data: Mapping[str, Any], path: Path) -> None:
    version = data.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or version < VERSION:
        raise RecordFields(path, data).wrong("version", str(VERSION))
    if version > VERSION:
        raise FleetError(
            f"{path} has version {version}, and this release of the collection knows version {VERSION}. A newer "
            "release manages this host's CPU pool: use that one here too.",
            code="record_version",
            path=str(path),
            version=version,
        )


def _cpu(fields: RecordFields) -> PoolCpu:
    lists = {key: fields.texts(key) for key in ("require", "disable")}
    try:
        return PoolCpu.from_data({**fields.data, **lists})
    except FleetError as error:
        cause = f"its field {fields.where} is no CPU of a pool ({error.msg})"
        raise bad_field(fields.path, fields.where, cause) from error


def _proven(fields: RecordFields) -> Proven:
    versions = fields.child("versions")
    return Proven(
        versions={key: versions.text(key) for key in versions.data},
        virt_type=fields.text("virt_type"),
        features=fields.texts("features"),
        address_bits=fields.whole("address_bits") if fields.has("address_bits") else None,
        xsave=_xsave(fields) if fields.has("xsave") else None,
        tsc=_tsc(fields.child("tsc")) if fields.has("tsc") else None,
    )


def _member(fields: RecordFields) -> Member:
    return Member(fields.text("name"), fields.text("uuid"))


def _xsave(fields: RecordFields) -> Tuple[Component, ...]:
    found: List[Component] = []
    for item in fields.items("xsave"):
        if not isinstance(item, list) or len(item) != 3 or not all(is_whole(number) for number in item):
            raise fields.wrong("xsave", "a list of component, size and offset each")
        found.append((item[0], item[1], item[2]))
    return tuple(found)


def _tsc(fields: RecordFields) -> Tsc:
    scaling = fields.data.get("scaling")
    if scaling is not None and not isinstance(scaling, bool):
        raise fields.wrong("scaling", "true, false or null")
    return Tsc(fields.whole("frequency_hz"), scaling)
