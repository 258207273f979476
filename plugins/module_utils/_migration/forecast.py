# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What to expect of a migration before it begins."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional, Tuple

from .given import QEMU_DOWNTIME_MS
from .schedule import Schedule, Step, counted


@dataclass(frozen=True)
class Forecast:
    """What a migration takes if nothing slows the VM down.

    ``rounds`` is how often memory is copied while the VM runs. ``seconds`` includes the stop at the end. ``converges``
    is whether it ends before the schedule does more than allow a longer downtime. ``None`` is what nobody knows, or for
    ``seconds`` and ``rounds`` that there is no end; ``warning`` is a sentence if it does not converge.
    """

    seconds: Optional[float]
    rounds: Optional[int]
    converges: Optional[bool]
    warning: Optional[str] = None


def forecast_move(
    vm: str, memory_kib: int, schedule: Schedule, dirty_mib_s: Optional[float], speed_mib_s: Optional[float]
) -> Forecast:
    """Return what to expect of a VM that writes ``dirty_mib_s`` when its memory is sent with ``speed_mib_s``.

    Each round sends what was written in the one before, never more than all memory: a geometric series, which ends when
    the rest fits into the last downtime of the schedule. With an unknown rate of writing the time is that of a VM that
    writes nothing, as in the planner's estimates.
    """
    if not speed_mib_s:
        return Forecast(None, None, None)
    memory_mib = memory_kib / 1024
    if dirty_mib_s is None:
        return Forecast(round(memory_mib / speed_mib_s, 1), None, None)
    room_mib = (schedule.final_downtime_ms or QEMU_DOWNTIME_MS) / 1000 * speed_mib_s
    ratio = min(dirty_mib_s / speed_mib_s, 1.0)
    rounds = _rounds(memory_mib, room_mib, ratio)
    writes, sends = _rates(dirty_mib_s, speed_mib_s)
    if rounds is None:
        excess = f"as much as the {sends} MiB/s" if writes == sends else f"more than the {sends} MiB/s"
        cause = f"VM {vm} writes {writes} MiB/s, {excess} at which its memory can be sent"
        return Forecast(None, None, False, f"{cause}, so it will not converge by itself; {_then(schedule)}.")
    first_s = memory_mib / speed_mib_s
    seconds = first_s * _series(ratio, rounds + 1)
    last = schedule.last_resort
    if last is None or 0 < last.after >= counted(1, first_s) + counted(rounds - 1, seconds - first_s):
        return Forecast(round(seconds, 1), rounds, True)
    cause = f"VM {vm} writes {writes} MiB/s and its memory can be sent at {sends} MiB/s"
    needs = f"so it would take {_times(rounds)} and {seconds:.0f} seconds to converge by itself"
    return Forecast(round(seconds, 1), rounds, False, f"{cause}, {needs}; {_then(schedule)}.")


def _rounds(memory_mib: float, room_mib: float, ratio: float) -> Optional[int]:
    """Return after how many rounds the rest fits; the first is always needed."""
    if memory_mib * ratio <= room_mib:
        return 1
    if ratio == 1.0:
        return None
    return math.ceil(math.log(room_mib / memory_mib) / math.log(ratio))


def _series(ratio: float, terms: int) -> float:
    """Return the sum 1 + ratio + ratio² and so on."""
    return float(terms) if ratio == 1.0 else (1 - ratio**terms) / (1 - ratio)


def _rates(*rates: float) -> Tuple[str, ...]:
    return tuple(f"{round(rate, 1):g}" for rate in rates)


def _then(schedule: Schedule) -> str:
    last = _last_resort(schedule.last_resort)
    return f"it is slowed down (auto-converge), and if that is not enough {last}" if schedule.auto_converge else last


def _last_resort(step: Optional[Step]) -> str:
    if step is None:
        return "its migration is cancelled when wait_timeout expires"
    when = f"after {_times(step.after)}" if step.after else "at once"
    if step.action == "post_copy":
        return f"it runs on at its destination {when} while its memory follows (post-copy)"
    if step.action == "pause":
        return f"it is paused {when} until its memory is sent"
    return f"its migration is cancelled {when}"


def _times(rounds: int) -> str:
    return "1 round" if rounds == 1 else f"{rounds} rounds"
