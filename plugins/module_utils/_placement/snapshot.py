# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Fleet snapshots: JSON in, values out.

The shape is that of ``docs/planner.md``. Keys nobody reads are ignored, so that a newer collector can feed an older
planner.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, FrozenSet, Iterable, Mapping, Optional, Sequence, Tuple

from .._domain import Following, Pinning, PinningPolicy
from .._errors import FleetError
from .._pinning import Guest, guest_from_data
from .._topology import Cell, cells_from_data
from .fields import Fields
from .model import Cpu, Home, Host, Shape, Snapshot, Vm
from .same_uuid import check_hosts, one_per_uuid

VERSION = 1

MIGRATION_MODES = ("automatic", "manual", "pinned")


def merge(parts: Iterable[Any]) -> Dict[str, Any]:
    """Return one snapshot (JSON) from parts that each hold some hosts and their VMs.

    CPU ids are content hashes, so parts of different hosts may repeat them. Raises ``FleetError`` (``bad_snapshot``)
    for a part of an unknown version and for one id with two meanings.
    """
    merged: Dict[str, Any] = {"version": VERSION, "cpus": {}, "hosts": [], "vms": []}
    for part in parts:
        fields = Fields(part, "snapshot")
        _check_version(fields)
        for cpu_id, cpu in (part.get("cpus") or {}).items():
            known = merged["cpus"].setdefault(cpu_id, cpu)
            if known != cpu:
                raise FleetError(
                    f"The snapshot parts disagree about CPU {cpu_id}. Collect the fleet snapshot again on all hosts.",
                    code="bad_snapshot",
                    cpu=cpu_id,
                )
        merged["hosts"].extend(part.get("hosts") or [])
        merged["vms"].extend(part.get("vms") or [])
    return merged


def load(data: Any) -> Snapshot:
    """Return the snapshot in ``data`` (the JSON mapping of one file, or the result of ``merge``).

    Raises ``FleetError``: ``bad_snapshot`` with ``object`` and ``field`` for a wrong type or reference,
    ``duplicate_host`` for two hosts of one name or UUID, ``split_brain`` for a VM that runs on two hosts.
    """
    fields = Fields(data, "snapshot")
    _check_version(fields)
    cpus = _cpus(fields)
    hosts = sorted((_host(item, cpus) for item in fields.children("hosts")), key=lambda host: host.name)
    check_hosts(hosts)
    names = frozenset(host.name for host in hosts)
    seen = [_vm(item, cpus, names) for item in fields.children("vms")]
    vms, leftovers = one_per_uuid(seen)
    return Snapshot(tuple(hosts), tuple(vms), tuple(leftovers))


def _check_version(fields: Fields) -> None:
    version = fields.whole("version")
    if version not in (None, VERSION):
        raise FleetError(
            f"The snapshot has version {version}, but this release reads version {VERSION}."
            " Collect it with the same release of the collection.",
            code="unsupported_version",
            version=version,
        )


def _cpus(fields: Fields) -> Dict[str, Cpu]:
    group = fields.child("cpus")
    cpus: Dict[str, Cpu] = {}
    for cpu_id in group.data if group else ():
        item = Fields(group.data[cpu_id] if group else None, f"cpu {cpu_id}")
        features = item.texts("features")
        cpus[cpu_id] = Cpu(
            id=cpu_id,
            vendor=item.text("vendor"),
            model=item.text("model"),
            features=None if features is None else frozenset(features),
            address_bits=item.whole("address_bits"),
        )
    return cpus


def _cpu_of(fields: Fields, cpus: Mapping[str, Cpu]) -> Optional[Cpu]:
    cpu_id = fields.text("cpu")
    if cpu_id is None:
        return None
    if cpu_id not in cpus:
        raise fields.wrong("cpu", "the id of an entry in the snapshot's cpus")
    return cpus[cpu_id]


def _named(fields: Fields, kind: str) -> Fields:
    """Return the same fields under the object's name, which says more than its position in a list."""
    return Fields(fields.data, f"{kind} {fields.required_text('name')}", fields.code)


def _host(item: Fields, cpus: Mapping[str, Cpu]) -> Host:
    fields = _named(item, "host")
    reserved = fields.child("reserved") or Fields({}, fields.where)
    migration = fields.child("migration") or Fields({}, fields.where)
    threads_count = fields.flag("count_threads_as_cores")
    return Host(
        name=fields.required_text("name"),
        uuid=fields.text("uuid"),
        pool=fields.text("pool"),
        maintenance=fields.flag("maintenance") or False,
        cpu=_cpu_of(fields, cpus),
        shape=_shape(fields.child("topology")),
        cells=_cells(fields),
        memory_kib=fields.whole("memory_kib", "KiB"),
        reserved_memory_kib=reserved.whole("memory_kib", "KiB") or 0,
        reserved_cpus=reserved.cpuset("cpus") or frozenset(),
        isolated_cpus=fields.cpuset("isolated_cpus") or frozenset(),
        offline_cpus=fields.cpuset("offline_cpus") or frozenset(),
        machine_cpus=fields.cpuset("machine_cpus"),
        cpu_overcommit=fields.number("cpu_overcommit"),
        count_threads_as_cores=True if threads_count is None else threads_count,
        machine_types=_set(fields.texts("machine_types")),
        networks=_set(fields.texts("networks")),
        storage=_set(fields.texts("storage")),
        link_mib_s=fields.number("link_mib_s"),
        migration_uri=migration.text("uri"),
        migration_address=migration.text("address"),
        collected_s=fields.whole("collected_s", "seconds"),
    )


def _set(texts: Optional[Sequence[str]]) -> Optional[FrozenSet[str]]:
    return None if texts is None else frozenset(texts)


def _shape(fields: Optional[Fields]) -> Optional[Shape]:
    if fields is None:
        return None
    counts = {key: fields.whole(key) or 1 for key in ("sockets", "dies", "cores", "threads")}
    return Shape(**counts)


def _cells(fields: Fields) -> Optional[Tuple[Cell, ...]]:
    if fields.data.get("cells") is None:
        return None
    try:
        return cells_from_data(fields.data["cells"])
    except FleetError as error:
        raise FleetError(
            f"{fields.where}: {error.msg}", code=fields.code, object=fields.where, field="cells"
        ) from error


def _vm(item: Fields, cpus: Mapping[str, Cpu], hosts: FrozenSet[str]) -> Vm:
    fields = _named(item, "vm")
    host = fields.required_text("host")
    if host not in hosts:
        raise fields.wrong("host", "the name of a host in the snapshot")
    vcpus = fields.child("vcpus") or Fields({}, fields.where)
    policy = fields.child("policy") or Fields({}, fields.where)
    pinning = pinning_from(fields, "pinning") or Pinning()
    vm = Vm(
        name=fields.required_text("name"),
        host=host,
        uuid=fields.text("uuid"),
        state=fields.text("state") or "running",
        reason=fields.text("reason"),
        job=fields.text("job"),
        memory_kib=fields.whole("memory_kib", "KiB"),
        overhead_kib=fields.whole("overhead_kib", "KiB") or 0,
        vcpus=vcpus.whole("current"),
        shape=_shape(vcpus.child("topology")),
        cpu=_cpu_of(fields, cpus),
        pinning=pinning,
        stored=_stored(policy),
        following=_following(policy),
        huge_pages_kib=fields.whole("huge_pages_kib", "KiB"),
        machine_type=fields.text("machine_type"),
        networks=frozenset(fields.texts("networks") or ()),
        storage=frozenset(fields.texts("storage") or ()),
        migration=policy.choice("migration", MIGRATION_MODES) or "automatic",
        allowed_hosts=policy.texts("hosts") or (),
        home=_home(policy),
        dirty_mib_s=fields.number("dirty_mib_s"),
        blockers=fields.texts("blockers") or (),
    )
    mode = vm.migration if policy.text("migration") else _default_mode(fields, vm.own_pinning)
    return replace(vm, migration=mode, guest=_guest(fields)) if vm.tied or mode != vm.migration else vm


def _stored(policy: Fields) -> Optional[PinningPolicy]:
    value = policy.child("pinning")
    if value is None:
        return None
    try:
        return PinningPolicy.from_dict(value.data)
    except FleetError as error:
        raise FleetError(f"{value.where}: {error.msg}", value.code, object=policy.where, field="pinning") from error


def _following(policy: Fields) -> Optional[Following]:
    value = policy.child("following")
    if value is None:
        return None
    try:
        return Following.from_dict(value.data)
    except FleetError as error:
        raise FleetError(f"{value.where}: {error.msg}", value.code, object=policy.where, field="following") from error


def _guest(fields: Fields) -> Optional[Guest]:
    """Return what a VM asks for, or ``None`` where not all of that is known."""
    vm = fields.data
    cells = (vm.get("pinning") or {}).get("cells") or ()
    if not (vm.get("vcpus") or {}).get("current") or any(cell.keys() < {"id", "vcpus", "memory_kib"} for cell in cells):
        return None
    return guest_from_data(vm)


def _default_mode(fields: Fields, pinning: Pinning) -> str:
    """Return the mode of a VM that stores none: as in oVirt, what could lose performance moves only on request."""
    pinned = bool(pinning.vcpus or pinning.memory or pinning.cells)
    return "manual" if pinned or fields.text("cpu_mode") == "host-passthrough" else "automatic"


def _home(policy: Fields) -> Optional[Home]:
    home = policy.data.get("home")
    if home is None:
        return None
    if isinstance(home, str):
        # A hand-written snapshot names the host; names and UUIDs cannot be mixed up, so both are tried.
        return Home(name=home) if home else None
    fields = policy.child("home")
    if fields is None:
        return None
    return Home(fields.text("uuid"), fields.text("name"), pinning_from(fields, "pins"))


def pinning_from(fields: Fields, key: str) -> Optional[Pinning]:
    """Return the pins in a field; sets that cannot be read are reported with the object's name."""
    value = fields.child(key)
    if value is None:
        return None
    try:
        return Pinning.from_dict(value.data)
    except FleetError as error:
        raise FleetError(f"{value.where}: {error.msg}", code=fields.code, object=fields.where, field=key) from error
