# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role `reconfigure`: no reboot that starts a VM twice, and no host back in service that cannot run its VMs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Sequence

import pytest

from tests.integration.fleet import Fleet, guest
from tests.integration.runner import COLLECTION, Ansible, Run, task
from tests.lab import GuestSpec, Lab

REBOOT: Dict[str, Any] = {"name": "Ask for a reboot", "ansible.builtin.set_fact": {"reconfigure_reboot_required": True}}
LOSE_KVM: Dict[str, Any] = {
    "name": "Pretend that the host had KVM before",
    "ansible.builtin.set_fact": {
        "__reconfigure_before": "{{ __reconfigure_before | combine({'host': {'virt_type': 'kvm'}}, recursive=True) }}"
    },
}
LIST = "/var/lib/libvirt/libvirt-guests"
CONFIG = "/etc/default/libvirt-guests"

Reconfigure = Callable[..., Run]


@pytest.fixture
def reconfigure(ansible: Ansible, tmp_path: Path) -> Reconfigure:
    """Runs the role for hv1 with a task file of these tasks; variables are given without their prefix."""

    def run(*tasks: Dict[str, Any], **variables: Any) -> Run:
        (tmp_path / "tasks.yml").write_text(json.dumps(tasks))
        given = {"hosts": ["hv1"], "task_files": [str(tmp_path / "tasks.yml")], "reboot_ok": True, **variables}
        role = {"role": f"{COLLECTION}.reconfigure", **{f"reconfigure_{key}": value for key, value in given.items()}}
        play = {"hosts": "hypervisors", "gather_facts": False, "any_errors_fatal": True, "roles": [role]}
        (tmp_path / "play.yml").write_text(json.dumps([play]))
        return ansible.start(str(tmp_path / "play.yml")).wait()

    return run


def boot_id(lab: Lab) -> str:
    return lab["hv1"].run("cat /proc/sys/kernel/random/boot_id").stdout


def failure(run: Run) -> str:
    assert run.code != 0, run.text
    return " ".join(str(result.result.get("msg")) for result in run.results if result.status == "failed")


def start_by_autostart(lab: Lab) -> None:
    lab["hv1"].virsh("autostart", "a")


def start_by_libvirt_guests(lab: Lab) -> None:
    lab["hv1"].run(f"sed -i /^ON_BOOT=/d {CONFIG}; echo ON_BOOT=start >>{CONFIG}")
    lab["hv1"].run(f"echo default {GuestSpec('a').identity} >{LIST}")


@pytest.fixture
def leftover(lab: Lab, fleet: Fleet) -> Iterator[None]:
    """The VM `a` runs on hv2, and hv1 has a definition of it too."""
    fleet.have(guest("a", "hv2"))
    lab["hv1"].run(["virsh", "define", "/dev/stdin"], stdin=lab["hv2"].virsh("dumpxml", "a", "--inactive"))
    yield
    lab["hv1"].run(f"sed -i /^ON_BOOT=/d {CONFIG}; rm -f {LIST}")


@pytest.mark.usefixtures("leftover")
@pytest.mark.parametrize("start", [start_by_autostart, start_by_libvirt_guests])
def test_host_that_would_start_a_vm_which_runs_elsewhere_is_not_rebooted(
    lab: Lab, fleet: Fleet, reconfigure: Reconfigure, start: Callable[[Lab], None]
) -> None:
    start(lab)
    before = boot_id(lab)
    message = failure(reconfigure(REBOOT))
    assert "hv1 is not rebooted" in message
    assert "a on hv2" in message
    assert boot_id(lab) == before
    lab["hv1"].run(f"virsh undefine a; rm -f {LIST}")
    again = reconfigure(REBOOT)
    assert again.code == 0, again.text
    assert boot_id(lab) != before
    fleet.assert_intact_and_once("a", "hv2")


@pytest.mark.usefixtures("leftover")
def test_what_starts_with_the_host_is_told_in_check_mode_too(lab: Lab, ansible: Ansible) -> None:
    start_by_autostart(lab)
    start_by_libvirt_guests(lab)
    (entry,) = expected = [{"name": "a", "uuid": GuestSpec("a").identity}]
    for check in (True, False):
        told = ansible.module("hv1", "host_maintenance", check=check, state="entered", id="x", phase="drained")
        guests = {key: told["at_boot"]["libvirt_guests"][key] for key in ("on_boot", "resumes")}
        assert (told["at_boot"]["autostart"], guests) == (expected, {"on_boot": "start", "resumes": [entry]})
    assert ansible.module("hv1", "host_maintenance", state="entered", id="x")["at_boot"] is None


@pytest.mark.long
def test_silent_host_might_run_what_would_start(lab: Lab, fleet: Fleet, reconfigure: Reconfigure) -> None:
    fleet.have()
    lab.guests.define(GuestSpec("x"), "hv1", autostart=True)
    lab.faults.cut_link("hv3")
    before = boot_id(lab)
    message = failure(reconfigure(REBOOT))
    assert "it would start x, and hv3 cannot be asked" in message
    assert boot_id(lab) == before
    again = reconfigure(REBOOT, silent_hosts_ok=True, unreached_ok=True)
    assert again.code == 0, again.text
    assert boot_id(lab) != before


@pytest.mark.parametrize(("tasks", "word"), [([LOSE_KVM], "KVM"), ([REBOOT], "reboot_ok")])
def test_unhealthy_host_and_forbidden_reboot_end_the_run(
    lab: Lab, ansible: Ansible, fleet: Fleet, reconfigure: Reconfigure, tasks: Sequence[Dict[str, Any]], word: str
) -> None:
    fleet.have()
    before = boot_id(lab)
    assert word in failure(reconfigure(*tasks, reboot_ok=False))
    assert boot_id(lab) == before
    (told,) = ansible.tasks("hv1", task("host_maintenance", check=True, state="entered", id="drain"))
    assert told["maintenance"]["phase"] != "reconfigured"
