# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook `maintenance` over many hosts: waves, failures of some, and nothing that is green after a rescue."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Dict

import pytest

from tests.integration.fleet import CRAWL_MIB_S, Fleet, guest, in_maintenance
from tests.integration.runner import Ansible, Job, Run
from tests.lab import Lab

HISTORY = "/var/lib/kvm_fleet/history.json"

# What a task file needs is there on all hosts but one.
NEEDY = """---
- name: Need what is not there
  ansible.builtin.command: test ! -e /run/kvm_fleet_test_broken
  changed_when: false
"""


def outcomes(report: Path) -> Dict[str, str]:
    return {entry["host"]: entry["outcome"] for entry in json.loads(report.read_text())["results"]}


def pools(**hosts: str) -> Dict[str, Any]:
    """What the inventory would say of the hosts' pools."""
    return {"placement_settings": {"pool": "{{ " + json.dumps(hosts) + "[inventory_hostname] }}"}}


def maintain(ansible: Ansible, *arguments: str, **variables: Any) -> Run:
    """Run the playbook with variables of roles beside its own."""
    own = {f"maintenance_{key}": value for key, value in variables.items() if not key.startswith("placement_")}
    others = {key: value for key, value in variables.items() if key.startswith("placement_")}
    return ansible.start("virtops.kvm_fleet.maintenance", *arguments, variables={**own, **others}).wait()


def test_all_hosts_are_maintained_in_one_run_and_the_next_changes_nothing(
    lab: Lab, ansible: Ansible, fleet: Fleet, note: Path, tmp_path: Path
) -> None:
    fleet.have(guest("a", autostart=True), guest("b", "hv2"), guest("c", "hv3"))
    for name, host in (("a", "hv1"), ("b", "hv2")):
        result = ansible.module(host, "vm_policy", name=name, keep_apart=["ab"])
        assert not result["failed"], result
    report = tmp_path / "report.json"
    options = {"hosts": "all", "tasks": str(note), "report": str(report), "serial": 1}
    before = fleet.picture()
    checked = ansible.maintain("--check", **options)
    assert checked.code == 0, checked.text
    assert "3 waves" in checked.text
    assert fleet.picture() == before
    run = ansible.maintain(**options)
    assert run.code == 0, run.text
    assert outcomes(report) == dict.fromkeys(("hv1", "hv2", "hv3"), "completed")
    waves = [entry["wave"] for entry in json.loads(report.read_text())["results"]]
    assert sorted(waves) == [1, 2, 3]
    assert sorted(run.moved) == ["a", "a", "b", "b", "c", "c"]
    assert never_together(run, {"a": "hv1", "b": "hv2"})
    for name, host in (("a", "hv1"), ("b", "hv2"), ("c", "hv3")):
        fleet.assert_intact_and_once(name, host)
        assert "tasks-" in lab[host].run(["cat", HISTORY]).stdout
        assert not in_maintenance(lab, host)
    second = ansible.maintain(**options)
    assert second.code == 0, second.text
    assert (second.moved, second.changed) == ([], [])
    assert outcomes(report) == dict.fromkeys(("hv1", "hv2", "hv3"), "completed before")


def never_together(run: Run, places: Dict[str, str]) -> bool:
    """Whether two VMs were on one host at no time, not even at the two ends of a move."""
    one, other = places
    for entry in [entry for result in run.of("vm_migrate") for entry in result.result.get("migrations", [])]:
        vm = entry["vm"]
        if vm not in places or entry["outcome"] != "moved":
            continue
        assert places[vm] == entry["source"]
        if places[other if vm == one else one] == entry["destination"]:
            return False
        places[vm] = entry["destination"]
    return True


def test_a_host_that_fails_stops_its_pool_and_no_other(
    lab: Lab, ansible: Ansible, fleet: Fleet, tmp_path: Path
) -> None:
    fleet.have(guest("b", "hv2"))
    tasks, report = tmp_path / "needy.yml", tmp_path / "report.json"
    tasks.write_text(NEEDY)
    options = {"hosts": "all", "tasks": str(tasks), "id": "needy", "report": str(report), "serial": 1}
    options |= pools(hv1="p", hv2="q", hv3="q")
    # hv3 has no VM, so it comes first in its pool.
    lab["hv3"].run(["touch", "/run/kvm_fleet_test_broken"])
    run = maintain(ansible, **options)
    assert run.code != 0, run.text
    assert outcomes(report) == {"hv1": "completed", "hv2": "not done", "hv3": "failed"}
    assert [in_maintenance(lab, host) for host in ("hv1", "hv2", "hv3")] == [False, False, True]
    (error,) = json.loads(report.read_text())["errors"]
    assert (error["phase"], error["hosts"]) == ("reconfigure", ["hv3"])
    fleet.assert_intact_and_once("b", "hv2")
    lab["hv3"].run(["rm", "/run/kvm_fleet_test_broken"])
    again = maintain(ansible, **options)
    assert again.code == 0, again.text
    assert outcomes(report) == {"hv1": "completed before", "hv2": "completed", "hv3": "completed"}
    fleet.assert_intact_and_once("b", "hv2")
    assert not any(in_maintenance(lab, host.name) for host in lab.hosts)


def hurry_until_the_end(job: Job, lab: Lab, vm: str) -> None:
    """Lift the speed limit of whatever migration of a VM comes."""
    while job.running:
        for host in lab.hosts:
            if host.pid() is not None:
                host.virsh("migrate-setspeed", vm, "1000", check=False)
        time.sleep(1)


@pytest.mark.long
def test_a_destination_that_dies_is_replaced_and_the_run_tells_of_it(
    lab: Lab, ansible: Ansible, fleet: Fleet, note: Path, tmp_path: Path
) -> None:
    fleet.have(guest("a"))
    report = tmp_path / "report.json"
    job = ansible.start_maintenance(hosts="hv1", tasks=str(note), report=str(report), bandwidth_mib_s=CRAWL_MIB_S)
    fleet.wait_migrating("a", "hv1")
    (destination,) = [host for host in ("hv2", "hv3") if lab[host].virsh("list", "--all", "--name")]
    lab.faults.power_off(destination)
    hurry_until_the_end(job, lab, "a")
    run = job.wait()
    assert run.code != 0, "a rescued failure is no success"
    assert outcomes(report) == {"hv1": "completed"}
    assert "All hosts are done, but not without failures" in run.text
    fleet.assert_intact_and_once("a", "hv1")
    lab.faults.power_on(destination)
    again = ansible.maintain(hosts="hv1", tasks=str(note))
    assert again.code == 0, again.text
    assert again.changed == []
