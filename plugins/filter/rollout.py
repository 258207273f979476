# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The course of a maintenance over many hosts, for the playbook that carries it out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible_collections.virtops.kvm_fleet.plugins.plugin_utils._rollout import judge_failure, next_hosts, rows


def rollout_next(states: Sequence[Mapping[str, Any]], lost: Collection[str] = (), max_fail: Any = 0) -> dict[str, Any]:
    """Return the hosts to plan for next."""
    try:
        found = asdict(next_hosts(states, lost, int(max_fail)))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise AnsibleFilterError(f"rollout_next needs the states of hosts: {error!r}") from error
    return _plain(found)


def rollout_failure(
    wave: Sequence[str], phase: str, broken: Collection[str] = (), lost: Collection[str] = (), replans_left: Any = 0
) -> dict[str, Any]:
    """Return what a failure means for the hosts of a wave and for the run."""
    try:
        found = asdict(judge_failure(phase, wave, broken, lost, int(replans_left)))
    except (TypeError, ValueError) as error:
        raise AnsibleFilterError(f"rollout_failure needs the hosts of a wave and a phase: {error}") from error
    return _plain(found)


def rollout_rows(states: Sequence[Mapping[str, Any]], lost: Collection[str] = ()) -> list[dict[str, Any]]:
    """Return what became of each host, as rows of a table."""
    try:
        return rows(states, lost)
    except (KeyError, TypeError, AttributeError) as error:
        raise AnsibleFilterError(f"rollout_rows needs the states of hosts: {error!r}") from error


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    # Ansible knows lists, not tuples.
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"rollout_next": rollout_next, "rollout_failure": rollout_failure, "rollout_rows": rollout_rows}
