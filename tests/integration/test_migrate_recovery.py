# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""vm_migrate goes on from whatever an earlier migration left on either host."""

from __future__ import annotations

from typing import Any, Dict

import pytest

from tests.integration.fleet import CRAWL_MIB_S, PATIENCE_S, SLOW_MIB_S, Fleet, guest, kill_module, may_run
from tests.integration.runner import Ansible, task
from tests.lab import Lab
from tests.lab.shell import wait_for


def migrate_to_hv2(ansible: Ansible, fleet: Fleet, name: str = "a") -> Dict[str, Any]:
    result: Dict[str, Any] = ansible.module("hv1", "vm_migrate", moves=[fleet.move(name, "hv2")])
    assert not result["failed"], result
    fleet.assert_intact_and_once(name, "hv2")
    return result["migrations"][0]


def virsh_migrate(lab: Lab, destination: str, *flags: str) -> Any:
    """Begin a migration of the guest `a` that the collection knows nothing of."""
    uri = f"qemu+ssh://root@{lab[destination].address}/system"
    return lab["hv1"].popen(["virsh", "migrate", "a", uri, "--live", "--p2p", *flags])


def test_definition_left_on_the_destination_is_replaced(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    lab["hv2"].run(["virsh", "define", "/dev/stdin"], stdin=lab["hv1"].virsh("dumpxml", "a", "--inactive"))
    assert [(end.host, bool(end.pid)) for end in lab.guests.where("a")] == [("hv1", True), ("hv2", False)]
    assert migrate_to_hv2(ansible, fleet)["outcome"] == "moved"


def test_paused_copy_left_on_the_destination_is_dropped(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    with fleet.silent_sender("hv2", interval_s=-1) as fall_silent:
        other = virsh_migrate(lab, "hv2", "--persistent", "--undefinesource", "--bandwidth", str(CRAWL_MIB_S))
        fleet.wait_migrating("a", "hv1")
        fall_silent()
        assert other.wait(PATIENCE_S) != 0
        found = lab.guests.where("a")
        assert [(end.host, bool(end.pid), may_run(end)) for end in found] == [("hv1", True, True), ("hv2", True, False)]
        assert migrate_to_hv2(ansible, fleet)["outcome"] == "moved"


def test_definition_left_on_the_source_is_removed(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    assert virsh_migrate(lab, "hv2", "--persistent").wait(PATIENCE_S) == 0
    assert [end.host for end in lab.guests.where("a")] == ["hv1", "hv2"]
    check = ansible.module("hv1", "vm_migrate", check=True, moves=[fleet.move("a", "hv2")])
    assert [end.host for end in lab.guests.where("a")] == ["hv1", "hv2"]
    assert migrate_to_hv2(ansible, fleet)["mended"] == ["source_definition"]
    assert check["changed"]


def test_vm_that_arrived_without_definition_gets_its_own(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    assert virsh_migrate(lab, "hv2").wait(PATIENCE_S) == 0
    assert "definition" in migrate_to_hv2(ansible, fleet)["mended"]
    assert "a" in lab["hv2"].virsh("list", "--all", "--persistent", "--name").split()


def test_migration_under_way_is_attached_to(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    other = virsh_migrate(lab, "hv2", "--persistent", "--undefinesource", "--bandwidth", str(SLOW_MIB_S))
    fleet.wait_migrating("a", "hv1")
    assert migrate_to_hv2(ansible, fleet)["outcome"] in ("moved", "already_there")
    assert other.wait(PATIENCE_S) == 0


def test_migration_under_way_to_another_host_is_told(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    other = virsh_migrate(lab, "hv3", "--persistent", "--undefinesource", "--bandwidth", str(SLOW_MIB_S))
    fleet.wait_migrating("a", "hv1")
    result = ansible.module("hv1", "vm_migrate", moves=[fleet.move("a", "hv2")])
    assert (result["failed"], result["error"]) == (True, "vm_unknown"), result
    assert other.wait(PATIENCE_S) == 0
    fleet.assert_intact_and_once("a", "hv3")


@pytest.mark.long
def test_a_killed_run_is_brought_to_its_end_and_no_other_begins(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"), guest("b"))
    moves = [fleet.move("a", "hv2"), fleet.move("b", "hv2")]
    assert ansible.module("hv1", "vm_migrate", state="reconciled", moves=moves)["changed"] is False
    ansible.start_tasks("hv1", [task("vm_migrate", moves=moves, bandwidth_mib_s=SLOW_MIB_S, concurrency=1)])
    fleet.wait_migrating("a", "hv1")
    kill_module(lab, "hv1")
    check = ansible.module("hv1", "vm_migrate", check=True, state="reconciled")
    assert (check["changed"], [entry["outcome"] for entry in check["migrations"]]) == (True, ["would_reconcile"])
    result = ansible.module("hv1", "vm_migrate", state="reconciled")
    assert [(entry["vm"], entry["runs_on"]) for entry in result["migrations"]] == [("a", "hv2")], result
    fleet.assert_intact_and_once("a", "hv2")
    fleet.assert_intact_and_once("b", "hv1")
    again = ansible.module("hv1", "vm_migrate", state="reconciled")
    assert (again["failed"], again["changed"], again["migrations"]) == (False, False, [])


def test_only_a_definition_that_the_migration_left_is_removed(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"), guest("b"))
    definitions = {name: lab["hv1"].virsh("dumpxml", name, "--inactive") for name in ("a", "b")}
    lab["hv2"].run(["virsh", "define", "/dev/stdin"], stdin=definitions["b"])
    moves = [fleet.move("a", "hv2"), fleet.move("b", "hv2")]
    ansible.start_tasks("hv1", [task("vm_migrate", moves=moves, bandwidth_mib_s=CRAWL_MIB_S)])
    for name in ("a", "b"):
        fleet.wait_migrating(name, "hv1")
    kill_module(lab, "hv1")
    for name in ("a", "b"):
        lab["hv1"].virsh("domjobabort", name)
    wait_for("the copies to go", lambda: all(len(lab.guests.processes(name)) == 1 for name in "ab"), PATIENCE_S)
    lab["hv2"].run(["virsh", "define", "/dev/stdin"], stdin=definitions["a"])
    result = ansible.module("hv1", "vm_migrate", state="reconciled")
    found = {entry["vm"]: (entry["outcome"], entry["runs_on"], entry["mended"]) for entry in result["migrations"]}
    assert found == {"a": ("reconciled", "hv1", ["destination_definition"]), "b": ("at_source", "hv1", [])}, result
    fleet.assert_intact_and_once("a", "hv1")
    assert [(end.host, bool(end.pid)) for end in lab.guests.where("b")] == [("hv1", True), ("hv2", False)]
    fleet.remove("b")


def test_a_vm_on_its_way_elsewhere_is_never_begun_again(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    ansible.start_tasks("hv1", [task("vm_migrate", moves=[fleet.move("a", "hv2")], bandwidth_mib_s=SLOW_MIB_S)])
    fleet.wait_migrating("a", "hv1")
    kill_module(lab, "hv1")
    result = ansible.module("hv1", "vm_migrate", moves=[fleet.move("a", "hv3")])
    assert (result["failed"], result["error"]) == (True, "moved_elsewhere"), result
    assert "hv2" in result["msg"]
    fleet.assert_intact_and_once("a", "hv2")


def test_second_run_waits_for_the_first_and_doubles_nothing(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"), guest("b"))
    tasks = [task("vm_migrate", moves=[fleet.move("a", "hv2"), fleet.move("b", "hv3")], bandwidth_mib_s=SLOW_MIB_S)]
    first = ansible.start_tasks("hv1", tasks)
    fleet.wait_migrating("a", "hv1")
    second = ansible.start_tasks("hv1", tasks)
    found = []
    for job in (first, second):
        (result,) = job.wait().results
        assert result.status == "ok", result
        found.append([entry["outcome"] for entry in result.result["migrations"]])
    assert found == [["moved", "moved"], ["already_there", "already_there"]]
    fleet.assert_intact_and_once("a", "hv2")
    fleet.assert_intact_and_once("b", "hv3")


def test_controller_that_dies_leaves_the_migrations_running(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a", autostart=True))
    job = ansible.start_tasks("hv1", [task("vm_migrate", moves=[fleet.move("a", "hv2")], bandwidth_mib_s=SLOW_MIB_S)])
    fleet.wait_migrating("a", "hv1")
    job.kill()
    wait_for("the guest to arrive", lambda: lab.guests.running_on("a") == ["hv2"], PATIENCE_S)
    assert migrate_to_hv2(ansible, fleet)["outcome"] == "already_there"
    assert ansible.module("hv2", "vm_info", name=["a"])["vms"][0]["autostart"]


def test_vm_running_on_both_hosts_is_not_touched(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    fleet.have(guest("a"))
    lab["hv2"].run(["virsh", "create", "/dev/stdin"], stdin=lab["hv1"].virsh("dumpxml", "a", "--inactive"))
    result = ansible.module("hv1", "vm_migrate", moves=[fleet.move("a", "hv2")])
    assert (result["failed"], result["error"]) == (True, "split_brain"), result
    assert all(word in result["msg"] for word in ("VM a ", "hv1", "hv2"))
    assert lab.guests.running_on("a") == ["hv1", "hv2"]
    fleet.remove("a")
