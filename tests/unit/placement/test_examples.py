# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The examples in docs answer as their page says, and the script makes the fleet that is there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _placement
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._snapshot_files import read_json, read_snapshot
from ansible_collections.virtops.kvm_fleet.plugins.plugin_utils._plan_text import plan_lines

from tests.tools.sync import ROOT

EXAMPLES = ROOT / "docs" / "examples"
PAGE = (EXAMPLES / "README.md").read_text(encoding="utf-8")
FLEET = read_json(EXAMPLES / "fleet-200" / "snapshot.json")

# The commands of the page without the mark of a line that goes on, and what is printed below them
COMMANDS = [block.replace("\\\n", "") for block in re.findall(r"```shell\n(.*?)\n```", PAGE, re.DOTALL)]
SHOWN = re.findall(r"```shell\n(ansible-playbook[^`]*?)\n```\n\n```text\n(.*?)\n```", PAGE, re.DOTALL)


def request_of(command: str) -> tuple[Path, dict[str, Any]]:
    """Return the snapshot and the request of a command with the playbook plan, as that makes it of its variables."""
    words = shlex.split(command)
    said: dict[str, Any] = {}
    for flag, word in pairwise(words):
        if flag == "-e":
            said.update(json.loads(word) if word.startswith("{") else [word.split("=")])
    request = {"question": said["plan_question"], "hosts": said["plan_hosts"].split(",")}
    options = {"options": said["plan_options"]} if "plan_options" in said else {}
    return ROOT / said["plan_snapshot_path"], {**request, **options}


def make(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / "make_fleet.py"), *options, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("command", "shown"), SHOWN)
def test_the_page_shows_what_the_playbook_shows(command: str, shown: str) -> None:
    snapshot, request = request_of(command)

    assert "\n".join(plan_lines(_placement.plan(request, read_json(snapshot)))) == shown


@pytest.mark.parametrize("example", ["three-hosts", "numa-pair"])
def test_the_request_of_an_example_is_the_first_that_its_page_shows(example: str) -> None:
    snapshot, request = next(
        found for found in (request_of(command) for command, _shown in SHOWN) if example in str(found[0])
    )

    assert read_json(EXAMPLES / example / "request.json") == {**request, "snapshot_path": snapshot.name}


def test_the_page_says_why_the_vms_of_the_three_hosts_go_where_they_go() -> None:
    snapshot = read_json(EXAMPLES / "three-hosts" / "snapshot.json")
    answer = _placement.plan({"question": "place", "vms": ["db1", "app1", "web1"]}, snapshot)

    assert {item["vm"]: [(why["host"], why["code"]) for why in item["rejected"]] for item in answer["candidates"]} == {
        "db1": [("hv2", "keep_apart")],
        "app1": [("hv2", "cpu_features")],
        "web1": [("hv3", "networks")],
    }


def test_the_first_command_of_the_page_writes_a_plan(tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    environment = {**os.environ, "ANSIBLE_HOME": str(tmp_path / "home")}
    subprocess.run(shlex.split(COMMANDS[0]), cwd=tmp_path, env=environment, capture_output=True, check=True)

    assert read_json(tmp_path / "plan.json")["feasible"] is True


def test_the_script_makes_the_fleet_of_the_page_byte_for_byte(tmp_path: Path) -> None:
    [command] = [shlex.split(each) for each in COMMANDS if "make_fleet.py --hosts" in each]
    *options, folder = command[2:]
    assert make(tmp_path, *options).returncode == 0

    for name in ("snapshot.json", "request.json"):
        assert (tmp_path / name).read_bytes() == (ROOT / folder / name).read_bytes()


def test_the_fleet_is_a_snapshot_and_its_request_is_about_every_host() -> None:
    request = read_json(EXAMPLES / "fleet-200" / "request.json")
    snapshot = _placement.load(read_snapshot(request, EXAMPLES / "fleet-200"))

    assert (len(snapshot.hosts), len(snapshot.vms) > 1500) == (200, True)
    assert (request["question"], request["refill"]) == ("rollout", "leapfrog")
    assert request["hosts"] == [host.name for host in snapshot.hosts]


def test_the_fleet_is_as_full_as_the_page_says_and_no_host_too_full() -> None:
    room = {host["name"]: host["memory_kib"] - host["reserved"]["memory_kib"] for host in FLEET["hosts"]}
    used: Counter[str] = Counter()
    for vm in FLEET["vms"]:
        used[vm["host"]] += vm["memory_kib"] + vm["overhead_kib"]

    assert all(used[name] <= room[name] for name in room)
    assert sum(used.values()) / sum(room.values()) == pytest.approx(0.72, abs=0.01)


def test_the_fleet_has_pools_groups_that_are_apart_and_vms_that_move_by_hand() -> None:
    policies = [(vm.get("policy", {}), vm["host"]) for vm in FLEET["vms"]]
    members = [(group, host) for policy, host in policies for group in policy.get("keep_apart", ())]

    assert {host["pool"] for host in FLEET["hosts"]} == {"gold", "silver"}
    assert len(members) == len(set(members)) > 100
    assert sum(policy.get("migration") == "manual" for policy, _host in policies) > 20


@pytest.mark.parametrize(("hosts", "fill"), [(4, 0.0), (9, 0.95)])
def test_other_fleets_are_snapshots_too(tmp_path: Path, hosts: int, fill: float) -> None:
    assert make(tmp_path, "--hosts", str(hosts), "--fill", str(fill)).returncode == 0
    snapshot = _placement.load(read_json(tmp_path / "snapshot.json"))

    room = sum((host.memory_kib or 0) - host.reserved_memory_kib for host in snapshot.hosts)
    assert (len(snapshot.hosts), bool(snapshot.vms)) == (hosts, fill > 0)
    assert sum(vm.total_kib for vm in snapshot.vms) >= fill * room


def test_another_seed_makes_another_fleet(tmp_path: Path) -> None:
    for seed in ("1", "2"):
        make(tmp_path / seed, "--hosts", "4", "--seed", seed)

    assert (tmp_path / "1" / "snapshot.json").read_bytes() != (tmp_path / "2" / "snapshot.json").read_bytes()


@pytest.mark.parametrize("options", [("--hosts", "3"), ("--fill", "0.96"), ("--fill", "-0.1")])
def test_a_fleet_that_cannot_be_made_is_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = make(tmp_path / "fleet", *options)

    assert (done.returncode, (tmp_path / "fleet").exists()) == (2, False)
    assert "--hosts must be 4 or more, and --fill between 0 and 0.95" in done.stderr
