# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The fleet snapshot, read as far as pools need it.

Its shape is that of ``docs/fleet-snapshot.md``; keys that nobody reads are ignored.
"""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from .._cpu import PoolCpu
from .._errors import FleetError
from .._placement.fields import Fields
from .._placement.model import INACTIVE_STATES
from .model import Content, Fleet, Host, Member, Record, Traits, Tsc, Vm, Xsave

VERSION = 1

# What records of a pool have in common is large, and mostly the same on all its members. So it is read once and shared,
# and comparing it ends at its identity. By pool: each different one as it was given, and as a value.
Contents = Dict[str, List[Tuple[Mapping[str, Any], Content]]]


def load(data: Any) -> Fleet:
    """Return the fleet in a snapshot (JSON).

    Raises ``FleetError``: ``bad_snapshot`` with ``object`` and ``field``, ``unsupported_version``, ``duplicate_host``
    for two hosts of one name or UUID.
    """
    fields = Fields(data, "snapshot")
    version = fields.whole("version")
    if version not in (None, VERSION):
        raise FleetError(
            f"The snapshot has version {version}, but this release reads version {VERSION}."
            " Collect it with the same release of the collection.",
            code="unsupported_version",
            version=version,
        )
    cpus = fields.child("cpus") or Fields({}, "cpus")
    hosts: Dict[str, Host] = {}
    uuids: Dict[str, Host] = {}
    contents: Contents = {}
    for item in fields.children("hosts"):
        host = _host(_named(item, "host"), cpus, contents)
        _refuse_twin(host, hosts.get(host.name) or uuids.get(host.uuid))
        hosts[host.name] = uuids[host.uuid] = host
    vms: Dict[str, List[Vm]] = {}
    for item in fields.children("vms"):
        vm = _vm(_named(item, "vm"), cpus)
        vms.setdefault(vm.host, []).append(vm)
    ordered = {name: tuple(sorted(group, key=lambda vm: vm.name)) for name, group in sorted(vms.items())}
    return Fleet(dict(sorted(hosts.items())), ordered)


def _refuse_twin(host: Host, other: Optional[Host]) -> None:
    if other is not None:
        raise FleetError(
            f"Hosts {other.name} and {host.name} have one name or one libvirt UUID ({host.uuid}), as cloned"
            " machines do. Remove one from the snapshot, or give one another host_uuid in libvirtd.conf.",
            code="duplicate_host",
            hosts=[other.name, host.name],
            uuid=host.uuid,
        )


def _named(item: Fields, kind: str) -> Fields:
    return Fields(item.data, f"{kind} {item.required_text('name')}", item.code)


def _cpu(fields: Fields, cpus: Fields) -> Fields:
    """Return the CPU that a host or VM names; an empty one where it names none."""
    cpu_id = fields.text("cpu")
    if cpu_id is None:
        return Fields({}, fields.where)
    if cpu_id not in cpus.data:
        raise fields.wrong("cpu", "the id of an entry in the snapshot's cpus")
    return Fields(cpus.data[cpu_id], f"cpu {cpu_id}")


def _host(fields: Fields, cpus: Fields, contents: Contents) -> Host:
    cpu = _cpu(fields, cpus)
    name = fields.required_text("name")
    error = fields.child("cpu_pool_error")
    record = fields.child("cpu_pool")
    return Host(
        name=name,
        uuid=fields.text("uuid") or name,
        vendor=cpu.text("vendor"),
        cpu_xml=cpu.text("xml"),
        traits=_traits(fields, cpu),
        machine_types=texts(fields, "machine_types"),
        presets=texts(fields, "cpu_presets"),
        record=None if record is None else read_record(record, name, contents),
        record_error=None if error is None else (error.required_text("code"), error.required_text("msg")),
    )


def _traits(fields: Fields, cpu: Fields) -> Traits:
    """Return the traits of a host; ``cpu`` has its features and address width."""
    versions = fields.child("versions") or Fields({}, fields.where)
    return Traits(
        versions={key: versions.required_text(key) for key in sorted(versions.data)},
        virt_type=fields.text("virt_type"),
        features=texts(cpu, "features"),
        address_bits=cpu.whole("address_bits", "bits"),
        xsave=_xsave(fields),
        tsc=_tsc(fields.child("tsc")),
    )


def texts(fields: Fields, key: str) -> Optional[FrozenSet[str]]:
    """Return a list of texts as a set."""
    found = fields.texts(key)
    return None if found is None else frozenset(found)


def _xsave(fields: Fields) -> Optional[Xsave]:
    value = fields.data.get("xsave")
    if value is None:
        return None
    if not isinstance(value, (list, tuple)) or not all(_is_component(item) for item in value):
        raise fields.wrong("xsave", "a list of [component, size, offset]")
    return tuple((item[0], item[1], item[2]) for item in value)


def _is_component(item: Any) -> bool:
    numbers: Sequence[Any] = item if isinstance(item, (list, tuple)) else ()
    return len(numbers) == 3 and all(isinstance(part, int) and not isinstance(part, bool) for part in numbers)


def _tsc(fields: Optional[Fields]) -> Optional[Tsc]:
    frequency = fields.whole("frequency_hz", "Hz") if fields else None
    return Tsc(frequency, fields.flag("scaling")) if fields and frequency else None


def _vm(fields: Fields, cpus: Fields) -> Vm:
    persistent = fields.flag("persistent")
    cpu = _cpu(fields, cpus)
    return Vm(
        name=fields.required_text("name"),
        host=fields.required_text("host"),
        uuid=fields.text("uuid"),
        active=(fields.text("state") or "running") not in INACTIVE_STATES,
        persistent=True if persistent is None else persistent,
        features=texts(cpu, "features"),
        machine_type=fields.text("machine_type"),
        address_bits=cpu.whole("address_bits", "bits"),
        saved=bool(fields.flag("saved")),
    )


def read_record(item: Fields, host: str, contents: Contents) -> Record:
    """Return the record of a host; the file has been checked on the host, so an error here is one of the snapshot."""
    fields = Fields(item.data, f"host {host}: cpu_pool", item.code)
    generation = fields.whole("generation")
    if not generation:
        raise fields.wrong("generation", "a whole number from 1")
    proven = _required(fields, "proven")
    pool = fields.required_text("pool")
    return Record(
        pool=pool,
        generation=generation,
        content=_shared(fields, contents.setdefault(pool, [])),
        host=_member(_required(fields, "host")),
        proven=_traits(proven, proven),
    )


def _shared(fields: Fields, known: List[Tuple[Mapping[str, Any], Content]]) -> Content:
    given = {key: fields.data.get(key) for key in ("vendor", "definition", "members", "cpu")}
    for other, content in known:
        if given == other:
            return content
    known.append((given, _content(fields)))
    return known[-1][1]


def _content(fields: Fields) -> Content:
    members = tuple(sorted((_member(item) for item in fields.children("members")), key=lambda member: member.uuid))
    cpu = _required(fields, "cpu")
    return Content(
        vendor=fields.required_text("vendor"),
        definition=fields.required_text("definition"),
        members=members,
        cpu=read_cpu(cpu),
        features=texts(cpu, "features") or frozenset(),
    )


def read_cpu(fields: Fields) -> PoolCpu:
    """Return the CPU in a mapping; other keys than the CPU's own are ignored."""
    names: Tuple[str, ...] = ("model", "vendor", "require", "disable", "address_bits")
    try:
        return PoolCpu.from_data({name: fields.data.get(name) for name in names})
    except FleetError as error:
        raise FleetError(f"{fields.where}: {error.msg}", code=fields.code, object=fields.where) from error


def _member(fields: Fields) -> Member:
    return Member(fields.required_text("name"), fields.required_text("uuid"))


def _required(fields: Fields, key: str) -> Fields:
    child = fields.child(key)
    if child is None:
        raise fields.wrong(key, "a mapping")
    return child
