# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The CPU that all hosts share, and what becomes of wrong input."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from tests.integration.conftest import LACKING
from tests.integration.fleet import Fleet, guest
from tests.integration.runner import Ansible, task
from tests.lab import GuestSpec, Lab

BOMB = "<!DOCTYPE cpu [<!ENTITY a 'aaaaaaaaaa'>" + "".join(
    f"<!ENTITY {new} '{f'&{old};' * 10}'>" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
) + "]><cpu><model>&i;</model></cpu>"  # fmt: skip
FILE = "<!DOCTYPE cpu [<!ENTITY f SYSTEM 'file:///etc/hostname'>]><cpu><model>&f;</model></cpu>"
WRONG = {
    "nothing": "",
    "no_xml": "Haswell",
    "cut_off": "<cpu><model>Haswell",
    "another_element": "<domain/>",
    "unknown_model": "<cpu mode='custom'><model>Nonesuch</model></cpu>",
    "unknown_feature": "<cpu mode='custom'><model>Westmere</model><feature policy='require' name='nonesuch'/></cpu>",
    "entity_bomb": BOMB,
    "external_entity": FILE,
}


def test_baseline_is_the_intersection_of_all_hosts(
    ansible: Ansible, host_cpus: Dict[str, str], common_cpu: str
) -> None:
    run = ansible.start_tasks("hypervisors", [{"virtops.kvm_fleet.host_info": {}}]).wait()
    features = [
        set(result.result["snapshot"]["cpus"][result.result["host"]["cpu"]]["features"]) for result in run.results
    ]
    baseline = ansible.module("hv1", "cpu_baseline", cpus=list(host_cpus.values()))
    assert set(baseline["features"]) == set.intersection(*features)
    assert baseline["cpu_xml"] == common_cpu


def test_guest_with_the_baseline_runs_on_every_host(lab: Lab, ansible: Ansible, fleet: Fleet, common_cpu: str) -> None:
    run = ansible.start_tasks("hypervisors", [task("cpu_compare", cpu=common_cpu)]).wait()
    assert [result.result["result"] in ("superset", "identical") for result in run.results] == [True] * 3
    fleet.have(guest("a"))
    for source, destination in (("hv1", "hv2"), ("hv2", "hv3")):
        moved = ansible.module(source, "vm_migrate", moves=[fleet.move("a", destination)], record_home=False)
        assert moved["migrations"][0]["outcome"] == "moved"
        fleet.assert_intact_and_once("a", destination)


@pytest.mark.parametrize("host", sorted(LACKING))
def test_comparison_names_the_missing_features(ansible: Ansible, host_cpus: Dict[str, str], host: str) -> None:
    result = ansible.module(host, "cpu_compare", cpu=host_cpus["hv1"])
    assert (result["result"], result["missing"]) == ("incompatible", sorted(LACKING[host]))
    assert not result["failed"]


def test_wrong_cpu_is_one_clear_error(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    before = fleet.picture()
    tasks = {}
    for name, xml in WRONG.items():
        tasks[f"cpu_baseline {name}"] = task("cpu_baseline", cpus=[xml])
        tasks[f"cpu_compare {name}"] = task("cpu_compare", cpu=xml)
        tasks[f"vm_cpu {name}"] = task("vm_cpu", name="a", cpu=xml)
    results = dict(zip(tasks, ansible.tasks("hv1", *tasks.values()), strict=True))
    results["cpu_baseline of no CPU"] = ansible.module("hv1", "cpu_baseline", cpus=[])
    assert {name: result for name, result in results.items() if not is_clear_error(result)} == {}
    assert fleet.picture() == before


def test_unknown_cpu_is_not_written_to_a_vm_that_is_off(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have()
    lab.guests.define(GuestSpec("off"), "hv1")
    before = fleet.picture()
    for name in ("unknown_model", "unknown_feature"):
        result = ansible.module("hv1", "vm_cpu", name="off", cpu=WRONG[name])
        assert (result["failed"], result["error"]) == (True, "bad_cpu"), result
    assert fleet.picture() == before


def is_clear_error(result: Dict[str, Any]) -> bool:
    message = str(result.get("msg"))
    return bool(result["failed"]) and "error" in result and "Traceback" not in message and len(message) < 500
