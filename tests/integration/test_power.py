# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""VMs are shut down, remembered, started again, and seen to answer."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from typing import Any, Dict, Iterator, List

from tests.integration.fleet import CRAWL_MIB_S, PATIENCE_S, Fleet, guest
from tests.integration.runner import Ansible, task
from tests.integration.test_four_steps import assert_four_steps, four_steps
from tests.lab import Lab
from tests.lab.shell import wait_for

NOTES = "urn:virtops:kvm_fleet:shutdown"


def outcomes(result: Dict[str, Any], *keys: str) -> List[Any]:
    """What became of the VMs, by these keys of their results."""
    found = [tuple(vm[key] for key in keys or ("name", "outcome", "how")) for vm in result["vms"]]
    return [each[0] for each in found] if len(keys) == 1 else found


def noted(lab: Lab, host: str, name: str, scope: str = "--config") -> str:
    """For which maintenance libvirt's definition says that a VM is off, or nothing."""
    text = lab[host].virsh("metadata", name, NOTES, scope, check=False)
    return "".join(re.findall('maintenance="(.*?)"', text))


@contextmanager
def deaf(lab: Lab, fleet: Fleet, name: str, host: str) -> Iterator[None]:
    """Kill the agent in a guest: nothing is left there that hears ACPI either. No other test gets this guest."""
    kill = {"execute": "guest-exec", "arguments": {"path": "/bin/busybox", "arg": ["killall", "qemu-ga"]}}
    try:
        # Who is killed may not answer.
        lab[host].run(["timeout", "5", "virsh", "qemu-agent-command", name, json.dumps(kill)], check=False)
        wait_for("the agent to be gone", lambda: "state='disconnected'" in lab[host].virsh("dumpxml", name), PATIENCE_S)
        yield
    finally:
        fleet.remove(name)


def test_what_could_not_be_started_again_or_is_under_way_is_refused_before_anything_is_asked(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    fleet.have(guest("a"), guest("b"))
    lab["hv1"].run("virsh dumpxml a | sed '/<uuid>/d; s/>a</>fleeting</; s/a.log/fleeting.log/' >/tmp/fleeting.xml")
    lab["hv1"].virsh("create", "/tmp/fleeting.xml", "--paused")
    lab["hv1"].virsh("migrate-setspeed", "b", str(CRAWL_MIB_S))
    move = "virsh migrate b qemu+ssh://root@hv2/system --live --p2p --persistent --undefinesource"
    lab["hv1"].run(f"setsid {move} </dev/null >/dev/null 2>&1 &")
    fleet.wait_migrating("b", "hv1")

    transient, moving, unknown, wrong = ansible.tasks(
        "hv1",
        task("vm_power", name=["a", "fleeting"], state="shutdown"),
        task("vm_power", name=["a", "b"], state="shutdown", remember="kernel"),
        task("vm_power", name=["a", "nobody"], state="running"),
        task("vm_power", name=["a"], state="answering", remember="kernel"),
    )

    assert [result["error"] for result in (transient, moving, unknown, wrong)] == [
        "vm_transient", "in_transit", "vm_unknown", "bad_input",
    ]  # fmt: skip
    assert ("VM fleeting" in transient["msg"], "VM b" in moving["msg"]) == (True, True)
    lab["hv1"].virsh("domjobabort", "b", check=False)
    assert noted(lab, "hv1", "a") == ""
    fleet.assert_all_intact(["a", "b"], "hv1")


def test_a_guest_that_does_not_react_runs_on_and_stays_remembered_until_it_is_seen_running(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    fleet.have(guest("a"), guest("b"))
    with deaf(lab, fleet, "b", "hv1"):
        options = {"name": ["b"], "state": "shutdown", "remember": "kernel"}

        # The note is there before the guest is asked, and nobody who is killed takes it along.
        job = ansible.start_tasks("hv1", [task("vm_power", **options)])
        wait_for("the note", lambda: noted(lab, "hv1", "b") == "kernel", PATIENCE_S)
        job.kill()
        lab["hv1"].run("pkill -9 -f '[A]nsiballZ_vm_power'", check=False)
        assert noted(lab, "hv1", "b") == "kernel"

        late, forgot, alive, agent = ansible.tasks(
            "hv1",
            task("vm_power", **options, wait_timeout=2),
            task("vm_power", state="running", remembered="kernel"),
            task("vm_power", name=["b"], state="answering"),
            task("vm_power", name=["b"], state="answering", agent=True, wait_timeout=2),
        )

        assert (late["failed"], late["error"], late["changed"]) == (True, "timeout", False)
        assert all(words in late["msg"] for words in ("VM b", "within 2 seconds", "asked by acpi", "remembered=kernel"))
        assert outcomes(late) == [("b", "not_shut_down", None)]
        assert outcomes(late, "after") == [{"state": "running", "remembered": "kernel"}]
        assert (forgot["changed"], outcomes(forgot)) == (True, [("b", "was_active", None)])
        assert noted(lab, "hv1", "b") == ""
        assert (alive["changed"], outcomes(alive)) == (False, [("b", "answering", "cpu_time")])
        assert (agent["error"], "agent is not connected" in agent["msg"]) == ("vm_silent", True)
        fleet.assert_intact_and_once("b", "hv1")

        lab["hv1"].virsh("suspend", "b")
        still, no_start, silent, cut, gone = ansible.tasks(
            "hv1",
            task("vm_power", **options),
            task("vm_power", name=["b"], state="running"),
            task("vm_power", name=["b"], state="answering"),
            task("vm_power", **options, force=True),
            task("vm_power", name=["b"], state="answering"),
        )

        assert [result["error"] for result in (still, no_start, silent, gone)] == [
            "vm_paused", "vm_paused", "vm_not_running", "vm_not_running",
        ]  # fmt: skip
        assert all("VM b" in result["msg"] for result in (still, no_start, silent, gone))
        assert (cut["changed"], outcomes(cut)) == (True, [("b", "destroyed", "destroy")])
        assert noted(lab, "hv1", "b") == "kernel"
        assert lab.guests.processes("a")


def test_what_a_maintenance_has_shut_down_is_started_again_when_it_is_over_by_priority_and_forgotten(
    lab: Lab, ansible: Ansible, fleet: Fleet
) -> None:
    fleet.have(guest("a"), guest("b"))
    lab.guests.define(guest("off").spec, "hv1")
    assert ansible.module("hv1", "vm_policy", name="b", priority=5)["changed"]

    off = four_steps(ansible, fleet, "vm_power", {"name": ["a", "off", "b"], "state": "shutdown", "remember": "kernel"})

    assert_four_steps(off)
    check, run, _check_again, again = off
    assert outcomes(check) == [
        ("a", "would_shut_down", "agent"), ("off", "was_off", None), ("b", "would_shut_down", "agent"),
    ]  # fmt: skip
    assert outcomes(run) == [("a", "shut_down", "agent"), ("off", "was_off", None), ("b", "shut_down", "agent")]
    assert outcomes(again, "outcome") == ["was_off"] * 3
    assert [noted(lab, "hv1", name) for name in ("a", "off", "b")] == ["kernel", "", "kernel"]
    assert not lab.guests.processes("a") + lab.guests.processes("b")

    entered = ansible.module("hv1", "host_maintenance", state="entered", id="kernel", reason="New kernel")
    if entered["restart_required"]:
        lab.faults.restart_libvirtd("hv1")
    refused, _left, other = ansible.tasks(
        "hv1",
        task("vm_power", state="running", remembered="kernel"),
        task("host_maintenance", state="left", id="kernel"),
        task("vm_power", state="running", remembered="firmware"),
    )
    assert (refused["error"], "VM b" in refused["msg"], "New kernel" in refused["msg"]) == ("cordoned", True, True)
    assert outcomes(refused, "name", "after") == [(name, {"state": "shutoff", "remembered": "kernel"}) for name in "ba"]
    assert (other["changed"], other["vms"]) == (False, [])

    on = four_steps(ansible, fleet, "vm_power", {"state": "running", "remembered": "kernel", "agent": True})

    assert_four_steps(on)
    check, run, _check_again, again = on
    assert outcomes(check, "name", "outcome") == [("b", "would_start"), ("a", "would_start")]
    assert outcomes(run) == [("b", "started", "agent"), ("a", "started", "agent")]
    assert again["vms"] == []
    for scope in ("--live", "--config"):
        assert [noted(lab, "hv1", name, scope) for name in ("a", "b")] == ["", ""]
    assert "off" not in lab["hv1"].virsh("list", "--name").split()
