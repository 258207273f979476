# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Machine types of VMs and the addresses of their devices, on real libvirt."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from tests.integration.fleet import Fleet, guest
from tests.integration.runner import Ansible, task
from tests.integration.test_four_steps import assert_four_steps, four_steps
from tests.lab import Host, Lab

DEFINITION = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='{machine}'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <controller type='scsi' index='0' model='virtio-scsi'/>
    <disk type='file' device='cdrom'><target dev='sda' bus='scsi'/><readonly/></disk>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>
"""
RNG = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
WATCHDOG = "<watchdog model='i6300esb' action='none'/>"
# Asks all hosts for their types, as the documentation shows.
POOL = (
    "{{ dict(groups.hypervisors | zip(groups.hypervisors | map('extract', hostvars, ['described', 'host', "
    "'machine_types']))) | dict2items(key_name='host', value_name='machine_types') }}"
)


@pytest.fixture(scope="session")
def machine_types(controller: Ansible) -> List[str]:
    """What host_info lists."""
    return list(controller.module("hv1", "host_info")["host"]["machine_types"])


def versions(names: List[str], board: str) -> List[str]:
    """QEMU's own types of a board, the oldest first."""
    found = [name for name in names if re.fullmatch(rf"{board}-[0-9.]+", name)]
    return sorted(found, key=lambda name: [int(part) for part in name.rpartition("-")[2].split(".")])


@pytest.fixture
def pc(machine_types: List[str]) -> Tuple[str, str]:
    """The newest type of the board that guests of the lab have, and the one before."""
    before, newest = versions(machine_types, "pc-i440fx")[-2:]
    return newest, before


@pytest.fixture
def q35(machine_types: List[str]) -> Tuple[str, str]:
    before, newest = versions(machine_types, "pc-q35")[-2:]
    return newest, before


@pytest.fixture
def off(lab: Lab, fleet: Fleet, pc: Tuple[str, str], q35: Tuple[str, str]) -> Iterator[List[str]]:
    """Two VMs that are off, on types that are not the newest."""
    fleet.have()
    names = ["off1", "off2"]
    for name, machine in zip(names, [q35[1], pc[1]], strict=True):
        define(lab["hv1"], name, machine)
    yield names
    for name in names:
        fleet.remove(name)


def define(host: Host, name: str, machine: str) -> None:
    xml = DEFINITION.format(name=name, machine=machine)
    host.run(["virsh", "-q", "define", "/dev/stdin"], stdin=xml)


def plug(host: Host, name: str, device: str, scope: str) -> None:
    host.run(["virsh", "-q", "attach-device", name, "/dev/stdin", scope], stdin=device)


def addresses(host: Host, name: str, *flags: str) -> List[str]:
    return re.findall(r"<(?:controller|address) [^/>]*", host.virsh("dumpxml", name, *flags))


def the_vm(result: Dict[str, Any]) -> Dict[str, Any]:
    (vm,) = result["vms"]
    assert isinstance(vm, dict)
    return vm


def test_four_steps(
    lab: Lab, ansible: Ansible, fleet: Fleet, off: List[str], pc: Tuple[str, str], q35: Tuple[str, str]
) -> None:
    before = [addresses(lab["hv1"], name) for name in off]
    vms = [{"name": "off1", "machine": "q35"}, {"name": "off2", "machine": "newest"}]

    four = four_steps(ansible, fleet, "vm_machine_type", {"vms": vms})

    assert_four_steps(four)
    check, run, _check_again, again = four
    assert check["vms"] == run["vms"]
    assert [vm["changed"] for vm in again["vms"]] == [False, False]
    assert [(vm["machine_type"], vm["canonical"], vm["is_alias"]) for vm in run["vms"]] == [
        (name, name, False) for name in (q35[0], pc[0])
    ]
    assert [addresses(lab["hv1"], name) for name in off] == before
    assert run["diff"]["after"] == f"VM off1\n{q35[0]}\nVM off2\n{pc[0]}\n"


def test_a_report_changes_nothing_and_says_what_is_newer(
    ansible: Ansible, fleet: Fleet, off: List[str], pc: Tuple[str, str], q35: Tuple[str, str]
) -> None:
    before = fleet.picture()
    older = {"host": "old", "machine_types": [pc[1], "pc-q35-2.12"]}

    result = ansible.module("hv1", "vm_machine_type", vms=[{"name": name} for name in off], available_on=[older])

    assert (result["changed"], fleet.picture()) == (False, before)
    first, second = result["vms"]
    assert (first["machine_type"], first["missing_on"], first["newer"]) == (q35[1], ["old"], None)
    assert (second["machine_type"], second["missing_on"], second["newer"]) == (pc[1], [], None)
    assert first["addresses"] == second["addresses"] == {"missing": [], "differing": []}
    assert (first["running"], first["restart_required"], first["deprecated"]) == (None, False, False)
    alone = the_vm(ansible.module("hv1", "vm_machine_type", name="off1"))
    assert (alone["newer"], alone["missing_on"]) == (q35[0], [])


def test_a_running_vm_gets_its_machine_type_with_its_next_start(
    lab: Lab, ansible: Ansible, fleet: Fleet, pc: Tuple[str, str]
) -> None:
    fleet.have(guest("a"))
    live, before = lab["hv1"].virsh("dumpxml", "a"), addresses(lab["hv1"], "a", "--inactive")

    run, again = ansible.tasks("hv1", *[task("vm_machine_type", name="a", machine=pc[1])] * 2)

    assert (run["changed"], again["changed"]) == (True, False)
    for result in (run, again):
        vm = the_vm(result)
        assert (vm["machine_type"], vm["running"], vm["restart_required"]) == (pc[1], pc[0], True)
        assert (vm["newer"], vm["addresses"]) == (pc[0], {"missing": [], "differing": []})
    assert lab["hv1"].virsh("dumpxml", "a") == live
    assert addresses(lab["hv1"], "a", "--inactive") == before
    fleet.assert_intact_and_once("a", "hv1")
    lab["hv1"].virsh("destroy", "a")
    lab["hv1"].virsh("start", "a")
    vm = the_vm(ansible.module("hv1", "vm_machine_type", name="a"))
    assert (vm["running"], vm["restart_required"]) == (pc[1], False)
    assert addresses(lab["hv1"], "a") == before
    fleet.remove("a")


def test_a_saved_vm_counts_as_running_and_resumes_with_its_old_type(
    lab: Lab, ansible: Ansible, fleet: Fleet, pc: Tuple[str, str]
) -> None:
    fleet.have(guest("a"))
    lab["hv1"].virsh("managedsave", "a")

    vm = the_vm(ansible.module("hv1", "vm_machine_type", name="a", machine=pc[1]))

    assert (vm["changed"], vm["machine_type"], vm["running"], vm["restart_required"]) == (True, pc[1], pc[0], True)
    lab["hv1"].virsh("start", "a")
    lab.guests.wait_checked("a")
    assert the_vm(ansible.module("hv1", "vm_machine_type", name="a"))["running"] == pc[0]
    fleet.assert_intact_and_once("a", "hv1")
    fleet.remove("a")


def test_devices_that_would_move_with_the_next_start_are_reported(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    host = lab["hv1"]

    def reported() -> Any:
        return the_vm(ansible.module("hv1", "vm_machine_type", name="a"))["addresses"]

    plug(host, "a", RNG, "--live")
    (plugged,) = reported()["differing"]
    assert (plugged["device"], plugged["defined"], plugged["only"]) == ("rng rng0", None, "running")
    assert re.fullmatch(r"pci 0000:00:0[0-9a-f]\.0", plugged["running"])
    # The watchdog takes the place that the other one has in the running VM.
    plug(host, "a", WATCHDOG, "--config")
    plug(host, "a", RNG, "--config")
    found = {each["device"]: each for each in reported()["differing"]}
    assert found["watchdog 1"]["defined"] == plugged["running"]
    assert (found["rng rng0"]["running"], found["rng rng0"]["only"]) == (plugged["running"], None)
    assert found["rng rng0"]["defined"] not in (None, plugged["running"])
    fleet.remove("a")


@pytest.mark.parametrize(
    ("second", "available_on", "error"),
    [
        ({"name": "off2", "machine": "q35"}, [], "machine_board"),
        ({"name": "off2", "machine": "pc-i440fx-99.0"}, [], "machine_type_missing"),
        ({"name": "off2", "machine": "newest"}, [{"host": "old", "machine_types": ["pc-q35-2.12"]}], "no_newest"),
        ({"name": "nobody", "machine": "pc"}, [], "vm_unknown"),
        ({"name": "off1", "machine": "q35"}, [], "bad_input"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_that_is_refused_leaves_all_as_they_were(
    ansible: Ansible,
    fleet: Fleet,
    off: List[str],
    second: Dict[str, Any],
    available_on: List[Dict[str, Any]],
    error: str,
) -> None:
    before = fleet.picture()

    result = ansible.module("hv1", "vm_machine_type", vms=[{"name": "off1"}, second], available_on=available_on)

    assert (result["failed"], result.get("error")) == (True, error), result
    assert fleet.picture() == before


def test_a_type_that_a_host_lacks_is_refused_by_its_name(
    ansible: Ansible, fleet: Fleet, off: List[str], pc: Tuple[str, str], q35: Tuple[str, str]
) -> None:
    hosts = [{"host": "new", "machine_types": [*pc, *q35]}, {"host": "old", "machine_types": [pc[1], q35[1]]}]
    before = fleet.picture()

    refused = ansible.module("hv1", "vm_machine_type", name="off1", machine=q35[0], available_on=hosts)

    assert (refused["error"], refused["missing_on"]) == ("machine_type_missing", ["old"])
    assert f"VM off1 cannot have the machine type {q35[0]}" in refused["msg"]
    assert fleet.picture() == before


def test_newest_is_what_all_hosts_of_a_playbook_have(
    ansible: Ansible, fleet: Fleet, off: List[str], q35: Tuple[str, str]
) -> None:
    modules = [
        {"virtops.kvm_fleet.host_info": {}, "register": "described"},
        {
            "virtops.kvm_fleet.vm_machine_type": {"name": "off1", "machine": "newest", "available_on": POOL},
            "when": "inventory_hostname == 'hv1'",
        },
    ]

    (found,) = ansible.start_tasks("hypervisors", modules).wait().of("vm_machine_type")

    vm = the_vm(found.result)
    assert (vm["changed"], vm["machine_type"], vm["missing_on"]) == (True, q35[0], [])


def test_a_transient_vm_is_reported_but_not_changed(
    lab: Lab, ansible: Ansible, fleet: Fleet, pc: Tuple[str, str]
) -> None:
    fleet.have(guest("a"))
    lab["hv1"].virsh("undefine", "a")

    refused, report = ansible.tasks(
        "hv1", task("vm_machine_type", name="a", machine=pc[1]), task("vm_machine_type", name="a")
    )

    assert (refused["error"], "transient" in refused["msg"]) == ("vm_transient", True)
    vm = the_vm(report)
    assert (vm["canonical"], vm["running"], vm["restart_required"]) == (pc[0], pc[0], False)
    assert vm["addresses"] == {"missing": [], "differing": []}
    fleet.remove("a")
