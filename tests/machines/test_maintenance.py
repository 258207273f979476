# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance of full hosts: everything at once with one reboot, and a host that does not come back from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.fleet import Fleet, in_maintenance
from tests.integration.runner import Ansible, Run
from tests.lab import GuestSpec, Lab

pytestmark = pytest.mark.long

HOMES = {"a": "hv1", "b": "hv2"}
# On two full hosts that share few CPUs, a boot takes minutes.
PATIENCE_S = 3600.0
EVERYTHING: dict[str, Any] = {
    "maintenance_hosts": "all",
    "maintenance_serial": 1,
    "maintenance_isolation": True,
    "maintenance_cpu_pool": True,
    "maintenance_reboot_ok": True,
    # They come from no pool, and one after the other.
    "maintenance_plan_options": {"stay_in_pool": False},
    "host_isolation_housekeeping_cores_per_cell": 1,
    "cpu_pool": "gold",
    "cpu_pool_definition": "baseline",
    "cpu_pool_host_mask": True,
}

ISOLATED = "2-3,6-7"
# Before the reboot it would fail.
AFTER = f"""---
- name: See that the CPUs are isolated
  ansible.builtin.command: grep -qx {ISOLATED} /sys/devices/system/cpu/isolated
  changed_when: false
"""

# The host goes off in the middle of its next boot, and only of that.
UNIT = """[Unit]
DefaultDependencies=no
After=local-fs.target
Before=basic.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'rm /etc/systemd/system/sysinit.target.wants/once-off.service; sync; systemctl poweroff -ff'
[Install]
WantedBy=sysinit.target
"""
TASKS = """---
- name: See whether this was done
  ansible.builtin.stat:
    path: /etc/systemd/system/once-off.service
  register: once

- name: Spoil the next boot
  when: not once.stat.exists
  block:
    - name: Write the unit
      ansible.builtin.copy:
        content: "{{ reconfigure_settings.unit }}"
        dest: /etc/systemd/system/once-off.service
        mode: "0644"

    - name: Enable it
      ansible.builtin.command: systemctl enable once-off.service
      changed_when: true

    - name: Ask for a reboot
      ansible.builtin.set_fact:
        reconfigure_reboot_required: true
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A lab of its own, for its hosts are changed for good."""
    with Lab("mitp") as made:
        yield made.up(hosts=2, kind="machine")


@pytest.fixture(scope="module")
def controller(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    """What `ansible` hands out, for this lab."""
    return Ansible(lab.folder / "inventory.yml", tmp_path_factory.mktemp("ansible"))


@pytest.fixture
def fleet(lab: Lab) -> Iterator[Fleet]:
    """A guest on each host."""
    found = Fleet(lab, "")
    for name, host in HOMES.items():
        lab.guests.define(GuestSpec(name), host)
        lab.guests.start(name, host, wait_boot=False)
    for name in HOMES:
        lab.guests.wait_boot(name, timeout=600)
    yield found
    for name in HOMES:
        found.remove(name)


def maintained(ansible: Ansible, variables: dict[str, Any]) -> Run:
    return ansible.start("virtops.kvm_fleet.maintenance", variables=variables).wait(PATIENCE_S)


def done_on(run: Run, task: str) -> list[str]:
    return sorted(found.host for found in run.results if found.task.endswith(task) and found.status == "ok")


def test_isolation_and_pool_with_one_reboot_and_every_guest_at_home(
    lab: Lab, ansible: Ansible, fleet: Fleet, tmp_path: Path
) -> None:
    after = tmp_path / "after.yml"
    after.write_text(AFTER, encoding="utf-8")
    wanted = {**EVERYTHING, "maintenance_tasks_after": str(after)}
    # The features that hv2 has beyond hv1 are hidden from its guests, which needs a reboot as isolation does.
    run = maintained(ansible, wanted)
    assert run.code == 0, run.text
    assert sorted(run.moved) == ["a", "a", "b", "b"]
    for task in (": Reboot the host", "See that the CPUs are isolated"):
        assert done_on(run, task) == ["hv1", "hv2"]
    for name, home in HOMES.items():
        fleet.assert_intact_and_once(name, home)
        described = ansible.module(home, "host_info")["host"]
        assert described["pool"] == "gold"
        assert lab[home].run("cat /sys/devices/system/cpu/isolated").stdout.strip() == ISOLATED
    again = maintained(ansible, wanted)
    assert again.code == 0, again.text
    assert (again.moved, again.changed) == ([], [])


def test_host_that_does_not_come_back_stays_in_maintenance_and_its_guests_where_they_are(
    lab: Lab, ansible: Ansible, fleet: Fleet, tmp_path: Path
) -> None:
    tasks, report = tmp_path / "tasks.yml", tmp_path / "report.json"
    tasks.write_text(TASKS)
    variables = {
        "maintenance_hosts": "hv1",
        "maintenance_tasks": str(tasks),
        "maintenance_settings": {"unit": UNIT},
        "maintenance_reboot_ok": True,
        "maintenance_report": str(report),
        "reconfigure_reboot_timeout": 240,
    }
    run = maintained(ansible, variables)
    assert run.code != 0, run.text
    told = json.loads(report.read_text())
    assert [(entry["host"], entry["outcome"]) for entry in told["results"]] == [("hv1", "failed")]
    (error,) = told["errors"]
    assert (error["phase"], error["hosts"]) == ("reconfigure", ["hv1"])
    assert lab["hv1"].pid() is None
    # What they wrote on hv1 can be read when it is back.
    for name in HOMES:
        lab.guests.wait_ticks(name, timeout=PATIENCE_S)
        assert lab.guests.running_on(name) == ["hv2"]
    lab.faults.power_on("hv1")
    assert in_maintenance(lab, "hv1")
    fleet.assert_all_intact(list(HOMES), "hv2")
    again = maintained(ansible, variables)
    assert again.code == 0, again.text
    assert again.moved == ["a"]
    for name, home in HOMES.items():
        fleet.assert_intact_and_once(name, home)
