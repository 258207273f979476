# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One lab of three different hosts for all tests: real libvirt, real QEMU, real migrations, nothing mocked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import pytest

from tests.integration.fleet import Fleet
from tests.integration.runner import Ansible
from tests.lab import Host, HostOptions, Lab
from tests.lab.shell import file_lock

NAME = os.environ.get("KVM_FLEET_TEST_LAB") or "it"
LACKING = {"hv2": ("avx2", "bmi2", "fma"), "hv3": ("rdseed", "sha-ni")}

NOTE = """---
- name: Leave a note
  ansible.builtin.copy:
    content: done
    dest: /etc/kvm_fleet_note
    mode: "0644"
"""


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    # Two runs at once would break each other's hosts.
    with file_lock(Path(f"/run/lock/kvm_fleet_tests.{NAME}")):
        made = Lab(NAME)
        found = bool(made.leftovers())
        made.up(hosts=3, options={name: HostOptions(without=without) for name, without in LACKING.items()})
        for host in made.hosts:
            _expect_answers_soon(made, host)
        yield made
        # A lab that was there before stays, for whoever repeats single tests.
        if not found:
            for host in made.hosts:
                made.faults.power_off(host.name)
            made.down()


def _expect_answers_soon(lab: Lab, host: Host) -> None:
    """Let libvirtd give up on a silent destination after 12 seconds; its default is 30."""
    conf = "/etc/libvirt/qemu.conf"
    host.run(f"sed -i /^keepalive_/d {conf} && printf 'keepalive_interval = 3\nkeepalive_count = 3\n' >>{conf}")
    lab.faults.kill_libvirtd(host.name)
    lab.faults.start_libvirtd(host.name)


@pytest.fixture(scope="session")
def _ansible(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    return Ansible(lab.folder / "inventory.yml", tmp_path_factory.mktemp("ansible"))


@pytest.fixture
def ansible(_ansible: Ansible) -> Iterator[Ansible]:
    """A controller whose playbooks end with the test."""
    yield _ansible
    _ansible.kill_jobs()


@pytest.fixture(scope="session")
def host_cpus(_ansible: Ansible) -> dict[str, str]:
    """The CPU that each host can give to guests, as host_info tells it."""
    run = _ansible.start_tasks("hypervisors", [{"virtops.kvm_fleet.host_info": {}}]).wait()
    assert run.code == 0, run.text
    return {result.host: result.result["cpu_xml"] for result in run.results}


@pytest.fixture(scope="session")
def common_cpu(_ansible: Ansible, host_cpus: dict[str, str]) -> str:
    """The CPU that all hosts share, as the collection computes it."""
    result = _ansible.module("hv1", "cpu_baseline", cpus=list(host_cpus.values()))
    assert not result.get("failed"), result
    return str(result["cpu_xml"])


@pytest.fixture(scope="session")
def _fleet(lab: Lab, common_cpu: str) -> Fleet:
    return Fleet(lab, common_cpu)


@pytest.fixture
def fleet(_fleet: Fleet) -> Fleet:
    """The hosts, whole again after whatever the test before broke."""
    _fleet.reset()
    return _fleet


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """A task file that leaves a file on the host."""
    path = tmp_path / "note.yml"
    path.write_text(NOTE)
    return path
