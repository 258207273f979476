# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The record of a host's pool: proven on this host first, then written and read back, or removed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from .._cpu import PoolCpu
from .._errors import FleetError
from .._host import files, pool_record
from .._host.paths import HostPaths
from .._host.pool_record import Member, PoolRecord
from .host import host_uuid
from .host_cpu import prove_host
from .probe import Proof, prove


@dataclass(frozen=True)
class Wanted:
    """What the record is to say; ``features`` are what the probe on this host must show, as on all other members."""

    pool: str
    vendor: str
    definition: str
    generation: int
    members: Tuple[Member, ...]
    cpu: PoolCpu
    features: Tuple[str, ...]
    host: Optional[str] = None


def wanted_from(params: Mapping[str, Any]) -> Wanted:
    """Return what the module's options ask for; raises ``bad_options`` and ``bad_cpu``."""
    if not pool_record.POOL_NAME.fullmatch(params["pool"]):
        raise _bad_options(f"pool is {params['pool']!r}: letters, digits, dots, hyphens and underscores, 63 at most")
    if params["generation"] < 1:
        raise _bad_options(f"generation is {params['generation']}, and the first one is 1")
    members = {member["uuid"]: Member(member["name"], member["uuid"]) for member in params["members"]}
    return Wanted(
        pool=params["pool"],
        vendor=params["vendor"],
        definition=params["definition"],
        generation=params["generation"],
        members=tuple(members[uuid] for uuid in sorted(members)),
        cpu=PoolCpu.from_data(params["cpu"]),
        features=tuple(sorted(set(params["features"]))),
        host=params["host"],
    )


def observe(paths: HostPaths) -> Optional[Dict[str, Any]]:
    """Return the record of this host as it is in its file; raises ``bad_record`` and ``record_version``."""
    return pool_record.read_data(paths.pool_record)


def check_unchanged(
    found: Optional[Mapping[str, Any]], wanted: Optional[Wanted], previous: Optional[Mapping[str, Any]]
) -> None:
    """Raise ``newer_generation`` if the pool or the host went on without the controller that asks.

    ``found`` is the record of this host now, and ``wanted`` what it is to say, ``None`` to remove it. ``previous`` is
    the ``pool`` and ``generation`` of the record that the plan was made with, both ``None`` if there was none; without
    it only a pool's own generations are looked at.
    """
    there = None if found is None else (found["pool"], found["generation"])
    asked = None if wanted is None else (wanted.pool, wanted.generation)
    if there == asked:
        fine = found is None or wanted is None or _content(_as_record(found)) == _content(wanted)
    else:
        fine = previous is None or there == (previous["pool"] and (previous["pool"], previous["generation"]))
        fine = fine and not (there is not None and asked is not None and there[0] == asked[0] and there[1] > asked[1])
    if not fine:
        raise _went_on(there, asked)


def _went_on(there: Optional[Tuple[str, int]], asked: Optional[Tuple[str, int]]) -> FleetError:
    said, wanted = (
        "no record" if version is None else f"generation {version[1]} of pool {version[0]}"
        for version in (there, asked)
    )
    return FleetError(
        f"This host has {said}, and {wanted} was to be written: it is newer than what the plan was made with, or the "
        "same generation with other content, because another run has changed the pool since the hosts were described. "
        "Describe them again and plan again.",
        "newer_generation",
        pool=asked and asked[0],
        generation=asked and asked[1],
        found=there and there[1],
        found_pool=there and there[0],
    )


def _as_record(found: Mapping[str, Any]) -> PoolRecord:
    """Return what ``observe`` has read and checked as a value."""
    return pool_record.from_data(found, HostPaths().pool_record)


def _content(part: Union[PoolRecord, Wanted]) -> Tuple[Any, ...]:
    """Return what all members have in common in one generation; the host's own part may differ."""
    members = sorted((member.uuid, member.name) for member in part.members)
    return part.vendor, part.definition, members, part.cpu, sorted(part.features)


def prove_record(conn: Any, wanted: Wanted) -> Tuple[PoolRecord, Proof]:
    """Return the record of this host, and the proof that it can be kept.

    Starts a paused probe domain and destroys it, also in check mode. Raises ``proof`` if guests of this host would
    not see exactly the pool's CPU, and ``bad_options`` if the host is none of the members.
    """
    me = _this_host(host_uuid(conn), wanted)
    proof = prove(conn, wanted.cpu, me.name)
    _require(proof.as_dict(), wanted, me.name)
    record = PoolRecord(
        pool=wanted.pool,
        vendor=wanted.vendor,
        definition=wanted.definition,
        generation=wanted.generation,
        members=wanted.members,
        cpu=wanted.cpu,
        features=wanted.features,
        host=me,
        proven=prove_host(conn),
    )
    return record, proof


def _this_host(uuid: str, wanted: Wanted) -> Member:
    for member in wanted.members:
        if member.uuid == uuid:
            return Member(wanted.host or member.name, uuid)
    names = ", ".join(member.name for member in wanted.members)
    raise _bad_options(f"members lists {names}, and none of them has the UUID of this host, {uuid}")


def _require(proof: Mapping[str, Any], wanted: Wanted, host: str) -> None:
    cause = _cause(proof, wanted)
    if cause is not None:
        probe = proof["probe"] or {}
        raise FleetError(
            f"Host {host} is not recorded in pool {wanted.pool}, because its guests would not see the pool's CPU: "
            f"{cause}. Recalculate the pool, or take the host out of it.",
            "proof",
            host=host,
            pool=wanted.pool,
            missing=_without(wanted.features, probe["features"]) if probe else list(proof["missing"]),
            extra=_without(probe.get("features", ()), wanted.features),
            proof=proof,
        )


def _cause(proof: Mapping[str, Any], wanted: Wanted) -> Optional[str]:
    probe = proof["probe"]
    if proof["result"] == "incompatible":
        return proof["reason"] or f"libvirt finds it incompatible; missing: {', '.join(proof['missing']) or 'not told'}"
    if proof["unknown"]:
        return f"libvirt on this host does not know {', '.join(proof['unknown'])}"
    if probe is None or probe["error"]:
        return (probe or {}).get("error") or "no probe domain was started"
    differences = [
        f"the {what} is {probe[key]} and not {getattr(wanted.cpu, key)}"
        for key, what in (("model", "model"), ("vendor", "vendor"), ("address_bits", "width of addresses"))
        if getattr(wanted.cpu, key) not in (None, probe[key])
    ]
    differences += [
        f"QEMU {verb} {', '.join(names)}"
        for verb, names in (
            ("does not give", _without(wanted.features, probe["features"])),
            ("also gives", _without(probe["features"], wanted.features)),
        )
        if names
    ]
    return " and ".join(differences) or None


def _without(some: Any, others: Any) -> List[str]:
    return sorted(set(some) - set(others))


def carry_out(
    paths: HostPaths,
    wanted: Optional[Wanted],
    record: Optional[PoolRecord],
    previous: Optional[Mapping[str, Any]] = None,
) -> Optional[Dict[str, Any]]:
    """Write the record, or remove it with ``None``, under the lock of the state directory; return what is read back."""
    files.make_directory(paths.state)
    with files.locked(paths.state):
        # Another controller may have written since the plan was made.
        found = observe(paths)
        check_unchanged(found, wanted, previous)
        after = None if record is None else record.to_data()
        if found != after:
            if record is None:
                pool_record.remove(paths)
            else:
                pool_record.write(paths, record)
        there = observe(paths)
    if there != after:
        raise FleetError(
            f"{paths.pool_record} does not hold what was just written; find out which other program writes there.",
            "not_applied",
            wanted=after,
            found=there,
        )
    return there


def _bad_options(cause: str) -> FleetError:
    return FleetError(
        f"The options cannot be a record of a pool: {cause}. Take them from cpu_pool_plan.", "bad_options"
    )
