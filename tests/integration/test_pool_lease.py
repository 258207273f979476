# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time has a pool: of two at once, of a dead one and its successor, of different controllers."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Dict, List

import pytest

from tests.integration.fleet import Fleet
from tests.integration.runner import Ansible, Job
from tests.lab import Host, Lab
from tests.lab.shell import wait_for

RECORD = "/var/lib/kvm_fleet/lease.json"
RELEASE: Dict[str, Any] = {
    "ansible.builtin.include_role": {"name": "virtops.kvm_fleet.pool_lease", "tasks_from": "release"}
}


def hold(**variables: Any) -> Dict[str, Any]:
    named = {f"pool_lease_{key}": value for key, value in {"pool": "gold", **variables}.items()}
    return {
        "ansible.builtin.include_role": {"name": "virtops.kvm_fleet.pool_lease", "tasks_from": "hold"},
        "vars": named,
    }


def start(ansible: Ansible, *tasks: Dict[str, Any], check: bool = False, **variables: Any) -> Job:
    """Start a play that ends with the first failure, as those of users do."""
    options = ["--check"] if check else []
    return ansible.start_tasks("hypervisors", tasks, *options, ignore_errors=False, vars=variables)


def record(host: Host) -> Dict[str, Any]:
    text = host.run(f"cat {RECORD} 2>/dev/null || echo {{}}").stdout
    found: Dict[str, Any] = json.loads(text)
    return found


def put(host: Host, since: datetime, seconds: int, run: str = "aa-1-other") -> None:
    """Let a run of another controller have the lease."""
    times = [moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in (since, since + timedelta(seconds=seconds))]
    found = {"version": 1, "pool": "gold", "run": run, "owner": "bob@ctl9", "purpose": None, "controller": None}
    text = json.dumps({**found, "since": times[0], "renewed": times[0], "expires": times[1]})
    host.run(f"mkdir -p {Path(RECORD).parent} && echo '{text}' >{RECORD}")


def purposes(lab: Lab) -> List[Any]:
    return [record(host).get("purpose") for host in lab.hosts]


@pytest.fixture(autouse=True)
def _no_lease(fleet: Fleet) -> None:
    """The fleet's hosts are as new for each test."""


def test_of_two_runs_at_once_one_has_the_pool_until_it_is_killed(lab: Lab, ansible: Ansible, tmp_path: Path) -> None:
    never = {
        "ansible.builtin.wait_for": {"path": str(tmp_path / "never")},
        "delegate_to": "localhost",
        "run_once": True,
    }
    jobs = {name: start(ansible, hold(purpose=name), never) for name in ("one", "two")}
    wait_for("one of the runs to stop", lambda: not all(job.running for job in jobs.values()), 180)
    (loser,) = (name for name, job in jobs.items() if not job.running)
    (winner,) = set(jobs) - {loser}
    lost = jobs[loser].wait()
    assert (lost.code, lost.changed) == (2, [])
    assert f"({winner}) has been at work on the hosts of pool gold since" in lost.text
    # Only then it renews no lease any more.
    wait_for("the other to be at work", lambda: "TASK [ansible.builtin.wait_for]" in jobs[winner].text, 60)
    assert purposes(lab) == [winner] * 3

    before = [record(host) for host in lab.hosts]
    checked = start(ansible, hold(purpose="check"), RELEASE, check=True).wait()
    assert (checked.code, [record(host) for host in lab.hosts]) == (0, before)
    assert f"({winner}) has been at work" in checked.text

    jobs[winner].kill()
    again = start(ansible, hold(purpose="again"), hold(purpose="again"), RELEASE).wait()
    assert (again.code, again.changed, purposes(lab)) == (0, [], [None] * 3), again.text
    taken, renewed = (result.result for result in again.of("pool_lease", "hv2")[:2])
    assert [answer["renewed"] for answer in (taken, renewed)] == [False, True]
    assert taken["lease"]["since"] == renewed["lease"]["since"]


def test_a_lease_of_another_controller_ends_by_the_clock_of_its_host(lab: Lab, ansible: Ansible) -> None:
    now = datetime.now(UTC)
    put(lab["hv1"], now - timedelta(hours=1), 60)
    put(lab["hv2"], now + timedelta(days=9999), 600)  # its clock has been set back since
    put(lab["hv3"], now, 600)
    stopped = start(ansible, hold(purpose="one")).wait()
    assert stopped.code == 2
    assert "bob@ctl9 has been at work on the hosts of pool gold" in stopped.text
    assert "as told by hv2, hv3." in stopped.text
    assert record(lab["hv1"]) == {}, "what was granted is given back"

    job = start(ansible, hold(purpose="two", wait_s=300))
    wait_for("the run to wait", lambda: "hv2: waiting up to 300 s for bob@ctl9" in job.text or not job.running, 180)
    assert record(lab["hv1"]) == {}, "whoever waits holds nothing"
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=8)
    put(lab["hv3"], end - timedelta(seconds=600), 600)
    put(lab["hv2"], now + timedelta(days=9999), 3)
    waited = job.wait()
    assert (waited.code, purposes(lab)) == (0, ["two"] * 3), waited.text
    assert datetime.fromisoformat(record(lab["hv3"])["since"]) >= end


def test_hosts_that_cannot_be_reached_are_members_but_not_asked(lab: Lab, ansible: Ansible) -> None:
    port = "{{ 1 if inventory_hostname in silent else 22 }}"
    fewer = {"ansible.builtin.set_fact": {"silent": ["hv1", "hv2"]}}
    run = start(ansible, hold(purpose="one"), fewer, hold(), ansible_port=port, silent=["hv2"]).wait()
    decided = [result.result["ansible_facts"] for result in run.results if "Decide" in result.task]
    verdicts = [facts["pool_lease_verdict"] for facts in decided]
    assert (run.code, [found["state"] for found in verdicts]) == (2, ["held", "stopped"]), run.text
    assert [found["hosts"] for found in verdicts] == [["hv1", "hv3"], ["hv3"]]
    assert "Of the hosts of pool gold only 1 of 3 in this play could be asked for the lease" in run.text
    assert "hv1, hv2 did not answer" in run.text
    assert purposes(lab) == ["one", None, None], "only what cannot be reached keeps its lease"


def test_only_the_pools_of_the_hosts_that_a_run_is_about_are_taken(lab: Lab, ansible: Ansible) -> None:
    put(lab["hv2"], datetime.now(UTC), 600)
    of_silver = record(lab["hv2"])
    pool = "{{ 'silver' if inventory_hostname == 'hv2' else 'gold' }}"
    run = start(ansible, hold(pool=pool, hosts=["hv3"], purpose="one")).wait()
    assert (run.code, purposes(lab)) == (0, ["one", None, "one"]), run.text
    every = start(ansible, hold(pool=pool, purpose="two")).wait()
    assert (every.code, record(lab["hv2"])) == (2, of_silver)
    assert purposes(lab) == [None] * 3, "all pools or none"
