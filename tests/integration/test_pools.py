# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks of CPU pools: what is refused, what is repaired, and what nobody touches.

hv1 has all features, hv2 lacks avx2, bmi2 and fma, hv3 lacks rdseed and sha-ni.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, Optional

import pytest

from tests.integration.fleet import Fleet, guest
from tests.integration.runner import COLLECTION, Ansible, Run
from tests.lab import Lab

RECORD = "/etc/ansible/facts.d/kvm_fleet_pool.fact"
LACKS = {"hv2": ["avx2", "bmi2", "fma"], "hv3": ["rdseed", "sha-ni"]}


@pytest.fixture(autouse=True)
def no_records(lab: Lab, fleet: Fleet) -> Iterator[None]:
    """Every test begins and ends with hosts that are in no pool."""
    remove_records(lab)
    yield
    remove_records(lab)


def remove_records(lab: Lab) -> None:
    for host in lab.hosts:
        host.run(f"umount {RECORD} 2>/dev/null; rm -rf {RECORD}", check=False)


def pools(ansible: Ansible, where: Dict[str, Optional[str]], *arguments: str, **variables: Any) -> Run:
    """Run the playbook `pools` with each host in its pool; variables are given without their prefix."""
    named = {f"cpu_pool_{key}": value for key, value in variables.items()}
    chosen = {"cpu_pool": "{{ where[inventory_hostname] | default(none) }}", "where": where}
    return ansible.start(f"{COLLECTION}.pools", *arguments, variables={**named, **chosen}).wait()


def records(lab: Lab) -> Dict[str, Any]:
    texts = {host.name: host.run(f"cat {RECORD}", check=False).stdout for host in lab.hosts}
    return {name: json.loads(text) for name, text in texts.items() if text}


def state(lab: Lab) -> Dict[str, Any]:
    """Pool and generation of each host that is in one."""
    return {name: (record["pool"], record["generation"]) for name, record in records(lab).items()}


def stat(ansible: Ansible) -> Dict[str, Any]:
    """What the playbook `pool_stat` says."""
    run = ansible.start(f"{COLLECTION}.pool_stat").wait()
    assert run.code == 0, run.text
    return dict(run.of("cpu_pool_plan")[-1].result)


def refusals(run: Run) -> Dict[str, Any]:
    """Codes of the refusals by host."""
    assert run.code != 0, run.text
    return {found["host"]: found for found in run.of("cpu_pool_plan")[-1].result["refusals"]}


def test_check_mode_touches_nothing_and_a_second_run_changes_nothing(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have()
    before = fleet.picture()
    where = {"hv1": "gold", "hv2": "gold"}
    planned = pools(ansible, where, "--check", "--diff", definition="{{ 'baseline' if cpu_pool else none }}")
    assert planned.code == 0, planned.text
    assert "gold" in planned.text
    diff = planned.of("cpu_pool", "hv1")[0].result["diff"]
    assert ["<cpu mode=" in json.dumps(diff[side]) for side in ("before", "after")] == [False, True]
    assert (fleet.picture(), records(lab)) == (before, {})
    first = pools(ansible, where, definition="{{ 'baseline' if cpu_pool else none }}")
    assert first.code == 0, first.text
    assert state(lab) == {"hv1": ("gold", 1), "hv2": ("gold", 1), "hv3": ("default_amd0", 1)}
    features = records(lab)["hv1"]["cpu"]["features"]
    assert set(LACKS["hv2"]).isdisjoint(features)
    assert set(LACKS["hv3"]) <= set(features)
    again = pools(ansible, where, definition="{{ 'baseline' if cpu_pool else none }}")
    assert (again.code, again.changed) == (0, []), again.text


@pytest.mark.long
def test_a_weaker_host_is_refused_until_the_pool_is_recalculated(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have()
    assert pools(ansible, {"hv1": "gold", "hv2": "silver"}, recalc="gold").code == 0
    weaker = pools(ansible, {"hv1": "gold", "hv2": "gold"})
    found = refusals(weaker)
    assert {name: entry["code"] for name, entry in found.items()} == {"hv2": "lacks_features"}
    assert all(feature in found["hv2"]["msg"] for feature in LACKS["hv2"])
    assert state(lab) == {"hv1": ("gold", 1), "hv2": ("silver", 1), "hv3": ("default_amd0", 1)}
    lowered = pools(ansible, {"hv1": "gold", "hv2": "gold"}, recalc="gold")
    assert lowered.code == 0, lowered.text
    assert state(lab) == {"hv1": ("gold", 2), "hv2": ("gold", 2), "hv3": ("default_amd0", 1)}
    assert records(lab)["hv1"]["cpu"] == records(lab)["hv2"]["cpu"]


def test_a_host_whose_vms_have_more_is_refused_or_joins_and_they_are_named(
    lab: Lab, ansible: Ansible, fleet: Fleet, host_cpus: Dict[str, str]
) -> None:
    fleet.have(guest("rich", cpu_xml=host_cpus["hv1"]))
    found = refusals(pools(ansible, {"hv1": "gold"}))
    assert (list(found), found["hv1"]["code"]) == (["hv1"], "running_vms")
    assert "rich" in found["hv1"]["msg"]
    assert "avx2" in found["hv1"]["msg"]
    assert "hv1" not in state(lab)
    reported = pools(ansible, {"hv1": "gold"}, running_vms="report")
    assert reported.code == 0, reported.text
    listed = reported.of("cpu_pool_plan")[-1].result["restart_required"]
    assert [(entry["vm"], entry["host"], "avx2" in entry["features"]) for entry in listed] == [("rich", "hv1", True)]
    assert [vm["restart_required"] for vm in reported.of("vm_cpu", "hv1")[0].result["vms"]] == [True]
    fleet.assert_intact_and_once("rich", "hv1")


@pytest.mark.long
def test_a_run_that_was_cut_off_between_two_hosts_is_finished_by_the_next(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    fleet.have()
    where = {"hv1": "gold", "hv2": "gold", "hv3": "gold"}
    assert pools(ansible, where).code == 0
    # hv3 misses the write, as if the run had ended before it.
    old = lab["hv3"].run(f"cat {RECORD}").stdout
    assert pools(ansible, where, recalc="gold").code == 0
    lab["hv3"].run(f"cat >{RECORD}", stdin=old)
    assert {name: generation for name, (_pool, generation) in state(lab).items()} == {"hv1": 2, "hv2": 2, "hv3": 1}
    assert [pool["status"] for pool in stat(ansible)["pools"]] == ["incomplete"]
    repaired = pools(ansible, where)
    assert repaired.code == 0, repaired.text
    assert [result.host for result in repaired.of("cpu_pool") if result.changed] == ["hv3"]
    assert len({json.dumps(record["cpu"]) for record in records(lab).values()}) == 1
    assert set(state(lab).values()) == {("gold", 2)}


@pytest.mark.long
def test_a_member_that_does_not_answer_keeps_its_pool_as_it_is_and_others_go_on(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    fleet.have()
    assert pools(ansible, {"hv1": "gold", "hv2": "gold"}).code == 0
    lab.faults.kill_libvirtd("hv2")
    try:
        run = pools(ansible, {"hv1": "gold", "hv2": "gold", "hv3": "silver"}, recalc="gold")
    finally:
        lab.faults.start_libvirtd("hv2")
    assert run.code != 0
    assert "hv2" in run.text
    assert [entry["code"] for entry in run.of("cpu_pool_plan")[-1].result["refusals"]] == ["member_unavailable"]
    assert state(lab) == {"hv1": ("gold", 1), "hv2": ("gold", 1), "hv3": ("silver", 1)}


def test_nothing_ends_well_while_the_host_in_question_does_not_answer(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have()
    lab.faults.kill_libvirtd("hv2")
    try:
        alone = pools(ansible, {"hv2": "gold"}, "--limit", "hv2")
        shown = ansible.start(f"{COLLECTION}.pool_stat").wait()
        asked = {"pool_preview_pool": "gold", "pool_preview_with": "hv2"}
        previewed = ansible.start(f"{COLLECTION}.pool_preview", variables=asked).wait()
    finally:
        lab.faults.start_libvirtd("hv2")
    assert "No host answers" in alone.text
    assert "hv2 did not answer" in shown.text
    assert "names hv2" in previewed.text
    assert [run.code == 0 for run in (alone, shown, previewed)] == [False] * 3
    assert [len(run.of("cpu_pool_plan")) for run in (alone, shown, previewed)] == [0, 1, 0]


@pytest.mark.long
def test_only_the_hosts_in_question_change_and_a_record_that_cannot_be_written_is_told(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    fleet.have()
    assert pools(ansible, {"hv1": "gold", "hv2": "gold", "hv3": "gold"}).code == 0
    before = state(lab)
    where = {"hv1": "silver", "hv2": "silver", "hv3": "gold"}
    assert pools(ansible, where, only="hv11").changed == []
    assert state(lab) == before
    # No file can take the place of a mount point.
    lab["hv3"].run(f"mount --bind {RECORD} {RECORD}")
    cut = pools(ansible, where, only="hv1")
    assert cut.code != 0
    assert [result.host for result in cut.of("cpu_pool") if result.result.get("failed")] == ["hv3"]
    assert state(lab) == {"hv1": ("silver", 1), "hv2": ("gold", 2), "hv3": ("gold", 1)}
    lab["hv3"].run(f"umount {RECORD}")
    assert pools(ansible, where, only="hv1").code == 0
    assert state(lab) == {"hv1": ("silver", 1), "hv2": ("gold", 2), "hv3": ("gold", 2)}


def test_records_of_a_newer_release_are_refused_and_kept(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have()
    newer = '{"version": 99, "pool": "gold"}\n'
    lab["hv1"].run(f"mkdir -p $(dirname {RECORD}) && cat >{RECORD}", stdin=newer)
    run = pools(ansible, {"hv1": "gold", "hv2": "silver"})
    assert {name: entry["code"] for name, entry in refusals(run).items()} == {"hv1": "record_version"}
    assert lab["hv1"].run(f"cat {RECORD}").stdout == newer
    assert records(lab)["hv2"]["pool"] == "silver"


@pytest.mark.long
def test_a_host_changes_its_pool_in_a_maintenance(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("mover", "hv2"))
    where = {"hv1": "gold", "hv2": "silver", "hv3": "gold"}
    assert pools(ansible, where, definition="baseline", running_vms="report").code == 0
    variables = {
        "maintenance_hosts": "hv2",
        "maintenance_cpu_pool": True,
        "maintenance_plan_options": {"stay_in_pool": False},
        "cpu_pool": "gold",
        "cpu_pool_definition": "baseline",
    }
    before = (fleet.picture(), records(lab))
    planned = ansible.start(f"{COLLECTION}.maintenance", "--check", variables=variables).wait()
    assert planned.code == 0, planned.text
    assert (fleet.picture(), records(lab)) == before
    done = ansible.start(f"{COLLECTION}.maintenance", variables=variables).wait()
    assert done.code == 0, done.text
    assert len(done.moved) == 2
    assert state(lab) == {"hv1": ("gold", 2), "hv2": ("gold", 2), "hv3": ("gold", 2)}
    assert set(LACKS["hv2"] + LACKS["hv3"]).isdisjoint(records(lab)["hv2"]["cpu"]["features"])
    fleet.assert_intact_and_once("mover", "hv2")
    again = ansible.start(f"{COLLECTION}.maintenance", variables=variables).wait()
    assert (again.code, again.changed) == (0, []), again.text


@pytest.mark.long
def test_what_has_changed_since_the_proof_is_shown_and_recorded(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have()
    assert pools(ansible, {"hv1": "gold"}).code == 0
    record = records(lab)["hv1"]
    record["proven"]["versions"]["kernel"] = "5.0.0"
    record["proven"]["features"] = sorted([*record["proven"]["features"], "avx512f"])
    lab["hv1"].run(f"cat >{RECORD}", stdin=json.dumps(record))
    drift = {host["name"]: host["drift"] for host in stat(ansible)["hosts"]}
    assert drift["hv2"] is None
    assert [(entry["name"], entry["before"]) for entry in drift["hv1"]["versions"]] == [("kernel", "5.0.0")]
    assert (drift["hv1"]["lost"], drift["hv1"]["pool_lost"]) == (["avx512f"], [])
    assert pools(ansible, {"hv1": "gold"}).code == 0
    assert {host["name"]: host["drift"] for host in stat(ansible)["hosts"]}["hv1"] is None
    assert state(lab)["hv1"] == ("gold", 1)


@pytest.mark.parametrize(
    ("pool", "definition", "code"),
    [
        ("", None, "pool_name"),
        ("a/b", None, "pool_name"),
        ("default_amd1", None, "default_pool"),
        ("gold", "no-such-tier", "definition"),
    ],
)
def test_a_pool_that_cannot_be_is_one_clear_error(
    lab: Lab, ansible: Ansible, fleet: Fleet, pool: str, definition: Optional[str], code: str
) -> None:
    fleet.have()
    run = pools(ansible, {"hv1": pool}, "--limit", "hv1", definition=definition)
    assert {entry["code"] for entry in refusals(run).values()} == {code}
    assert "hv1" not in state(lab)


def test_a_recalculation_of_a_pool_that_does_not_exist_fails(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have()
    run = pools(ansible, {"hv1": "gold"}, "--limit", "hv1", recalc="glod")
    assert [entry["code"] for entry in refusals(run).values()] == ["pool_name"]
    assert state(lab) == {"hv1": ("gold", 1)}
