# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The number of vCPUs of guests that QEMU emulates: they use no vCPU that comes, and libvirt sees none that goes.

Linux uses plugged vCPUs only where it knows that it is a guest (``acpi_is_processor_usable`` since 6.9), which it does
not here. What KVM runs is tested on full hosts.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List

import pytest

from tests.integration.fleet import CRAWL_MIB_S, Fleet, guest
from tests.integration.runner import Ansible, task
from tests.lab import Lab

HOOKS = "/etc/kvm_fleet/hooks"


@pytest.fixture
def one(fleet: Fleet) -> None:
    """A guest with two vCPUs that may have four, as it was at first."""
    fleet.remove("v")
    fleet.have(guest("v", vcpus=2, max_vcpus=4))


def asked(ansible: Ansible, host: str = "hv1", **options: Any) -> Dict[str, Any]:
    result: Dict[str, Any] = ansible.module(host, "vm_vcpus", **options)
    return result


def refused(ansible: Ansible, code: str, *words: str, **options: Any) -> Dict[str, Any]:
    result = asked(ansible, **options)
    assert (result["failed"], result.get("error")) == (True, code), result
    for word in words:
        assert word in result["msg"], result["msg"]
    return result


def cpus_in_guest(lab: Lab, host: str = "hv1") -> int:
    answer = lab.guests.agent("v", host, "guest-get-vcpus")
    assert isinstance(answer, list)
    return len([cpu for cpu in answer if cpu["online"]])


@pytest.mark.usefixtures("one")
def test_what_cannot_be_is_refused_before_anything_changes(ansible: Ansible, fleet: Fleet) -> None:
    before = fleet.picture()
    refused(ansible, "above_maximum", "VM v", "4 vCPUs at most", name="v", count=5)
    # The hosts of the lab have two CPUs.
    refused(ansible, "above_host", "VM v", name="v", count=3)
    refused(ansible, "too_few", "VM v", name="v", count=0)
    refused(ansible, "not_hotpluggable", "VM v", "0-1 since its start", name="v", count=1)
    refused(ansible, "vm_unknown", "VM nobody", vms=[{"name": "v", "maximum": 8}, {"name": "nobody", "count": 2}])
    assert fleet.picture() == before


@pytest.mark.usefixtures("one")
def test_a_guest_that_migrates_is_left_alone(ansible: Ansible, fleet: Fleet) -> None:
    move = task("vm_migrate", moves=[fleet.move("v", "hv2")], bandwidth_mib_s=CRAWL_MIB_S)
    job = ansible.start_tasks("hv1", [move])
    fleet.wait_migrating("v", "hv1")
    refused(ansible, "in_transit", "VM v is being migrated", name="v", count=1)
    fleet.hurry("v", "hv1")
    assert job.wait().code == 0
    fleet.assert_intact_and_once("v", "hv2")


@pytest.mark.usefixtures("one")
def test_a_guest_that_keeps_its_vcpu_is_told_and_not_asked_for_another(lab: Lab, ansible: Ansible) -> None:
    assert not asked(ansible, name="v", unpluggable=True)["failed"]
    start_anew(lab)
    forbidden = ansible.module("hv1", "vm_policy", name="v", hot_unplug="refused")
    assert not forbidden["failed"], forbidden
    refused(ansible, "unplug_forbidden", "hot_unplug", name="v", count=1)
    assert not ansible.module("hv1", "vm_policy", name="v", hot_unplug="allowed")["failed"]

    kept = refused(ansible, "unplug_timeout", "VM v still has the vCPUs 1", name="v", count=1, wait_timeout=3)
    assert (kept["current"], kept["left"]) == (2, [1])
    refused(ansible, "settling", "VM v was asked to give back the vCPUs 1", name="v", count=2)
    refused(ansible, "unplug_timeout", "VM v still has", name="v", count=1, wait_timeout=3)
    assert "<vcpu placement='static' current='2'>4</vcpu>" in lab["hv1"].virsh("dumpxml", "v", "--inactive")


def start_anew(lab: Lab) -> None:
    lab["hv1"].virsh("destroy", "v")
    lab.guests.start("v", "hv1")


@pytest.mark.usefixtures("one")
def test_the_agent_takes_cpus_offline_and_back(lab: Lab, ansible: Ansible) -> None:
    less = asked(ansible, name="v", count=1, method="agent")
    assert not less["failed"], less
    assert (less["vms"][0]["running"]["count"], less["vms"][0]["guest_online"]) == (2, 1)
    assert cpus_in_guest(lab) == 1
    assert not asked(ansible, name="v", count=1, method="agent")["changed"]
    refused(ansible, "above_plugged", "method live", name="v", count=4, method="agent")
    more = asked(ansible, name="v", count=2, method="agent")
    assert (more["failed"], more["vms"][0]["guest_online"]) == (False, 2)


@pytest.mark.usefixtures("one")
def test_the_next_start_is_prepared(lab: Lab, ansible: Ansible) -> None:
    shape = {"maximum": 8, "count": 2, "unpluggable": True, "method": "next_start"}
    done = asked(ansible, name="v", **shape)
    assert not done["failed"], done
    (vm,) = done["vms"]
    assert (vm["running"]["count"], vm["restart_required"]) == (2, True)
    assert (vm["defined"]["maximum"], vm["defined"]["online"], vm["defined"]["unpluggable"]) == (8, "0-1", "1")
    assert not asked(ansible, name="v", **shape)["changed"]
    start_anew(lab)
    (started,) = asked(ansible, name="v", count=2)["vms"]
    assert (started["running"]["unpluggable"], started["restart_required"]) == ("1", False)


@pytest.fixture
def hooks(lab: Lab) -> Iterator[List[str]]:
    """Hooks that write down what they are told; the names of those that are to fail can be put into /tmp/fail."""
    host = lab["hv1"]
    for when in ("before", "after"):
        for name in ("10-first", "20-second"):
            path = f"{HOOKS}/{when}_set_vcpus.d/{name}"
            body = f'echo "{when} {name} $*" >>/tmp/told; ! grep -qs {when}-{name} /tmp/fail'
            host.run(f"mkdir -p $(dirname {path}); printf '%s\\n' '#!/bin/sh' '{body}' >{path}; chmod 755 {path}")
    yield ["before 10-first", "before 20-second", "after 10-first", "after 20-second"]
    host.run(f"rm -rf {HOOKS} /tmp/told /tmp/fail")


@pytest.mark.usefixtures("one")
def test_hooks_run_in_order_and_one_before_can_stop_it(lab: Lab, ansible: Ansible, hooks: List[str]) -> None:
    host = lab["hv1"]
    host.run("echo before-20-second >/tmp/fail")
    refused(ansible, "hook_failed", "20-second", name="v", count=1, method="agent")
    assert cpus_in_guest(lab) == 2
    host.run("echo after-10-first >/tmp/fail; rm /tmp/told")
    done = asked(ansible, name="v", count=1, method="agent")
    assert not done["failed"], done
    assert any("after_set_vcpus.d/10-first" in warning for warning in done["warnings"])
    told = host.run("cat /tmp/told").stdout.splitlines()
    assert [line.rsplit(" ", 5)[0] for line in told] == hooks[:3]
    assert {line.rsplit(" ", 5)[1] for line in told} == {"v"}
    assert {tuple(line.split()[-3:]) for line in told} == {("agent", "2", "1")}
