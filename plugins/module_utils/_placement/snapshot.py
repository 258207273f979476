# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Fleet snapshots: JSON in, values out.

The shape is that of ``docs/planner.md``. Keys nobody reads are ignored, so that a newer collector can feed an older
planner.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Mapping, Optional, Tuple

from .._errors import FleetError
from .._topology import Cell, cells_from_data
from .fields import Fields, named
from .model import Cpu, Host, Snapshot
from .same_uuid import check_hosts, check_vms, one_per_uuid
from .seat import isolation
from .vm_fields import cpu_of, read_vm, shape_of

VERSION = 1


def merge(parts: Iterable[Any]) -> Dict[str, Any]:
    """Return one snapshot (JSON) from parts that each hold some hosts and their VMs.

    CPU ids are content hashes, so parts of different hosts may repeat them. Raises ``FleetError`` (``bad_snapshot``)
    for a part of an unknown version and for one id with two meanings.
    """
    merged: Dict[str, Any] = {"version": VERSION, "cpus": {}, "hosts": [], "vms": []}
    for part in parts:
        fields = Fields(part, "snapshot", path="")
        _check_version(fields)
        for cpu_id, cpu in fields.part("cpus").data.items():
            known = merged["cpus"].setdefault(cpu_id, cpu)
            if known != cpu:
                raise FleetError(
                    f"The snapshot parts disagree about CPU {cpu_id}. Collect the fleet snapshot again on all hosts.",
                    code="bad_snapshot",
                    cpu=cpu_id,
                    path=f"cpus.{cpu_id}",
                )
        for key in ("hosts", "vms"):
            merged[key].extend(item.data for item in fields.children(key))
    return merged


def load(data: Any) -> Snapshot:
    """Return the snapshot in ``data`` (the JSON mapping of one file, or the result of ``merge``).

    Raises ``FleetError``: ``bad_snapshot`` with ``path``, ``object`` and ``field`` for a wrong type or reference,
    ``duplicate_host`` for two hosts of one name or UUID, ``duplicate_vm`` for two such domains on one host,
    ``split_brain`` for a VM that runs on two hosts.
    """
    fields = Fields(data, "snapshot", path="")
    _check_version(fields)
    cpus = _cpus(fields)
    hosts = [_host(item, cpus) for item in fields.children("hosts")]
    check_hosts(hosts)
    left = {host.name: isolation(host) for host in hosts}
    seen = [read_vm(item, cpus, left) for item in fields.children("vms")]
    check_vms(seen)
    vms, leftovers = one_per_uuid(seen)
    return Snapshot(tuple(sorted(hosts, key=lambda host: host.name)), tuple(vms), tuple(leftovers))


def _check_version(fields: Fields) -> None:
    version = fields.whole("version")
    if version not in (None, VERSION):
        raise FleetError(
            f"The snapshot has version {version}, but this release reads version {VERSION}."
            " Collect it with the same release of the collection.",
            code="unsupported_version",
            version=version,
            path="version",
        )


def _cpus(fields: Fields) -> Dict[str, Cpu]:
    group = fields.part("cpus")
    cpus: Dict[str, Cpu] = {}
    for cpu_id in group.data:
        item = Fields(group.data[cpu_id], f"cpu {cpu_id}", path=group.at(cpu_id))
        cpus[cpu_id] = Cpu(
            id=cpu_id,
            vendor=item.text("vendor"),
            model=item.text("model"),
            features=item.distinct("features"),
            address_bits=item.whole("address_bits"),
        )
    return cpus


def _host(item: Fields, cpus: Mapping[str, Cpu]) -> Host:
    fields = named(item, "host")
    reserved, migration = fields.part("reserved"), fields.part("migration")
    threads_count = fields.flag("count_threads_as_cores")
    return Host(
        name=fields.required_text("name"),
        uuid=fields.text("uuid"),
        pool=fields.text("pool"),
        maintenance=fields.flag("maintenance") or False,
        cpu=cpu_of(fields, cpus),
        shape=shape_of(fields.child("topology")),
        cells=_cells(fields),
        memory_kib=fields.whole("memory_kib", "KiB"),
        reserved_memory_kib=reserved.whole("memory_kib", "KiB") or 0,
        reserved_cpus=reserved.cpuset("cpus") or frozenset(),
        isolated_cpus=fields.cpuset("isolated_cpus") or frozenset(),
        offline_cpus=fields.cpuset("offline_cpus") or frozenset(),
        machine_cpus=fields.cpuset("machine_cpus"),
        cpu_overcommit=fields.number("cpu_overcommit"),
        count_threads_as_cores=True if threads_count is None else threads_count,
        machine_types=fields.distinct("machine_types"),
        networks=fields.distinct("networks"),
        storage=fields.distinct("storage"),
        link_mib_s=fields.number("link_mib_s"),
        migration_uri=migration.text("uri"),
        migration_address=migration.text("address"),
        collected_s=fields.whole("collected_s", "seconds"),
    )


def _cells(fields: Fields) -> Optional[Tuple[Cell, ...]]:
    if fields.data.get("cells") is None:
        return None
    try:
        return cells_from_data(fields.data["cells"])
    except FleetError as error:
        _check_cells(fields)
        raise fields.refused("cells", error.msg) from error


def _check_cells(fields: Fields) -> None:
    """Read cells that are wrong field by field, so that the error has the path of the one that is."""
    for cell in fields.children("cells"):
        cell.cpuset("cpus")
        cell.wholes("distances")
        cell.texts("siblings")
        for key in ("id", "memory_kib", "free_kib"):
            cell.whole(key)
        for page in cell.children("pages"):
            for key in ("size_kib", "total", "free"):
                page.whole(key)
