# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Progress of migrations as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_WORDS = {
    "moved": "moved",
    "already_there": "was there already",
    "failed": "FAILED",
    "stayed": "starting",
    "in_progress": "under way",
}


def news(host: str, vms: Mapping[str, Mapping[str, Any]], shown: dict[str, str]) -> Iterator[str]:
    """Yield a line for each VM whose progress differs from what ``shown`` remembers, and a total if any did."""
    changed = False
    for name, progress in sorted(vms.items()):
        line = f"{host}: {name} -> {progress.get('destination')}: {describe(progress)}"
        if shown.get(name) != line:
            shown[name] = line
            changed = True
            yield line
    if changed and len(vms) > 1:
        done = sum(progress.get("state") in ("moved", "already_there", "failed") for progress in vms.values())
        yield f"{host}: {done} of {len(vms)} begun migrations done"


def describe(progress: Mapping[str, Any]) -> str:
    """Return the progress of one VM in words."""
    state = str(progress.get("state", ""))
    if state == "moved" and progress.get("downtime_ms") is not None:
        return f"moved, downtime {progress['downtime_ms']} ms"
    if state == "failed":
        return f"FAILED: {progress.get('msg')}"
    if state in ("stayed", "in_progress") and "percent" in progress:
        eta = progress.get("eta_s")
        left = "" if eta is None else f", about {eta} s left"
        return f"{progress['percent']} % at {progress['speed_mib_s']} MiB/s{left}"
    return _WORDS.get(state, state)
