# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One lab of three different hosts for all tests: real libvirt, real QEMU, real migrations, nothing mocked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.fleet import Fleet
from tests.integration.runner import Ansible
from tests.lab import Host, HostOptions, Lab

LACKING = {"hv2": ("avx2", "bmi2", "fma"), "hv3": ("rdseed", "sha-ni")}

NOTE = """---
- name: Leave a note
  ansible.builtin.copy:
    content: done
    dest: /etc/kvm_fleet_note
    mode: "0644"
"""


@pytest.fixture(scope="session")
def lab_name() -> str:
    return os.environ.get("KVM_FLEET_TEST_LAB") or "it"


@pytest.fixture(scope="session")
def lab(own_lab: Lab) -> Lab:
    own_lab.up(hosts=3, options={name: HostOptions(without=without) for name, without in LACKING.items()})
    for host in own_lab.hosts:
        _expect_answers_soon(own_lab, host)
    return own_lab


def _expect_answers_soon(lab: Lab, host: Host) -> None:
    """Let libvirtd give up on a silent destination after 12 seconds; its default is 30."""
    conf = "/etc/libvirt/qemu.conf"
    host.run(f"sed -i /^keepalive_/d {conf} && printf 'keepalive_interval = 3\nkeepalive_count = 3\n' >>{conf}")
    lab.faults.kill_libvirtd(host.name)
    lab.faults.start_libvirtd(host.name)


@pytest.fixture(scope="session")
def host_cpus(controller: Ansible) -> dict[str, str]:
    """The CPU that each host can give to guests, as host_info tells it."""
    run = controller.start_tasks("hypervisors", [{"virtops.kvm_fleet.host_info": {}}]).wait()
    assert [result.status for result in run.results] == ["ok"] * 3, run.text
    return {result.host: result.result["cpu_xml"] for result in run.results}


@pytest.fixture(scope="session")
def common_cpu(controller: Ansible, host_cpus: dict[str, str]) -> str:
    """The CPU that all hosts share, as the collection computes it."""
    result = controller.module("hv1", "cpu_baseline", cpus=list(host_cpus.values()))
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
