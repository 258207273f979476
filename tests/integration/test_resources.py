# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What VMs consist of, their CPUs and their policies, each for several VMs in one call."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List

import pytest

from tests.integration.fleet import NAMESPACE, Fleet, guest
from tests.integration.runner import Ansible, task
from tests.integration.test_four_steps import assert_four_steps, four_steps
from tests.lab import Lab

DEFINITION = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <vcpu>{vcpus}</vcpu>
  {parts}
  <os><type arch='x86_64' machine='q35'>hvm</type></os>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices>
</domain>
"""
SHAPE: Dict[str, Any] = {
    "vcpus": {"maximum": 4, "current": 2, "topology": {"threads": 2}},
    "cells": 2,
    "huge_pages_kib": 2048,
    "iothreads": 2,
}
PINS = "<cputune><vcpupin vcpu='3' cpuset='0'/></cputune>"


@pytest.fixture
def off(lab: Lab, fleet: Fleet) -> Iterator[List[str]]:
    """Two VMs that are off and a third with a pin."""
    fleet.have()
    names = ["off1", "off2", "pinned"]
    for name in names:
        define(lab, name, 4 if name == "pinned" else 2, PINS if name == "pinned" else "")
    yield names
    for name in names:
        fleet.remove(name)


def define(lab: Lab, name: str, vcpus: int = 2, parts: str = "") -> None:
    xml = DEFINITION.format(name=name, vcpus=vcpus, parts=parts)
    lab["hv1"].run(f"cat >/tmp/{name}.xml <<'END'\n{xml}\nEND\nvirsh -q define /tmp/{name}.xml")


def test_four_steps(ansible: Ansible, fleet: Fleet, off: List[str]) -> None:
    # The second cell of the second VM has memory alone.
    uneven = [{"vcpus": "0-1", "memory_kib": 32768}, {"vcpus": "", "memory_kib": 32768}]
    vms = [{"name": "off1", **SHAPE}, {"name": "off2", "iothreads": 1, "cells": uneven}]

    four = four_steps(ansible, fleet, "vm_resources", {"vms": vms})

    assert_four_steps(four)
    check, run, _check_again, again = four
    assert check["vms"] == run["vms"]
    assert [vm["changed"] for vm in again["vms"]] == [False, False]
    first, second = run["vms"]
    assert first["vcpus"] == {
        "maximum": 4,
        "current": 2,
        "topology": {"sockets": 1, "dies": 1, "cores": 2, "threads": 2},
    }
    assert [(cell["vcpus"], cell["memory_kib"]) for cell in first["cells"]] == [("0-1", 32768), ("2-3", 32768)]
    assert (first["huge_pages_kib"], first["iothreads"], second["iothreads"]) == (2048, [1, 2], [1])
    assert [(cell["vcpus"], cell["memory_kib"]) for cell in second["cells"]] == [("0-1", 32768), ("", 32768)]
    assert (first["restart_required"], first["difference"]) == (False, None)
    assert "off1 does not start here" in " ".join(run["warnings"])
    undone = ansible.module(
        "hv1", "vm_resources", name="off1", cells=0, huge_pages_kib=0, iothreads=0,
        vcpus={"maximum": 2, "topology": {"sockets": 2}},
    )  # fmt: skip
    assert (undone["changed"], undone["vms"][0]["cells"], undone["vms"][0]["iothreads"]) == (True, [], [])


def test_a_running_vm_gets_its_shape_with_its_next_start(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    before = lab["hv1"].virsh("dumpxml", "a")

    run, again = ansible.tasks("hv1", *[task("vm_resources", name="a", vcpus={"maximum": 4}, iothreads=1)] * 2)

    assert (run["changed"], again["changed"]) == (True, False)
    difference = {
        "maximum": {"running": 1, "defined": 4},
        "topology": {
            "running": {"sockets": 1, "dies": 1, "cores": 1, "threads": 1},
            "defined": {"sockets": 4, "dies": 1, "cores": 1, "threads": 1},
        },
        "iothreads": {"running": [], "defined": [1]},
    }
    for result in (run, again):
        (vm,) = result["vms"]
        assert (vm["restart_required"], vm["difference"]) == (True, difference)
    assert lab["hv1"].virsh("dumpxml", "a") == before
    fleet.assert_intact_and_once("a", "hv1")
    fleet.remove("a")


@pytest.mark.parametrize(
    ("vms", "error"),
    [
        ([{"name": "off1", "iothreads": 1}, {"name": "off2", "cells": 3}], "cells"),
        ([{"name": "off1", "iothreads": 1}, {"name": "pinned", "vcpus": {"maximum": 2, "current": 2}}], "pins_left"),
        ([{"name": "off1", "iothreads": 1}, {"name": "nobody", "iothreads": 1}], "vm_unknown"),
        ([{"name": "off1", "iothreads": 1}, {"name": "off1", "iothreads": 2}], "bad_input"),
        ([{"name": "off1", "iothreads": 1}, {"name": "off2", "cells": "many"}], "bad_options"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_that_is_refused_leaves_all_as_they_were(
    ansible: Ansible, fleet: Fleet, off: List[str], vms: List[Dict[str, Any]], error: str
) -> None:
    before = fleet.picture()

    result = ansible.module("hv1", "vm_resources", vms=vms)

    assert (result["failed"], result.get("error")) == (True, error), result
    assert fleet.picture() == before


def test_a_failure_in_the_middle_is_changed_back(ansible: Ansible, fleet: Fleet, off: List[str]) -> None:
    before = fleet.picture()
    # More than libvirt accepts, which only it knows.
    vms = [{"name": "off1", "iothreads": 1}, {"name": "off2", "vcpus": {"maximum": 100000}}]

    result = ansible.module("hv1", "vm_resources", vms=vms)

    assert (result["error"], result["rolled_back"], result["not_rolled_back"]) == ("define_refused", True, [])
    assert "Everything was put back as it was" in result["msg"]
    assert fleet.picture() == before


def test_pins_of_what_goes_go_if_asked_for(lab: Lab, ansible: Ansible, off: List[str]) -> None:
    options = {"name": "pinned", "vcpus": {"maximum": 2, "current": 2}, "drop_pins": True}

    run, again = ansible.tasks("hv1", *[task("vm_resources", diff=True, **options)] * 2)

    assert (run["changed"], again["changed"]) == (True, False)
    assert "vcpupin" in run["diff"]["before"]
    assert "vcpupin" not in lab["hv1"].virsh("dumpxml", "pinned", "--inactive")


def test_a_transient_vm_is_refused(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    lab["hv1"].virsh("undefine", "a")

    result = ansible.module("hv1", "vm_resources", name="a", iothreads=1)

    assert (result["error"], "transient" in result["msg"]) == ("vm_transient", True)
    fleet.remove("a")


def test_policies_of_several_vms(lab: Lab, ansible: Ansible, fleet: Fleet, off: List[str]) -> None:
    fleet.have(guest("a"))
    for name in off:
        define(lab, name)
    vms = [
        {"name": "off1", "migration": "pinned"},
        {"name": "a", "hosts": ["hv1", "hv2"], "home": "here"},
        {"name": "off2", "migration": "default"},
    ]

    four = four_steps(ansible, fleet, "vm_policy", {"vms": vms})

    assert_four_steps(four)
    found = [(vm["name"], vm["changed"], vm["migration"], vm["policy"]["hosts"]) for vm in four[1]["vms"]]
    assert found == [
        ("off1", True, "pinned", []),
        ("a", True, "automatic", ["hv1", "hv2"]),
        ("off2", False, "automatic", []),
    ]
    assert four[3]["vms"][1]["policy"]["home"]["name"] == "hv1"


def test_a_running_vm_and_its_definition_keep_what_only_one_of_them_has(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    fleet.have(guest("a"))
    for scope, cpus in (("--live", "0-1"), ("--config", "0")):
        policy = f"<policy version='1'><following cpus='{cpus}'/></policy>"
        lab["hv1"].virsh("metadata", "a", NAMESPACE, "--key", "kvm_fleet", "--set", policy, scope)

    result = ansible.module("hv1", "vm_policy", name="a", migration="manual")

    assert result["changed"]
    found = [lab["hv1"].virsh("metadata", "a", NAMESPACE, scope) for scope in ("--live", "--config")]
    assert ["manual" in text for text in found] == [True, True]
    assert ['"0-1"' in text.replace("'", '"') for text in found] == [True, False]


def test_cpus_of_several_vms(ansible: Ansible, fleet: Fleet, off: List[str]) -> None:
    vms = [
        {"name": "off1", "model": "Westmere"},
        {"name": "off2", "cpu": "<cpu mode='custom'><model>Nehalem</model></cpu>"},
        {"name": "pinned", "mode": "host-model"},
    ]

    four = four_steps(ansible, fleet, "vm_cpu", {"vms": vms})

    assert_four_steps(four)
    xml = [vm["cpu_xml"] for vm in four[1]["vms"]]
    assert ("Westmere" in xml[0], "Nehalem" in xml[1], "host-model" in xml[2]) == (True, True, True)
    refused = ansible.tasks(
        "hv1",
        task("vm_cpu", vms=[{"name": "off1", "mode": "host-model"}, {"name": "off1", "model": "Nehalem"}]),
        task("vm_cpu", vms=[{"name": "off1", "model": "Nehalem"}, {"name": "off2", "model": "None such"}]),
        task("vm_cpu", vms=[{"name": "off1"}]),
    )
    assert [result["failed"] for result in refused] == [True] * 3
    assert [result.get("error") for result in refused] == ["bad_input", "bad_cpu", None]
