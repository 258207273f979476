# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random fleets for benchmarks, always the same for the same numbers."""

from __future__ import annotations

import random
from typing import Any

GIB = 1048576

# Shares of VM sizes as they are sold: many small ones, few that fill half a host.
SIZES = [2, 2, 2, 4, 4, 4, 8, 8, 16, 32, 64]


def fleet(hosts: int, drained: int, fill: float, seed: int) -> dict[str, Any]:
    """Return a snapshot whose VMs would fill all hosts but the drained ones to the share ``fill``.

    Host memory differs by up to a third. Each VM starts on a random host with room, the drained ones included.
    """
    rng = random.Random(f"{hosts} {drained} {fill} {seed}")
    sizes = [rng.choice([96, 112, 128]) for _host in range(hosts)]
    room = list(sizes)
    wanted = fill * sum(sizes[drained:])
    vms: list[dict[str, Any]] = []
    used = 0
    while used < wanted:
        gib = min(rng.choice(SIZES), max(1, int(wanted - used)))
        on = _roomy(rng, room, gib)
        if on is None:
            break
        room[on] -= gib
        used += gib
        name = f"vm{len(vms):05d}"
        vms.append({"name": name, "uuid": name, "host": _host(on), "cpu": "c", "memory_kib": gib * GIB})
    return {
        "version": 1,
        "cpus": {"c": {"features": [f"feature{number}" for number in range(120)]}},
        "hosts": [
            {"name": _host(number), "uuid": f"uuid{number}", "cpu": "c", "memory_kib": gib * GIB, "link_mib_s": 1100}
            for number, gib in enumerate(sizes)
        ],
        "vms": vms,
    }


def _host(number: int) -> str:
    return f"hv{number:04d}"


def _roomy(rng: random.Random, room: list[int], gib: int) -> int | None:
    fitting = [number for number, left in enumerate(room) if left >= gib]
    return rng.choice(fitting) if fitting else None


def request(drained: int) -> dict[str, Any]:
    """Return the request to empty the first hosts."""
    return {"question": "drain", "hosts": [_host(number) for number in range(drained)]}
