# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In which order the role carries a plan out, and what a failure ends: its tasks, with modules that only take notes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROLE = Path(__file__).parents[3] / "roles" / "placement"

NOTES = """
from ansible.plugins.action import ActionBase
import os

class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        args = self._task.args
        kind = "{name}" if "{name}" == "migrate" else "clear" if "keep_free" in args else "follow"
        note = " ".join([kind, task_vars["inventory_hostname"], *args.get("arriving", ())])
        with open(os.environ["NOTES"], "a", encoding="utf-8") as notes:
            notes.write(note + "\\n")
        if note == os.environ["FAULT"]:
            return {{"failed": True, "msg": note}}
        return {{"changed": True, "migrations": [move["vm"] for move in args.get("moves", ())]}}
"""

STEPS = [
    {"moves": [{"vm": "db1", "uuid": "u-db1", "source": "hv1", "destination": "hv2", "exclusive_cpus": "4"}]},
    {"moves": [{"vm": "db2", "uuid": "u-db2", "source": "hv2", "destination": "hv3", "exclusive_cpus": "5"}]},
    {"moves": [{"vm": "web1", "uuid": None, "source": "hv3", "destination": "hv1"}]},
]
PLAY = [
    {
        "hosts": "all",
        "gather_facts": False,
        "vars": {
            "placement_uri": "x",
            "placement_wait_timeout": 1,
            "placement_concurrency": 1,
            "__placement_waves": [{"steps": STEPS}],
        },
        "tasks": [
            {"ansible.builtin.include_role": {"name": "virtops.kvm_fleet.placement", "tasks_from": part}}
            for part in ("begin", "execute")
        ],
    }
]

FIRST = ["clear hv2 u-db1", "migrate hv1", "follow hv1", "follow hv2"]
SECOND = ["clear hv3 u-db2", "migrate hv2", "follow hv2", "follow hv3"]


def carry_out(folder: Path, fault: str = "", *options: str) -> tuple[bool, list[str]]:
    """Return whether the play succeeded, and what was done; what several hosts do at once is sorted."""
    collection = folder / "ansible_collections" / "virtops" / "kvm_fleet"
    (collection / "plugins" / "action").mkdir(parents=True)
    (collection / "roles").mkdir()
    (collection / "roles" / "placement").symlink_to(ROLE)
    for name in ("migrate", "pinning"):
        (collection / "plugins" / "action" / f"vm_{name}.py").write_text(NOTES.format(name=name))
    play, notes = folder / "play.yml", folder / "notes"
    play.write_text(json.dumps(PLAY))
    notes.touch()
    environment: dict[str, Any] = {"ANSIBLE_COLLECTIONS_PATH": str(folder), "NOTES": str(notes), "FAULT": fault}
    done = subprocess.run(
        ["ansible-playbook", "-i", "hv1,hv2,hv3,", "-c", "local", *options, str(play)],
        env={**os.environ, "ANSIBLE_HOME": str(folder), **environment},
        capture_output=True,
        check=False,
    )
    return done.returncode == 0, _in_order(notes.read_text().splitlines())


def _in_order(notes: list[str]) -> list[str]:
    result: list[str] = []
    for note in notes:
        at = len(result)
        while at and result[at - 1].split()[0] == note.split()[0] and result[at - 1] > note:
            at -= 1
        result.insert(at, note)
    return result


def test_the_steps_follow_one_another(tmp_path: Path) -> None:
    assert carry_out(tmp_path) == (True, [*FIRST, *SECOND, "migrate hv3"])


@pytest.mark.parametrize("fault", ["migrate hv1", "follow hv1"])
def test_a_failure_ends_the_plan_for_all_hosts(tmp_path: Path, fault: str) -> None:
    assert carry_out(tmp_path, fault) == (False, FIRST)


def test_check_mode_clears_only_what_is_free_before_anything_moves(tmp_path: Path) -> None:
    assert carry_out(tmp_path, "", "--check") == (
        True,
        ["clear hv2 u-db1", "migrate hv1", "migrate hv2", "migrate hv3"],
    )
