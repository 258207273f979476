# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The edge of every module: options in, one before/after value out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Sequence

from ansible.module_utils.basic import AnsibleModule

from ._argspec import ArgumentSpec
from ._errors import FleetError
from ._host.command import NOT_FOUND, Ran, Run

# Programs of the administrator are not in the path of every login.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class Outcome:
    """What a module did, or would do in check mode.

    ``before`` and ``after`` are JSON values of what the module owns; ``changed`` and ``diff`` both come from them.
    ``facts`` are the other keys of the result.
    """

    before: Any = None
    after: Any = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    @property
    def changed(self) -> bool:
        """Whether there is a difference to report."""
        return bool(self.before != self.after)


def run(spec: ArgumentSpec, work: Callable[[AnsibleModule], Outcome]) -> None:
    """Run ``work`` as an Ansible module with the options of ``spec``; every module supports check mode.

    In check mode a changing result carries ``planned: true``: its values are intentions, not observations.
    """
    module = AnsibleModule(supports_check_mode=True, **spec.to_kwargs())
    try:
        outcome = work(module)
    except FleetError as error:
        module.fail_json(msg=error.msg, error=error.code, **error.facts)
    for warning in outcome.warnings:
        module.warn(warning)
    module.exit_json(**_result(outcome, module.check_mode, module._diff))


def _result(outcome: Outcome, check_mode: bool, diff: bool) -> Dict[str, Any]:
    result: Dict[str, Any] = {**outcome.facts, "changed": outcome.changed}
    if check_mode and outcome.changed:
        result["planned"] = True
    if diff and outcome.changed:
        result["diff"] = {"before": _text(outcome.before), "after": _text(outcome.after)}
    return result


def _text(value: Any) -> str:
    """Return a value as stable lines that ``--diff`` can compare; XML and other text stays as it is."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value if value.endswith("\n") else value + "\n"
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def runner(module: AnsibleModule) -> Run:
    """Return what runs commands of the host for libraries: without a shell, with messages in English."""

    def run_command(argv: Sequence[str]) -> Ran:
        try:
            environment = {"LC_ALL": "C.UTF-8", "PATH": _PATH}
            return Ran(*module.run_command(list(argv), environ_update=environment, handle_exceptions=False))
        except OSError:
            return Ran(NOT_FOUND)

    return run_command
