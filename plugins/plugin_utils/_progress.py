# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Progress of migrations as lines for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ENDED = ("moved", "already_there", "reconciled", "at_source", "failed")

_WORDS = {
    "moved": "moved",
    "already_there": "was there already",
    "reconciled": "an earlier migration was brought to its end",
    "at_source": "has not left, and nothing is under way",
    "failed": "FAILED",
    "stayed": "starting",
    "in_progress": "under way",
}


def news(
    host: str, vms: Mapping[str, Mapping[str, Any]], shown: dict[str, str], waiting_kib: Mapping[str, int] | None = None
) -> Iterator[str]:
    """Yield a line for each VM whose progress differs from what ``shown`` remembers, and a total if any did.

    ``waiting_kib`` is the memory of the VMs whose migration has not begun.
    """
    changed = False
    for name, progress in sorted(vms.items()):
        line = f"{host}: {name} -> {progress.get('destination')}: {describe(progress)}"
        if shown.get(name) != line:
            shown[name] = line
            changed = True
            yield line
    waiting = waiting_kib or {}
    if changed and len(vms) + len(waiting) > 1:
        yield f"{host}: {total(list(vms.values()), waiting)}"


def total(vms: Sequence[Mapping[str, Any]], waiting_kib: Mapping[str, int]) -> str:
    """Return the progress of all VMs in words."""
    done = sum(progress.get("state") in ENDED for progress in vms)
    sent = [progress for progress in vms if progress.get("state") not in ENDED and "speed_mib_s" in progress]
    speed = sum(progress["speed_mib_s"] for progress in sent)
    words = f"{done} of {len(vms) + len(waiting_kib)} VMs done"
    if not speed:
        return words
    left_kib = sum(progress["remaining_kib"] for progress in sent) + sum(waiting_kib.values())
    return f"{words}, {speed:.1f} MiB/s, about {left_kib / 1024 / speed:.0f} s left"


def describe(progress: Mapping[str, Any]) -> str:
    """Return the progress of one VM in words."""
    state = str(progress.get("state", ""))
    if state == "moved" and progress.get("downtime_ms") is not None:
        return f"moved, downtime {progress['downtime_ms']} ms"
    if state == "failed":
        return f"FAILED: {progress.get('msg')}"
    if state in ("stayed", "in_progress") and "percent" in progress:
        return ", ".join(_under_way(progress))
    return _WORDS.get(state, state)


def _under_way(progress: Mapping[str, Any]) -> Iterator[str]:
    yield f"{progress['percent']} % at {progress['speed_mib_s']} MiB/s"
    if progress.get("eta_s") is not None:
        yield f"about {progress['eta_s']} s left"
    # What follows says that the VM writes faster than its memory is sent.
    if progress.get("iteration"):
        yield f"round {progress['iteration']}"
        if progress.get("expected_downtime_ms"):
            yield f"{progress['expected_downtime_ms']} ms of downtime expected"
    if progress.get("throttle_percent"):
        yield f"VM slowed down by {progress['throttle_percent']} %"
