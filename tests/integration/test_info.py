# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""host_info and vm_info say what virsh says."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any, Dict

import pytest

from tests.integration.conftest import LACKING
from tests.integration.fleet import Fleet, guest
from tests.integration.runner import Ansible
from tests.lab import GuestSpec, Lab

HOSTS = ("hv1", "hv2", "hv3")


def describe_all(ansible: Ansible) -> Dict[str, Dict[str, Any]]:
    run = ansible.start_tasks("hypervisors", [{"virtops.kvm_fleet.host_info": {}}]).wait()
    assert run.code == 0, run.text
    return {result.host: result.result for result in run.results}


def test_host_is_described_as_virsh_does(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    for name, described in describe_all(ansible).items():
        host, virsh = described["host"], lab[name].virsh
        assert (host["name"], host["uuid"], host["maintenance"]) == (name, lab[name].uuid, False)
        assert f"{host['memory_kib']} KiB" in re.sub(" +", " ", virsh("nodememstats"))
        assert host["migration"]["uri"] == f"qemu+ssh://root@{lab[name].address}/system"
        assert f"libvirt {host['versions']['libvirt']}" in virsh("version")
        assert f"QEMU {host['versions']['qemu']}" in virsh("version")
        capabilities = virsh("capabilities")
        assert host["machine_types"]
        assert all(machine in capabilities for machine in host["machine_types"])
        assert [cell["id"] for cell in host["cells"]] == [
            int(found) for found in re.findall(r"<cell id='(\d)", capabilities)
        ]


def test_vms_are_described_as_virsh_does(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a", autostart=True), guest("p", vcpus=1, max_vcpus=2, pins=((0, "1"),)))
    lab["hv1"].virsh("suspend", "p")
    lab.guests.create(GuestSpec("t"), "hv1")
    lab.guests.define(GuestSpec("off", memory_mib=128), "hv1")
    vms = {vm["name"]: vm for vm in ansible.module("hv1", "vm_info")["vms"]}
    assert sorted(vms) == ["a", "off", "p", "t"]
    for name, vm in vms.items():
        info = dict(re.findall(r"^(\w[\w ()]*): +(.*)$", lab["hv1"].virsh("dominfo", name), re.M))
        state, reason = re.match(r"(.*) \((.*)\)", lab["hv1"].virsh("domstate", name, "--reason")).groups()
        assert (vm["state"].replace("shutoff", "shut off"), vm["reason"]) == (state, reason)
        assert (vm["uuid"], vm["memory_kib"]) == (info["UUID"], int(info["Max memory"].split()[0]))
        assert (vm["persistent"], vm["autostart"]) == (info["Persistent"] == "yes", info["Autostart"] == "enable")
        assert vm["vcpus"]["current"] == int(info["CPU(s)"])
        assert (vm["host"], vm["blockers"]) == ("hv1", [])
    assert vms["p"]["vcpus"]["maximum"] == 2
    assert vms["p"]["pinning"]["vcpus"] == [{"vcpu": 0, "cpus": "1"}]


def test_features_of_a_running_vm_are_among_those_of_its_host(ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a", "hv1"), guest("b", "hv2"), guest("c", "hv3", cpu_xml="<cpu mode='host-model'/>"))
    for described in describe_all(ansible).values():
        cpus = described["snapshot"]["cpus"]
        host = set(cpus[described["host"]["cpu"]]["features"])
        (vm,) = described["snapshot"]["vms"]
        features = set(cpus[vm["cpu"]]["features"])
        assert features, vm
        assert features <= host, features - host


def test_hosts_differ_in_the_features_they_lack(ansible: Ansible, fleet: Fleet) -> None:
    described = describe_all(ansible)
    features = {
        name: set(found["snapshot"]["cpus"][found["host"]["cpu"]]["features"]) for name, found in described.items()
    }
    for name, lacking in LACKING.items():
        assert features["hv1"] - features[name] == set(lacking)


def test_snapshot_part_is_written_to_a_private_file_and_not_returned(
    ansible: Ansible, fleet: Fleet, tmp_path: Path
) -> None:
    fleet.have(guest("a"))
    folder = tmp_path / "snapshot"
    result = ansible.module("hv1", "host_info", snapshot_dir=str(folder))
    assert "snapshot" not in result
    path = Path(result["snapshot_file"])
    assert path == folder / "hv1.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    part = json.loads(path.read_text())
    assert ([host["name"] for host in part["hosts"]], [vm["name"] for vm in part["vms"]]) == (["hv1"], ["a"])


def test_unknown_setting_is_refused_by_name(ansible: Ansible) -> None:
    result = ansible.module("hv1", "host_info", settings={"reserve": {"memory_kib": 1}})
    assert (result["failed"], result["error"]) == (True, "bad_input")
    assert "reserve" in result["msg"]


@pytest.fixture
def three(lab: Lab, fleet: Fleet) -> None:
    fleet.have(guest("a"), guest("b"))
    lab["hv1"].virsh("suspend", "b")
    lab.guests.define(GuestSpec("off"), "hv1")


@pytest.mark.usefixtures("three")
def test_vm_info_filters_by_name_uuid_and_state(ansible: Ansible) -> None:
    def names(**options: Any) -> Any:
        return [vm["name"] for vm in ansible.module("hv1", "vm_info", **options)["vms"]]

    assert names(name=["off", GuestSpec("a").identity]) == ["a", "off"]
    assert names(state=["paused", "shutoff"]) == ["b", "off"]
    assert names(name=["a", "b"], state=["running"]) == ["a"]
    assert names(state=["crashed"]) == []


def test_unknown_vm_is_an_error_that_names_it_and_the_host(ansible: Ansible) -> None:
    result = ansible.module("hv1", "vm_info", name=["nosuch"])
    assert (result["failed"], result["error"]) == (True, "vm_unknown")
    assert "nosuch" in result["msg"]
    assert "hv1" in result["msg"]
