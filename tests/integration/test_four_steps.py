# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every changing module: check, run, check again, run again."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Tuple

import pytest

from tests.integration.fleet import Fleet, guest
from tests.integration.runner import Ansible, task
from tests.lab import Lab

Four = Tuple[Dict[str, Any], Dict[str, Any], Dict[str, Any], Dict[str, Any]]

CASES: List[Tuple[str, Dict[str, Any], str]] = [
    ("vm_policy", {"name": "a", "migration": "pinned", "hosts": ["hv1", "hv2"], "home": "here"}, "policy"),
    ("vm_policy", {"name": "a", "migration": "default", "hosts": [], "home": "none"}, "policy"),
    ("vm_cpu", {"name": "a", "cpu": "<cpu mode='custom'><model>Westmere</model></cpu>"}, "restart_required"),
    ("vm_pinning", {"name": "a", "policy": "dedicated"}, "claims"),
    ("host_maintenance", {"state": "entered", "id": "kernel", "reason": "New kernel"}, "already_completed"),
    ("host_maintenance", {"state": "left", "id": "kernel", "completed": True}, "maintenance"),
    ("pool_lease", {"state": "held", "run": "nightly", "purpose": "New kernel"}, "granted"),
    ("pool_lease", {"state": "released", "run": "nightly"}, "holder"),
]


def four_steps(ansible: Ansible, fleet: Fleet, module: str, options: Dict[str, Any]) -> Four:
    before = fleet.picture()
    check = ansible.module("hv1", module, check=True, diff=True, **options)
    assert fleet.picture() == before, f"{module} touched something in check mode"
    run, check_again, run_again = ansible.tasks(
        "hv1",
        task(module, diff=True, **options),
        task(module, check=True, diff=True, **options),
        task(module, diff=True, **options),
    )
    return check, run, check_again, run_again


def assert_four_steps(four: Four) -> None:
    check, run, check_again, run_again = four
    assert not any(step["failed"] for step in four), four
    assert (check["changed"], check.get("planned")) == (True, True)
    assert (run["changed"], "planned" in run) == (True, False)
    assert run["diff"]["before"] != run["diff"]["after"]
    assert (check["diff"]["before"], bool(check["diff"]["after"])) == (
        run["diff"]["before"],
        bool(run["diff"]["after"]),
    )
    for step in (check_again, run_again):
        assert (step["changed"], "planned" in step, "diff" in step) == (False, False, False)


@pytest.mark.parametrize(("module", "options", "key"), CASES, ids=[f"{case[0]}-{n}" for n, case in enumerate(CASES)])
def test_four_steps(ansible: Ansible, fleet: Fleet, module: str, options: Dict[str, Any], key: str) -> None:
    fleet.have(guest("a", autostart=True))
    undo = {"vm_policy": ("home", "here"), "host_maintenance": ("state", "entered"), "pool_lease": ("state", "held")}
    if options.get("home") == "none" or options.get("state") in ("left", "released"):
        # Something must be there to be taken away.
        name, value = undo[module]
        start = {key: options[key] for key in ("name", "id", "run") if key in options}
        assert not ansible.module("hv1", module, **{name: value}, **start)["failed"]
    four = four_steps(ansible, fleet, module, options)
    assert_four_steps(four)
    assert four[0][key] == four[1][key] == four[3][key]


def test_four_steps_of_vm_migrate(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"), guest("b"))
    options = {"moves": [fleet.move("a", "hv2"), fleet.move("b", "hv3")]}
    four = four_steps(ansible, fleet, "vm_migrate", options)
    assert_four_steps(four)
    outcomes = [[entry["outcome"] for entry in step["migrations"]] for step in four]
    assert outcomes == [["would_move"] * 2, ["moved"] * 2, ["already_there"] * 2, ["already_there"] * 2]
    assert json.loads(four[1]["diff"]["after"]) == {"a": "hv2", "b": "hv3"}
    fleet.assert_intact_and_once("a", "hv2")
    fleet.assert_intact_and_once("b", "hv3")
