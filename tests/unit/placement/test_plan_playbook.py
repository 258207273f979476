# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbook plan asks, whom it asks, and how it ends. The hosts only hand out what they have."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.tools.sync import ROOT
from tests.unit.placement.fleet import fleet, host, vm

# Writes a host's part of the snapshot, and takes note of who was asked with which settings.
HOST_INFO = """
from ansible.plugins.action import ActionBase
import json, os

class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        name, args = task_vars["inventory_hostname"], self._task.args
        with open("asked", "a", encoding="utf-8") as asked:
            asked.write(f"{name} {json.dumps(args['settings'])}\\n")
        with open("hosts.json", encoding="utf-8") as hosts:
            part = json.load(hosts)[name]
        if isinstance(part, str):
            return {"msg": f"It is {part}.", "unreachable": part == "silent", "failed": part == "broken"}
        target = os.path.join(args["snapshot_dir"], f"{name}.json")
        with open(target, "w", encoding="utf-8") as stream:
            json.dump(part, stream)
        return {"snapshot_file": target}
"""

# Takes note of the request, and finds nothing to do.
PLANNER = """
from ansible.plugins.action import ActionBase
import json

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        with open("request.json", "w", encoding="utf-8") as stream:
            json.dump(self._task.args["request"], stream)
        return {"feasible": True, "plan": {}}
"""

PARTS = {
    "hv1": fleet([host("hv1")], [vm("db1", "hv1", 4), vm("web1", "hv1")]),
    "hv2": fleet([host("hv2", 3)], []),
    "hv3": fleet([host("hv3")], []),
}
WHOLE = fleet([part["hosts"][0] for part in PARTS.values()], PARTS["hv1"]["vms"])
GOLD, SILVER = {"kvm_fleet_settings": {"pool": "gold"}}, {"placement_settings": {"pool": "silver"}}
INVENTORY = {"hv1": GOLD, "hv2": {**GOLD, **SILVER}, "hv3": {}}
DRAIN = {"plan_question": "drain", "plan_hosts": "hv1"}
ALL_ASKED = ['hv1 {"pool": "gold"}', 'hv2 {"pool": "silver"}', "hv3 {}"]
MOVES = ["db1: hv1 -> hv3, ~37 s", "web1: hv1 -> hv3, ~9 s"]


@dataclass(frozen=True)
class Run:
    """How a run ended: ``plan`` are the lines it showed, ``asked`` the hosts that were described, with settings."""

    succeeded: bool
    plan: list[str]
    failure: str
    asked: list[str]
    output: str


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The working directory, with an inventory, a snapshot, and a collection in which host_info is another."""
    base = tmp_path / "ansible_collections" / "virtops" / "kvm_fleet"
    (base / "plugins" / "action").mkdir(parents=True)
    (base / "playbooks").symlink_to(ROOT / "playbooks")
    for part in ("filter", "module_utils", "plugin_utils", "modules", "doc_fragments"):
        (base / "plugins" / part).symlink_to(ROOT / "plugins" / part)
    (base / "plugins" / "action" / "host_info.py").write_text(HOST_INFO)
    (tmp_path / "inventory.json").write_text(json.dumps({"hypervisors": {"hosts": INVENTORY}}))
    (tmp_path / "fleet.json").write_text(json.dumps(WHOLE))
    (tmp_path / "hosts.json").write_text(json.dumps(PARTS))
    (tmp_path / "parts").mkdir()
    for name, part in PARTS.items():
        (tmp_path / "parts" / f"{name}.json").write_text(json.dumps(part))
    (tmp_path / "scratch").mkdir()
    return tmp_path


def ask(folder: Path, *options: str, **variables: Any) -> Run:
    environment = {
        "ANSIBLE_COLLECTIONS_PATH": str(folder),
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "PWD": str(folder),
        "TMPDIR": str(folder / "scratch"),
    }
    done = subprocess.run(
        ["ansible-playbook", "virtops.kvm_fleet.plan", *options, "-e", json.dumps(variables)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    shown = re.search(r"TASK \[Show the plan\].*?=> (\{.*?\n\})", done.stdout, re.DOTALL)
    failures = [line for line in done.stdout.splitlines() if re.match(r"fatal: .* FAILED! ", line)]
    asked = folder / "asked"
    assert bool(failures) == bool(done.returncode), done.stdout + done.stderr
    assert list((folder / "scratch").glob("kvm_fleet.*")) == [], "the snapshot was left behind"
    return Run(
        done.returncode == 0,
        json.loads(shown[1])["msg"] if shown else [],
        failures[-1] if failures else "",
        sorted(asked.read_text().splitlines()) if asked.exists() else [],
        done.stdout,
    )


def live(folder: Path, *options: str, states: dict[str, str] | None = None, **variables: Any) -> Run:
    (folder / "hosts.json").write_text(json.dumps({**PARTS, **(states or {})}))
    return ask(folder, "-i", "inventory.json", *options, **variables)


def test_the_hosts_of_the_inventory_are_described_and_the_plan_is_shown_in_check_mode_too(folder: Path) -> None:
    done = live(folder, "--check", **DRAIN)

    assert (done.succeeded, done.plan[:2], done.asked) == (True, MOVES, ALL_ASKED)


def test_a_snapshot_needs_no_hypervisor_and_check_mode_writes_no_file(folder: Path) -> None:
    done = ask(folder, "--check", **DRAIN, plan_snapshot_path="fleet.json", plan_result_path="plan.json")

    assert (done.succeeded, done.plan[:2], done.asked) == (True, MOVES, [])
    assert not (folder / "plan.json").exists()


def test_the_hosts_of_the_inventory_are_left_alone_where_there_is_a_snapshot(folder: Path) -> None:
    done = live(folder, **DRAIN, plan_snapshot_path=str(folder / "parts"))

    assert (done.succeeded, done.plan[:2], done.asked) == (True, MOVES, [])


def test_a_plan_that_is_not_feasible_fails_after_all_has_been_shown_and_written(folder: Path) -> None:
    done = ask(
        folder,
        plan_question="drain",
        plan_hosts="hv1,hv3",
        plan_snapshot_path="fleet.json",
        plan_result_path="plan.json",
    )

    assert (done.succeeded, done.plan[0]) == (False, "no moves")
    assert "The plan is not feasible. db1 stays on hv1: " in done.failure
    assert json.loads((folder / "plan.json").read_text())["feasible"] is False
    assert (folder / "plan.json").stat().st_mode & 0o777 == 0o600


def test_a_plan_that_is_not_feasible_may_be_wanted(folder: Path) -> None:
    wanted = {"plan_snapshot_path": "fleet.json", "plan_allow_infeasible": "true"}
    done = ask(folder, plan_question="drain", plan_hosts=["hv1", "hv3"], **wanted)

    assert (done.succeeded, done.plan[0]) == (True, "no moves")


def test_nobody_is_asked_without_a_question(folder: Path) -> None:
    done = live(folder, plan_hosts="hv1")

    assert "Set plan_question to drain, place, refill, rollout or rebalance, and plan_hosts or plan_vms" in done.failure
    assert ("it is not set." in done.failure, done.asked) == (True, [])


def test_a_host_that_cannot_be_reached_takes_no_part(folder: Path) -> None:
    done = live(folder, states={"hv3": "silent"}, plan_question="place", plan_vms="web1")

    assert (done.succeeded, done.plan[0]) == (True, "web1: hv1 -> hv2, ~9 s")
    assert "hv3 cannot be reached and takes no part: no VM is sent there." in done.output


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ({"hv1": "silent"}, "hv1 cannot be reached: It is silent. Bring the host back and run this again."),
        ({"hv2": "broken"}, "The state of hv2 is not known, so nothing is planned: It is broken."),
    ],
)
def test_nothing_is_planned_without_the_state_of_a_host_that_it_needs(
    folder: Path, states: dict[str, str], message: str
) -> None:
    done = live(folder, states=states, **DRAIN)

    assert (done.succeeded, done.plan, message in done.output) == (False, [], True)


def test_no_host_at_all_is_no_plan(folder: Path) -> None:
    silent = dict.fromkeys(PARTS, "silent")
    done = live(folder, states=silent, plan_question="place", plan_vms="web1")

    assert (done.plan, "None of hv1, hv2, hv3 can be reached: It is silent." in done.failure) == ([], True)


def test_the_request_is_what_the_variables_say(folder: Path) -> None:
    action = folder / "ansible_collections" / "virtops" / "kvm_fleet" / "plugins" / "action" / "placement_plan.py"
    action.write_text(PLANNER)
    options = {"exclude_hosts": ["hv3"], "max_age_s": 60}
    names = {"plan_hosts": "hv1, hv2", "plan_vms": ["db1"], "plan_snapshot_path": "fleet.json"}
    others = {"plan_refill": "none", "plan_max_moves": "5", "plan_options": options}
    done = ask(folder, plan_question="rebalance", **names, **others)

    said = {"question": "rebalance", "hosts": ["hv1", "hv2"], "vms": ["db1"], "max_moves": 5, "options": options}
    expected = {**said, "refill": "none", "snapshot_path": str(folder / "fleet.json")}
    assert (done.succeeded, json.loads((folder / "request.json").read_text())) == (True, expected)
