# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The course of a maintenance over many hosts: which come next, and what a failure means for the rest.

What is known of a host is a mapping with ``host``, ``outcome`` (empty while there is something to do, else
``completed``, ``completed before``, ``failed``, ``skipped`` or ``cancelled``), ``pool`` (empty if it has none) and
``entered`` (whether it is in this maintenance by now).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PHASES = ("hold", "plan", "drain", "reconfigure", "refill")

State = Mapping[str, Any]


@dataclass(frozen=True)
class Next:
    """The hosts to plan for: those that are in maintenance already are emptied at once, others in waves."""

    hosts: tuple[str, ...]
    question: str
    stopped_pools: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What becomes of a run after a failure: ``failed`` hosts are out, ``stop`` ends it, ``again`` plans anew."""

    failed: tuple[str, ...]
    stop: bool
    again: bool


def next_hosts(states: Sequence[State], lost: Collection[str] = (), max_fail: int = 0) -> Next:
    """Return what to plan for next.

    Hosts that are in maintenance come first, for they carry no VMs until they are through. A pool with more than
    ``max_fail`` hosts that failed or are ``lost`` is touched no more; other pools go on.
    """
    failures = Counter(state["pool"] for state in states if state["outcome"] == "failed" or _is_lost(state, lost))
    stopped = tuple(sorted(pool for pool, count in failures.items() if count > max_fail))
    todo = [state for state in states if not state["outcome"] and not _is_lost(state, lost)]
    open_ones = [state for state in todo if state["pool"] not in stopped]
    entered = [state for state in open_ones if state["entered"]]
    hosts = tuple(state["host"] for state in entered or open_ones)
    return Next(hosts, "drain" if entered or len(hosts) == 1 else "rollout", stopped)


def _is_lost(state: State, lost: Collection[str]) -> bool:
    return state["host"] in lost and not state["outcome"].startswith("completed")


def judge_failure(
    phase: str, wave: Sequence[str], broken: Collection[str], lost: Collection[str], replans_left: int
) -> Verdict:
    """Return what a failure in a phase means; ``broken`` and ``lost`` are the hosts on which it happened.

    Moves are planned anew as long as that is allowed: a destination may have died. Whoever could not be reconfigured
    is out. A run that cannot plan, or has not the pools for itself, ends.
    """
    if phase not in PHASES:
        raise ValueError(f"phase must be one of {', '.join(PHASES)}, not {phase}")
    if phase in ("hold", "plan"):
        return Verdict((), stop=True, again=False)
    gone = tuple(host for host in wave if host in lost)
    if phase in ("drain", "refill") and replans_left > 0:
        return Verdict(gone, stop=False, again=True)
    if phase == "refill":
        # Hosts that are refilled have completed their maintenance; their VMs run elsewhere.
        return Verdict((), stop=False, again=False)
    blamed = tuple(host for host in wave if host in broken or host in lost)
    # It failed elsewhere, such as at the source of a VM that was to make room.
    return Verdict(blamed or tuple(wave), stop=False, again=False)


def rows(states: Sequence[State], lost: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return what became of each host: ``host``, ``pool``, ``outcome`` and the ``wave`` in which it was through."""
    return [
        {
            "host": state["host"],
            "pool": state["pool"] or None,
            "outcome": state["outcome"] or ("unreachable" if state["host"] in lost else "not done"),
            "wave": state.get("wave"),
        }
        for state in states
    ]
