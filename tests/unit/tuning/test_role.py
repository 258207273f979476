# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In which order the role does its work, and what it tells of a failure: its tasks, with modules that take notes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.tools.sync import ROOT

NOTES = """
from ansible.plugins.action import ActionBase
import os

class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        if "{name}" == "vm_info":
            return {{"vms": [{{"name": name, "uuid": name}} for name in ("db1", "db2", "web1", "app1")]}}
        vms = [vm["name"] for vm in self._task.args.get("vms", ())]
        with open(os.environ["NOTES"], "a", encoding="utf-8") as notes:
            notes.write(" ".join(["{name}", *vms]) + "\\n")
        if "{name}" == os.environ["FAULT"]:
            return {{"failed": True, "msg": "No CPU is left."}}
        has = {{"running": {{"count": 3}}, "guest_online": None}} if "{name}" == "vm_vcpus" else {{}}
        return {{"changed": True, "vms": [{{"name": vm, "changed": vm != "db2", **has}} for vm in vms]}}
"""
VMS = (
    {"name": "db1", "profile": "dedicated", "iothreads": 1},
    {"name": "db2", "profile": "dedicated", "iothreads": 1, "policy": {"migration": "manual"}},
    {"name": "web1", "iothreads": 1},
    {"name": "app1", "profile": "numa", "cpu": {"mode": "host-model"}},
)
PLAY = [{"hosts": "all", "gather_facts": False, "tasks": [{"include_role": {"name": "virtops.kvm_fleet.vm_tuning"}}]}]

CPU, RESOURCES, PINNING = "vm_cpu app1", "vm_resources db1 db2 web1", "vm_pinning db1 db2 app1"


def tune(folder: Path, fault: str = "", *options: str, vms: Sequence[dict[str, Any]] = VMS) -> tuple[str, list[str]]:
    """Return the message of the last failure, empty if there was none, and what was done."""
    collection = folder / "ansible_collections" / "virtops" / "kvm_fleet"
    (collection / "plugins" / "action").mkdir(parents=True)
    for part in ("roles", "plugins/filter", "plugins/module_utils", "plugins/plugin_utils"):
        (collection / part).symlink_to(ROOT / part)
    for name in ("vm_info", "vm_cpu", "vm_resources", "vm_pinning", "vm_policy", "vm_vcpus"):
        (collection / "plugins" / "action" / f"{name}.py").write_text(NOTES.format(name=name))
    play, notes = folder / "play.yml", folder / "notes"
    play.write_text(json.dumps(PLAY))
    notes.touch()
    environment = {"ANSIBLE_COLLECTIONS_PATH": str(folder), "ANSIBLE_HOME": str(folder), "ANSIBLE_NOCOLOR": "1"}
    done = subprocess.run(
        [
            "ansible-playbook",
            "-i",
            "hv1,",
            "-c",
            "local",
            "-e",
            json.dumps({"vm_tuning_vms": vms}),
            *options,
            str(play),
        ],
        env={**os.environ, **environment, "NOTES": str(notes), "FAULT": fault},
        capture_output=True,
        text=True,
        check=False,
    )
    failures = [line for line in done.stdout.splitlines() if line.startswith("fatal: ")]
    assert bool(failures) == bool(done.returncode), done.stdout + done.stderr
    return (failures[-1] if failures else ""), notes.read_text().splitlines()


def test_pins_come_next_to_the_resources_and_policies_last(tmp_path: Path) -> None:
    assert tune(tmp_path) == ("", [CPU, RESOURCES, PINNING, "vm_policy db2"])


def test_threads_follow_where_nobody_is_to_be_pinned_any_more(tmp_path: Path) -> None:
    assert tune(tmp_path, vms=[VMS[2]]) == ("", ["vm_resources web1", "vm_pinning"])


def test_nothing_is_touched_where_no_vm_is_tuned(tmp_path: Path) -> None:
    assert tune(tmp_path, vms=[]) == ("", [])


def test_who_changed_without_new_pins_is_named(tmp_path: Path) -> None:
    failure, done = tune(tmp_path, "vm_pinning")

    assert done == [CPU, RESOURCES, PINNING]
    assert "No CPU is left. Changed without new pins: db1. Put the cause right and tune again" in failure


def test_pins_are_not_planned_for_what_would_change(tmp_path: Path) -> None:
    failure, done = tune(tmp_path, "vm_pinning", "--check")

    assert done == [CPU, RESOURCES, "vm_pinning db2 app1"]
    assert ("No CPU is left." in failure, "new pins" in failure) == (True, False)


def test_vcpus_come_last_between_the_task_files_of_the_user(tmp_path: Path) -> None:
    files = {}
    for when in ("before", "after"):
        path = tmp_path / f"{when}.yml"
        path.write_text(json.dumps([{"virtops.kvm_fleet.vm_policy": {"vms": [{"name": when}]}}]))
        files[f"vm_tuning_{when}_set_vcpus"] = str(path)
    vms = [{"name": "web1", "hot_plug": {"count": 3}, "policy": {"migration": "manual"}}]
    plugged = ["vm_policy before", "vm_vcpus web1", "vm_policy after"]
    assert tune(tmp_path, "", "-e", json.dumps(files), vms=vms) == (
        "",
        ["vm_pinning", "vm_policy web1", *plugged],
    )


def test_a_guest_that_keeps_its_vcpus_keeps_nothing_else_from_being_done(tmp_path: Path) -> None:
    vms = [{"name": "web1", "hot_plug": {"count": 1}, "iothreads": 1}]
    failure, done = tune(tmp_path, "vm_vcpus", vms=vms)
    assert "No CPU is left" in failure
    assert done == ["vm_resources web1", "vm_pinning", "vm_vcpus web1"]
