# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Maintenance of four hosts with forty guests, and of two pools by two controllers at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict

import pytest

from tests.integration.fleet import Fleet, guest
from tests.integration.runner import Ansible, Job
from tests.lab import Lab

pytestmark = pytest.mark.long

HOSTS = ("hv1", "hv2", "hv3", "hv4")
EACH = 10
# Three hosts carry the guests of four, two hosts do not.
ROOM = 14
TASKS = """---
- name: Do nothing
  ansible.builtin.command: "true"
  changed_when: false
"""


def test_forty_guests_move_no_more_than_needed_while_all_hosts_are_maintained(
    lab: Lab, ansible: Ansible, fleet: Fleet, tmp_path: Path
) -> None:
    homes = {f"g{number}": HOSTS[number // EACH] for number in range(EACH * len(HOSTS))}
    # So many that only wait keep the CPUs busy nevertheless.
    fleet.have(*(guest(name, host, memcheck_pause_ms=1000, tick_s=1) for name, host in homes.items()))
    (size,) = {vm["memory_kib"] + vm["overhead_kib"] for vm in ansible.module("hv1", "vm_info")["vms"]}
    memory = ansible.module("hv1", "host_info")["host"]["memory_kib"]
    options = {
        "maintenance_hosts": "all",
        "maintenance_tasks": str(task_file(tmp_path)),
        "maintenance_refill": "leapfrog",
        "maintenance_concurrency": 4,
        "placement_settings": {"reserved": {"memory_kib": memory - ROOM * size}},
    }
    run = ansible.start("virtops.kvm_fleet.maintenance", variables=options).wait(3600)
    assert run.code == 0, run.text
    bounds = run.of("placement_plan")[0].result["plan"]["bounds"]
    # No host is free at first, so the VMs of the first wave move twice.
    assert (bounds["waves"], bounds["moves"]) == (4, 50)
    assert len(run.moved) == bounds["moves"]
    assert set(run.moved) == set(homes)
    for name in homes:
        (end,) = lab.guests.where(name)
        fleet.assert_intact_and_once(name, end.host)
    assert [count_on(lab, host) <= ROOM for host in HOSTS] == [True] * len(HOSTS)


def count_on(lab: Lab, host: str) -> int:
    return len(lab[host].virsh("list", "--name").split())


def test_two_controllers_maintain_a_pool_each_at_the_same_time(
    lab: Lab, ansible: Ansible, fleet: Fleet, tmp_path: Path
) -> None:
    homes = {f"g{number}": host for number, host in enumerate(HOSTS)}
    fleet.have(*(guest(name, host) for name, host in homes.items()))
    tasks = task_file(tmp_path)
    pools = {"p": HOSTS[:2], "q": HOSTS[2:]}
    jobs = {pool: start(ansible, tasks, tmp_path, pool, pools) for pool in pools}
    assert all(job.running for job in jobs.values())
    for pool, job in jobs.items():
        run = job.wait()
        assert run.code == 0, run.text
        assert sorted(run.moved) == sorted(name for name, host in homes.items() if host in pools[pool] for _way in "to")
        done = json.loads((tmp_path / f"{pool}.json").read_text())["results"]
        assert {entry["host"]: entry["outcome"] for entry in done} == dict.fromkeys(pools[pool], "completed")
    for name, host in homes.items():
        fleet.assert_intact_and_once(name, host)
    for host in lab.hosts:
        assert host.run("find /var/lib/kvm_fleet -type f").stdout.split() == ["/var/lib/kvm_fleet/history.json"]


def task_file(folder: Path) -> Path:
    path = folder / "tasks.yml"
    path.write_text(TASKS)
    return path


def start(ansible: Ansible, tasks: Path, folder: Path, pool: str, pools: Dict[str, tuple[str, ...]]) -> Job:
    """Start the maintenance of a pool as a controller does that is limited to its hosts."""
    of_host = {host: name for name, hosts in pools.items() for host in hosts}
    variables = {
        "maintenance_hosts": "all",
        "maintenance_tasks": str(tasks),
        "maintenance_report": str(folder / f"{pool}.json"),
        "placement_settings": {"pool": "{{ " + json.dumps(of_host) + "[inventory_hostname] }}"},
    }
    return ansible.start("virtops.kvm_fleet.maintenance", "--limit", ",".join(pools[pool]), variables=variables)
