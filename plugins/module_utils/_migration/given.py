# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""From the options of the user to a schedule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, List, Mapping, Optional, Sequence, Tuple

from .._errors import FleetError
from .schedule import ACTIONS, POLICIES, Schedule, Step

# QEMU's default (DEFAULT_MIGRATE_SET_DOWNTIME) and the most that it takes (MAX_MIGRATE_DOWNTIME), in milliseconds.
QEMU_DOWNTIME_MS = 300
LONGEST_DOWNTIME_MS = 2_000_000


def schedule_from(
    policy: str,
    steps: Optional[Sequence[Mapping[str, Any]]] = None,
    max_downtime_ms: Optional[int] = None,
    auto_converge: Optional[bool] = None,
) -> Schedule:
    """Return the schedule of a policy, changed by what else was given.

    ``steps`` are mappings with ``after``, ``action`` (``downtime`` unless given) and ``downtime_ms``, and replace those
    of the policy if there are any; its initial downtime stays. No downtime exceeds ``max_downtime_ms``.
    ``auto_converge`` is as the policy says if it is ``None``. Raises ``bad_input``.
    """
    if policy not in POLICIES:
        raise _bad(f"The convergence policy {policy!r} is unknown. Use one of: {', '.join(POLICIES)}.")
    schedule = POLICIES[policy]
    if steps:
        schedule = replace(schedule, name="own", steps=_read(steps))
    if max_downtime_ms is not None:
        _check_downtime("max_downtime_ms", max_downtime_ms)
        schedule = _capped(schedule, max_downtime_ms)
    schedule = replace(schedule, steps=_without_repeats(schedule))
    return schedule if auto_converge is None else replace(schedule, auto_converge=auto_converge)


def _capped(schedule: Schedule, cap: int) -> Schedule:
    steps = tuple(
        step if step.downtime_ms is None else replace(step, downtime_ms=min(step.downtime_ms, cap))
        for step in schedule.steps
    )
    initial = schedule.initial_downtime_ms
    if initial is not None:
        initial = min(initial, cap)
    elif cap < QEMU_DOWNTIME_MS or not any(step.action == "downtime" for step in steps):
        initial = cap
    return replace(schedule, initial_downtime_ms=initial, steps=steps)


def _without_repeats(schedule: Schedule) -> Tuple[Step, ...]:
    """Return the steps without those that set the downtime to what it is already."""
    kept: List[Step] = []
    downtime_ms = schedule.initial_downtime_ms
    for step in schedule.steps:
        if step.action != "downtime" or step.downtime_ms != downtime_ms:
            kept.append(step)
            downtime_ms = step.downtime_ms
    return tuple(kept)


def _read(entries: Sequence[Mapping[str, Any]]) -> Tuple[Step, ...]:
    steps: List[Step] = []
    for index, entry in enumerate(entries):
        try:
            step = _step(entry)
            _check_order(steps, step)
        except FleetError as error:
            raise _bad(f"convergence_steps[{index}]: {error.msg}") from error
        steps.append(step)
    return tuple(steps)


def _step(entry: Mapping[str, Any]) -> Step:
    after, action, downtime_ms = (entry.get(key) for key in ("after", "action", "downtime_ms"))
    if after is None or after < 0:
        raise _bad(f"after must be a number of rounds, 0 or more, not {after}.")
    if action is None and downtime_ms is None:
        raise _bad("it does nothing. Give an action, or a downtime_ms.")
    action = action or "downtime"
    if action not in ACTIONS:
        raise _bad(f"the action {action!r} is unknown. Use one of: {', '.join(ACTIONS)}.")
    if action != "downtime" and downtime_ms is not None:
        raise _bad(f"downtime_ms means nothing to the action {action}. Leave one of them out.")
    if action == "downtime":
        if downtime_ms is None:
            raise _bad("the action downtime needs a downtime_ms. Give one.")
        _check_downtime("downtime_ms", downtime_ms)
    return Step(after, action, downtime_ms)


def _check_order(before: Sequence[Step], step: Step) -> None:
    if not before:
        return
    last = before[-1]
    if step.after <= last.after:
        raise _bad(f"after is {step.after}, not more than the {last.after} of the step before. Let after grow.")
    if last.action == "abort":
        raise _bad("nothing is left to do after the action abort. Make that the last step.")
    if last.action != "downtime" and step.action != "abort":
        raise _bad(f"only abort makes sense after the action {last.action}, not {step.action}. Leave this step out.")
    if step.downtime_ms is not None and last.downtime_ms is not None and step.downtime_ms <= last.downtime_ms:
        raise _bad(
            f"downtime_ms is {step.downtime_ms}, not more than the {last.downtime_ms} of the step before. "
            "Let downtime_ms grow."
        )


def _check_downtime(option: str, downtime_ms: int) -> None:
    if not 1 <= downtime_ms <= LONGEST_DOWNTIME_MS:
        raise _bad(f"{option} must be from 1 to {LONGEST_DOWNTIME_MS}, not {downtime_ms}.")


def _bad(msg: str) -> FleetError:
    return FleetError(msg, "bad_input")
