# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make up a fleet: a snapshot, and the request for a rollout over all its hosts.

Two fifths of the hosts are in the pool gold (384 GiB, Intel), the others in silver (256 GiB, AMD). VMs have 4 to 64 GiB
and lie unevenly on the hosts of their pool. Some belong to groups that are kept apart, some have the migration mode
manual, some write much memory. The same numbers give the same files.
"""

from __future__ import annotations

import argparse
import json
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, TypeVar

GIB = 1048576

CPUS = {
    "gold": {"vendor": "Intel", "model": "Icelake-Server", "features": ["aes", "avx2", "avx512f"]},
    "silver": {"vendor": "AMD", "model": "EPYC-Milan", "features": ["aes", "avx2", "sse4a"]},
}
HOST_GIB = {"gold": 384, "silver": 256}
RESERVED_GIB = 8
GOLD_SHARE = 0.4

# Memory of VMs in GiB, as often as they are listed, and their vCPUs
SIZES = (4, 8, 8, 8, 16, 16, 16, 32, 32, 64)
VCPUS = {4: 2, 8: 4, 16: 4, 32: 8, 64: 16}

# How many of hundred VMs are the first of a group that is kept apart, move by hand only, and write much memory
GROUPS, MANUAL, BUSY = 4, 3, 10
GROUP_SIZES = (2, 3, 4)
DIRTY_MIB_S = (40, 80, 160, 320)

Item = TypeVar("Item")


@dataclass
class Host:
    """A host while it is filled; memory in KiB."""

    name: str
    pool: str
    used: int = 0
    groups: set[str] = field(default_factory=set)

    @property
    def room(self) -> int:
        """Return what VMs can still get."""
        return (HOST_GIB[self.pool] - RESERVED_GIB) * GIB - self.used

    def as_dict(self) -> dict[str, Any]:
        """Return the host as it stands in a snapshot."""
        return {
            "name": self.name,
            "uuid": _uuid(self.name),
            "pool": self.pool,
            "cpu": self.pool,
            "topology": {"sockets": 2, "cores": 16, "threads": 2},
            "memory_kib": HOST_GIB[self.pool] * GIB,
            "reserved": {"memory_kib": RESERVED_GIB * GIB},
            "cpu_overcommit": 4,
            "link_mib_s": 1100,
        }


def make_fleet(hosts: int, fill: float, seed: int) -> dict[str, Any]:
    """Return a snapshot in which VMs take the share ``fill`` of the memory of each pool that VMs can have."""
    # Of all that the module random offers, Python promises the same numbers everywhere for random() alone.
    rng = random.Random(seed)
    gold = round(hosts * GOLD_SHARE)
    fleet = [Host(f"hv{number:03d}", "gold" if number <= gold else "silver") for number in range(1, hosts + 1)]
    vms: list[dict[str, Any]] = []
    for pool in CPUS:
        _fill(rng, [host for host in fleet if host.pool == pool], fill, vms)
    return {"version": 1, "cpus": CPUS, "hosts": [host.as_dict() for host in fleet], "vms": vms}


def make_request(snapshot: dict[str, Any]) -> dict[str, Any]:
    """Return the request to empty every host once, where empty hosts take in the VMs of the next ones."""
    names = [host["name"] for host in snapshot["hosts"]]
    return {"question": "rollout", "hosts": names, "refill": "leapfrog", "snapshot_path": "snapshot.json"}


def _fill(rng: random.Random, hosts: Sequence[Host], fill: float, vms: list[dict[str, Any]]) -> None:
    left = fill * sum(host.room for host in hosts)
    while left > 0:
        gib = _pick(rng, SIZES)
        needed = gib * GIB + _overhead_kib(gib)
        group = f"group{len(vms) + 1}" if _chance(rng, GROUPS) else None
        for _member in range(_pick(rng, GROUP_SIZES) if group else 1):
            host = _roomy(rng, hosts, needed, group)
            if host is None:
                break
            host.used += needed
            host.groups |= {group} if group else set()
            left -= needed
            vms.append(_vm(rng, f"vm{len(vms) + 1:04d}", host, gib, group))


def _roomy(rng: random.Random, hosts: Sequence[Host], needed: int, group: Optional[str]) -> Optional[Host]:
    """Return the emptier one of two random hosts, which fills them unevenly; if neither has room, the emptiest."""
    drawn = (_pick(rng, hosts), _pick(rng, hosts))
    for some in (drawn, hosts):
        fitting = [host for host in some if host.room >= needed and group not in host.groups]
        if fitting:
            return max(fitting, key=lambda host: host.room)
    return None


def _vm(rng: random.Random, name: str, host: Host, gib: int, group: Optional[str]) -> dict[str, Any]:
    vm: dict[str, Any] = {
        "name": name,
        "uuid": _uuid(name),
        "host": host.name,
        "cpu": host.pool,
        "memory_kib": gib * GIB,
        "overhead_kib": _overhead_kib(gib),
        "vcpus": {"current": VCPUS[gib]},
    }
    policy: dict[str, Any] = {"keep_apart": [group]} if group else {}
    if _chance(rng, MANUAL):
        policy["migration"] = "manual"
    if policy:
        vm["policy"] = policy
    if _chance(rng, BUSY):
        vm["dirty_mib_s"] = _pick(rng, DIRTY_MIB_S)
    return vm


def _overhead_kib(gib: int) -> int:
    """Return what host_info would estimate that QEMU needs beside the memory."""
    return 65536 + 8192 * VCPUS[gib] + gib * GIB // 512


def _uuid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}.example.com"))


def _chance(rng: random.Random, of_hundred: int) -> bool:
    return rng.random() * 100 < of_hundred


def _pick(rng: random.Random, items: Sequence[Item]) -> Item:
    return items[int(rng.random() * len(items))]


def as_text(data: dict[str, Any]) -> str:
    """Return JSON with a line for each key, and for each mapping in a list: short, and fit for diff."""
    return "{\n" + ",\n".join(f"{_json(key)}: {value}" for key, value in _values(data)) + "\n}\n"


def _values(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for key, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield key, "[\n" + ",\n".join(map(_json, value)) + "\n]"
        else:
            yield key, _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def main() -> None:
    """Write snapshot.json and request.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=200, metavar="N", help="number of hosts, at least 4 (default 200)")
    parser.add_argument(
        "--fill", type=float, default=0.72, metavar="SHARE", help="share of memory in use, at most 0.95 (default 0.72)"
    )
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="another number, another fleet (default 1)")
    parser.add_argument("directory", type=Path, help="where snapshot.json and request.json go")
    options = parser.parse_args()
    if options.hosts < 4 or not 0 <= options.fill <= 0.95:
        parser.error("--hosts must be 4 or more, and --fill between 0 and 0.95")
    snapshot = make_fleet(options.hosts, options.fill, options.seed)
    options.directory.mkdir(parents=True, exist_ok=True)
    for name, data in (("snapshot.json", snapshot), ("request.json", make_request(snapshot))):
        (options.directory / name).write_text(as_text(data), encoding="utf-8")


if __name__ == "__main__":
    main()
