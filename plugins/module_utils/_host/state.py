# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What ``host_maintenance`` owns on a host as one value: mark, history and hook; read, plan, apply, verify."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any, Dict, Optional, Sequence

from .._errors import FleetError
from . import files, hook, maintenance
from .maintenance import History, Mark
from .paths import HostPaths


@dataclass(frozen=True)
class Request:
    """What is asked for: ``entered`` or ``left``, and the options of that state."""

    entered: bool
    id: Optional[str] = None
    reason: Optional[str] = None
    phase: Optional[str] = None
    cordon: bool = True
    completed: bool = False


@dataclass(frozen=True)
class HostState:
    """The host's files; ``hook`` is ``absent``, ``outdated`` or ``current``."""

    mark: Optional[Mark] = None
    history: History = field(default_factory=History)
    hook: str = hook.ABSENT

    @property
    def cordoned(self) -> bool:
        """Whether the hook is expected to refuse domains."""
        return self.mark is not None and self.mark.cordon

    def to_data(self) -> Dict[str, Any]:
        """Return the value behind ``changed`` and ``diff``."""
        return {
            "maintenance": None if self.mark is None else self.mark.to_data(),
            "completed": self.history.to_data()["completed"],
            "hook": self.hook,
        }


def observe(paths: HostPaths) -> HostState:
    """Read the files of the host; raises ``bad_record``."""
    return HostState(maintenance.read(paths), maintenance.read_history(paths), hook.status(paths))


def plan(before: HostState, request: Request, now: str) -> HostState:
    """Return the state the request leads to and change nothing; raises ``maintenance_other`` and ``bad_options``.

    The hook stays after a maintenance: the daemon finds hooks when it starts, the mark alone switches.
    """
    if request.entered:
        if not request.id:
            raise FleetError(
                "A maintenance is entered by its id; set id to a name that is not empty.", code="bad_options"
            )
        mark = maintenance.enter(before.mark, request.id, now, request.reason, request.cordon, request.phase)
        return replace(before, mark=mark, hook=hook.CURRENT if request.cordon else before.hook)
    history = maintenance.leave(before.mark, before.history, request.id, request.completed, now)
    return replace(before, mark=None, history=history)


def carry_out(paths: HostPaths, request: Request, now: str) -> HostState:
    """Bring the host to what is asked for, under the lock of the state directory, and return what is then read back."""
    files.make_directory(paths.state)
    with files.locked(paths.state):
        # Another controller may have entered a maintenance since the plan was shown.
        before = observe(paths)
        after = plan(before, request, now)
        _apply(paths, before, after)
        found = observe(paths)
    if found != after:
        raise FleetError(
            f"{paths.state} and {paths.hook} do not hold what was just written; "
            "find out which other program writes there.",
            code="not_applied",
            wanted=after.to_data(),
            found=found.to_data(),
        )
    return found


def not_drained(running: Sequence[Dict[str, str]], mark: Optional[Mark]) -> FleetError:
    """Return the refusal of the phase ``drained`` while domains (``driver`` and ``name`` each) run."""
    names = ", ".join(f"{domain['name']} ({domain['driver']})" for domain in running)
    return FleetError(
        f"Host {os.uname().nodename} is not drained, because domains run on it: {names}. "
        "Move them away or shut them down, then record the phase drained again.",
        code="not_drained",
        running=list(running),
        maintenance=None if mark is None else mark.to_data(),
    )


def _apply(paths: HostPaths, before: HostState, after: HostState) -> None:
    # The order is safe to be cut off anywhere: the hook is there before a mark relies on it, and a maintenance is on
    # record before its mark goes.
    if after.hook != before.hook:
        hook.install(paths)
    if after.history != before.history:
        maintenance.write_history(paths, after.history)
    if after.mark != before.mark:
        maintenance.write(paths, after.mark)
