# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Groups, priority and hot unplug that vm_policy stores with VMs, and who reads them."""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List

import pytest

from tests.integration.fleet import NAMESPACE, Fleet, guest
from tests.integration.runner import Ansible, task
from tests.integration.test_four_steps import assert_four_steps, four_steps
from tests.lab import Lab

GROUPED: Dict[str, Any] = {
    "keep_apart": ["rack1", "db"],
    "keep_together": ["app"],
    "priority": -5,
    "hot_unplug": "refused",
}
TOLD = {**GROUPED, "keep_apart": ["db", "rack1"]}
NOTHING: Dict[str, Any] = {"keep_apart": [], "keep_together": [], "priority": 0, "hot_unplug": None}
# As libvirt has it.
STORED = {"keep_apart": ["db", "rack1"], "keep_together": ["app"], "priority": ["-5"], "hot_unplug": ["refused"]}


def grouped(policy: Dict[str, Any]) -> Dict[str, Any]:
    """The parts of a policy that GROUPED is about."""
    return {key: policy[key] for key in GROUPED}


def kept(lab: Lab, host: str, vm: str, scope: str) -> Dict[str, List[str]]:
    """What libvirt has stored of these parts, by element."""
    text = re.sub(r"<(/?)kvm_fleet:", r"<\1", lab[host].virsh("metadata", vm, NAMESPACE, scope))
    lists = {key: "".join(re.findall(f"<{key}>(.*?)</{key}>", text, re.S)) for key in ("keep_apart", "keep_together")}
    words = {key: re.findall(f"<{key}>(.*?)</{key}>", text) for key in ("priority", "hot_unplug")}
    return {**{key: re.findall("<group>(.*?)</group>", inner) for key, inner in lists.items()}, **words}


def test_groups_priority_and_unplug_are_stored_live_and_persistent_and_told_in_the_snapshot(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    fleet.have(guest("a"), guest("b"))

    four = four_steps(ansible, fleet, "vm_policy", {"name": "a", **GROUPED})

    assert_four_steps(four)
    check, run, _check_again, again = four
    assert [grouped(result["policy"]) for result in (check, run, again)] == [TOLD] * 3
    for result in (check, run):
        before, after = (grouped(json.loads(result["diff"][side])) for side in ("before", "after"))
        assert (before, after) == (NOTHING, TOLD)
    for scope in ("--live", "--config"):
        assert kept(lab, "hv1", "a", scope) == STORED
    snapshot = ansible.module("hv1", "host_info")["snapshot"]
    assert {vm["name"]: grouped(vm["policy"]) for vm in snapshot["vms"]} == {"a": TOLD, "b": NOTHING}


def test_groups_and_priority_survive_other_options_pins_and_a_migration(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    fleet.have(guest("a"))
    done = ansible.tasks(
        "hv1",
        task("vm_policy", name="a", **GROUPED),
        task("vm_policy", name="a", migration="manual", hosts=["hv1", "hv2"], home="here"),
        task("vm_pinning", name="a", policy="none"),
        task("vm_migrate", moves=[fleet.move("a", "hv2")]),
    )
    assert not any(result["failed"] for result in done), done
    fleet.assert_intact_and_once("a", "hv2")
    for scope in ("--live", "--config"):
        assert kept(lab, "hv2", "a", scope) == STORED
    (vm,) = ansible.module("hv2", "vm_info", name=["a"])["vms"]
    assert grouped(vm["policy"]) == TOLD
    assert (vm["policy"]["migration_stored"], vm["policy"]["hosts"]) == ("manual", ["hv1", "hv2"])
    fleet.remove("a")


def test_each_part_of_a_policy_is_taken_away_alone(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    steps = [{"keep_apart": []}, {"priority": 0}, {"keep_together": []}, {"hot_unplug": "default"}]

    first, *results = ansible.tasks("hv1", *[task("vm_policy", name="a", **options) for options in (GROUPED, *steps)])

    expected = grouped(first["policy"])
    for step, result in zip(steps, results, strict=True):
        expected = {**expected, **{key: NOTHING[key] for key in step}}
        assert (result["changed"], grouped(result["policy"])) == (True, expected)
    for flags in ((), ("--inactive",)):
        assert NAMESPACE not in lab["hv1"].virsh("dumpxml", "a", *flags)


@pytest.mark.parametrize(
    "wrong",
    [{"keep_apart": ["db", ""]}, {"keep_together": ["app,web"]}, {"keep_apart": ""}],
    ids=["empty", "comma", "empty text"],
)
def test_a_group_that_cannot_be_leaves_all_policies_as_they_were(
    ansible: Ansible, fleet: Fleet, wrong: Dict[str, Any]
) -> None:
    fleet.have(guest("a"), guest("b"))
    before = fleet.picture()

    result = ansible.module("hv1", "vm_policy", vms=[{"name": "a", "priority": 1}, {"name": "b", **wrong}])

    assert (result["failed"], result["error"], result["vm"]) == (True, "bad_policy", "b"), result
    assert (result["option"], "VM b " in result["msg"]) == (next(iter(wrong)), True)
    assert fleet.picture() == before


@pytest.mark.long
def test_a_plan_obeys_groups_that_are_stored_with_vms(ansible: Ansible, fleet: Fleet) -> None:
    names = {"hv1": "a", "hv2": "b", "hv3": "c"}
    fleet.have(*[guest(name, host) for host, name in names.items()])
    for host, name in names.items():
        assert ansible.module(host, "vm_policy", name=name, keep_apart=["db"])["changed"]

    crowded = drained(ansible)
    assert not ansible.module("hv3", "vm_policy", name="c", keep_apart=[])["failed"]
    free = drained(ansible)

    assert not crowded["feasible"]
    reasons = [reason for item in crowded["unplaced"] for reason in item["reasons"]]
    found = {(reason["host"], reason.get("group")) for reason in reasons if reason["code"] == "keep_apart"}
    assert found == {("hv2", "db"), ("hv3", "db")}
    moves = [move for wave in free["waves"] for step in wave["steps"] for move in step["moves"]]
    assert [(move["vm"], move["destination"]) for move in moves] == [("a", "hv3")]


def drained(ansible: Ansible) -> Dict[str, Any]:
    """The plan that empties hv1 without moves of other VMs, from a snapshot as the hosts are now."""
    variables = {
        "plan_question": "drain",
        "plan_hosts": "hv1",
        "plan_options": {"max_extra_moves": 0},
        "plan_allow_infeasible": True,
    }
    run = ansible.start("virtops.kvm_fleet.plan", variables=variables).wait()
    assert run.code == 0, run.text
    (answer,) = run.of("placement_plan")
    plan: Dict[str, Any] = answer.result["plan"]
    return plan
