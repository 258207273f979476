# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random fleets for benchmarks, always the same for the same numbers."""

from __future__ import annotations

import random
from typing import Any

GIB = 1048576

# Sizes of VMs in GiB as they are sold; the smaller the more of them.
SIZES = (2, 4, 8, 16, 32, 64)
WEIGHTS = tuple(size**-0.5 for size in SIZES)

HOST_GIB = 128


def fleet(hosts: int, drained: int, fill: float, seed: int) -> dict[str, Any]:
    """Return a snapshot whose VMs would fill all hosts but the first ``drained`` to the share ``fill``.

    Each VM starts on a random host with room, those to be drained included.
    """
    rng = random.Random(f"{hosts} {drained} {fill} {seed}")
    room = [HOST_GIB] * hosts
    wanted = fill * HOST_GIB * (hosts - drained)
    vms: list[dict[str, Any]] = []
    used = 0
    while used < wanted:
        gib = rng.choices(SIZES, WEIGHTS)[0]
        gib = gib if used + gib <= wanted else max(1, int(wanted - used))
        on = _roomy(rng, room, gib)
        if on is None:
            break
        room[on] -= gib
        used += gib
        name = f"vm{len(vms):05d}"
        vms.append({"name": name, "uuid": name, "host": host_name(on), "cpu": "c", "memory_kib": gib * GIB})
    return {
        "version": 1,
        "cpus": {"c": {"features": [f"feature{number}" for number in range(120)]}},
        "hosts": [
            {
                "name": host_name(number),
                "uuid": f"uuid{number}",
                "cpu": "c",
                "memory_kib": HOST_GIB * GIB,
                "link_mib_s": 1100,
            }
            for number in range(hosts)
        ],
        "vms": vms,
    }


def mixed_fleet(hosts: int, vms: int, seed: int) -> dict[str, Any]:
    """Return hosts with two cells of 16 cores with two threads, and VMs of which a third has a pinning policy.

    Those that are ``dedicated`` have CPUs of their own where they run, so that none of their hosts is short of CPUs.
    """
    rng = random.Random(f"mixed {hosts} {vms} {seed}")
    free = [[set(range(cell * 16 + 1, cell * 16 + 16)) for cell in range(2)] for _host in range(hosts)]
    room = [[HOST_GIB // 2 - 4] * 2 for _host in range(hosts)]
    found: list[dict[str, Any]] = []
    while len(found) < vms:
        gib, vcpus = rng.choice((2, 4, 4, 8, 8, 16)), rng.choice((2, 2, 4, 4, 8))
        on, cell = rng.randrange(hosts), rng.randrange(2)
        policy = rng.choice(("dedicated", "numa")) if len(found) % 3 == 0 else None
        cores = sorted(free[on][cell])[: vcpus // 2]
        if room[on][cell] - gib < HOST_GIB // 8 or (policy == "dedicated" and len(cores) < vcpus // 2 + 4):
            continue
        room[on][cell] -= gib
        name = f"vm{len(found):05d}"
        vm: dict[str, Any] = {"name": name, "uuid": name, "host": host_name(on), "cpu": "c", "memory_kib": gib * GIB}
        vm["vcpus"] = {"current": vcpus, "maximum": vcpus}
        if policy is not None:
            vm["policy"] = {"migration": "automatic", "pinning": {"policy": policy}}
            vm["pinning"] = {"memory": {"mode": "strict", "nodes": str(cell)}}
        if policy == "dedicated":
            free[on][cell] -= set(cores)
            cpus = [cpu for core in cores for cpu in (core, core + 32)]
            vm["pinning"]["vcpus"] = [{"vcpu": number, "cpus": str(cpu)} for number, cpu in enumerate(cpus)]
        found.append(vm)
    return {
        "version": 1,
        "cpus": {"c": {"features": ["aes"]}},
        "hosts": [_numa_host(number, room[number]) for number in range(hosts)],
        "vms": found,
    }


def _numa_host(number: int, free_gib: list[int]) -> dict[str, Any]:
    cells = [
        {
            "id": cell,
            "cpus": f"{cell * 16}-{cell * 16 + 15},{cell * 16 + 32}-{cell * 16 + 47}",
            "memory_kib": HOST_GIB // 2 * GIB,
            "free_kib": free * GIB,
            "siblings": [f"{core},{core + 32}" for core in range(cell * 16, cell * 16 + 16)],
            "distances": [10, 21] if cell == 0 else [21, 10],
        }
        for cell, free in enumerate(free_gib)
    ]
    reserved = {"memory_kib": 8 * GIB, "cpus": "0,16,32,48"}
    host = {"name": host_name(number), "uuid": f"uuid{number}", "cpu": "c", "memory_kib": HOST_GIB * GIB}
    return {**host, "link_mib_s": 1100, "cells": cells, "reserved": reserved}


def host_name(number: int) -> str:
    return f"hv{number:04d}"


def _roomy(rng: random.Random, room: list[int], gib: int) -> int | None:
    for _attempt in range(20):
        number = rng.randrange(len(room))
        if room[number] >= gib:
            return number
    fitting = [number for number, left in enumerate(room) if left >= gib]
    return rng.choice(fitting) if fitting else None


def drain_request(drained: int) -> dict[str, Any]:
    """Return the request to empty the first hosts."""
    return {"question": "drain", "hosts": [host_name(number) for number in range(drained)]}
