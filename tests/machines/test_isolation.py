# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""host_isolation on a full host: real GRUB, real control groups, real huge pages."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List

import pytest

from tests.integration.runner import Ansible, task
from tests.lab import GuestSpec, Host, Lab

OURS = "/etc/default/grub.d/zz-kvm_fleet.cfg"
THEIRS = "/etc/default/grub.d/10-somebody.cfg"
WANTED: Dict[str, Any] = {
    "housekeeping_cores_per_cell": 1,
    "isolcpus_flags": ["managed_irq"],
    "nohz_full": True,
    "huge_pages": [{"size": "2M", "count": 8}],
    "kernel_arguments": [{"name": "dyndbg", "value": "module kvm +p"}],
}
ARGUMENTS = [
    "isolcpus=domain,managed_irq,2-3,6-7",
    "nohz_full=2-3,6-7",
    "hugepagesz=2M",
    "hugepages=8",
    'dyndbg="module kvm +p"',
]

# What the host refuses, with the words that say why.
REFUSED: List[Any] = [
    ({"isolated": "6-9"}, "no_such_cpu", "8-9"),
    ({"isolated": "2-3,7"}, "siblings_split", "6-7"),
    ({"isolated": "0-3"}, "cpu0_isolated", "CPU 0"),
    ({"housekeeping": ""}, "no_housekeeping", "No housekeeping CPU"),
    ({"isolated": "4-7", "housekeeping_in_each_cell": True}, "no_housekeeping", "cells 1"),
    ({"isolated": "2-"}, "bad_cpuset", "2-"),
    ({"isolated": "2-3", "methods": ["tuned"]}, "tuned_missing", "cpu-partitioning"),
    ({"huge_pages": [{"size": "2M", "count": 90000, "cell": 1}]}, "not_enough_memory", "cell 1"),
    ({"huge_pages": [{"size": "2M", "count": 1, "cell": 2}]}, "bad_options", "cell 2"),
    ({"kernel_arguments": [{"name": "isolcpus", "value": "3"}]}, "bad_options", "isolcpus"),
]


@pytest.fixture
def host(lab: Lab, ansible: Ansible) -> Iterator[Host]:
    """The host hv1 with grub.cfg as its own tools write it, and nothing of ours before and after."""
    found = lab["hv1"]
    found.run("update-grub")
    yield found
    found.run(f"rm -f {THEIRS}")
    assert not ansible.module("hv1", "host_isolation", state="absent")["failed"]


def picture(host: Host) -> str:
    """All files that the module could touch, as sums, and what systemd and the kernel say."""
    return host.run(
        "find /etc/default /boot/grub/grub.cfg /etc/systemd /etc/tmpfiles.d /var/lib/kvm_fleet -type f"
        " -exec sha256sum {} + 2>/dev/null | sort; cat /sys/fs/cgroup/*/cpuset.cpus.effective"
        " /sys/devices/system/node/node*/hugepages/*/nr_hugepages",
        check=False,
    ).stdout


def booted(host: Host) -> List[str]:
    """The command lines of grub.cfg; none of ours may be on those for recovery, which are left out."""
    lines = [line.strip() for line in host.run("cat /boot/grub/grub.cfg").stdout.splitlines()]
    recovery = [line for line in lines if line.startswith("linux") and " single " in line]
    assert not any("isolcpus" in line for line in recovery)
    found = [line for line in lines if line.startswith("linux") and line not in recovery]
    assert found, lines
    return found


def test_four_steps_and_back(ansible: Ansible, host: Host) -> None:
    before = picture(host)
    check = ansible.module("hv1", "host_isolation", check=True, diff=True, **WANTED)
    assert picture(host) == before, "touched something in check mode"
    run, check_again, run_again = ansible.tasks(
        "hv1",
        task("host_isolation", diff=True, **WANTED),
        task("host_isolation", check=True, **WANTED),
        task("host_isolation", **WANTED),
    )
    assert not any(step["failed"] for step in (check, run, check_again, run_again)), (check, run)
    assert [step["changed"] for step in (check, run, check_again, run_again)] == [True, True, False, False]
    assert check["diff"] == run["diff"]
    assert run["kernel_arguments"] == ARGUMENTS
    assert run["boot_loader"] == "grub"
    for step in (check, run, run_again):
        assert step["reboot_required"], "the running kernel was not booted with it"
    for line in booted(host):
        assert all(text.replace('"', "") in line.replace('"', "") for text in ARGUMENTS), line
    undone = ansible.module("hv1", "host_isolation", state="absent")
    assert (undone["failed"], undone["changed"], undone["reboot_required"]) == (False, True, False), undone
    assert picture(host) == before


def test_somebody_elses_value_is_a_conflict_and_his_file_stays(ansible: Ansible, host: Host) -> None:
    host.run(
        f"""echo 'GRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT isolcpus=6-7 a=1"' >{THEIRS}; update-grub"""
    )
    before = picture(host)
    refused, merged = ansible.tasks(
        "hv1",
        task("host_isolation", isolated="2-3"),
        task("host_isolation", isolated="6-7", kernel_arguments=[{"name": "b", "value": "2"}]),
    )
    assert (refused["failed"], refused.get("error")) == (True, "conflict"), refused
    assert THEIRS in refused["msg"]
    assert merged["kernel_arguments"] == ["b=2"], "what is there already is left to its owner"
    assert all(line.endswith("isolcpus=6-7 a=1 b=2") for line in booted(host)), booted(host)
    assert not ansible.module("hv1", "host_isolation", state="absent")["failed"]
    assert picture(host) == before


def test_pages_are_reserved_in_a_cell_at_once_and_given_back(ansible: Ansible, host: Host) -> None:
    before = picture(host)
    pages = [{"size": "2M", "count": 4, "cell": 1}]
    run, again, described = ansible.tasks(
        "hv1",
        task("host_isolation", huge_pages=pages),
        task("host_isolation", huge_pages=pages),
        task("host_info"),
    )
    assert [step["changed"] for step in (run, again)] == [True, False], (run, again)
    assert not run["reboot_required"]
    found = [
        (cell["id"], page["total"], page["free"])
        for cell in described["host"]["cells"]
        for page in cell["pages"]
        if page["size_kib"] == 2048
    ]
    assert found == [(0, 0, 0), (1, 4, 4)]
    assert not ansible.module("hv1", "host_isolation", huge_pages=[])["failed"]
    assert picture(host) == before


@pytest.mark.long
def test_what_cannot_work_is_refused_before_anything_changes(ansible: Ansible, host: Host) -> None:
    before = picture(host)
    results = ansible.tasks("hv1", *(task("host_isolation", **options) for options, _code, _words in REFUSED))
    for (options, code, words), result in zip(REFUSED, results, strict=True):
        assert (result["failed"], result.get("error")) == (True, code), (options, result)
        assert words in result["msg"], options
    assert picture(host) == before


def test_a_running_vm_keeps_the_cpu_it_is_pinned_to(lab: Lab, ansible: Ansible, host: Host) -> None:
    lab.guests.define(GuestSpec("pinned", pins=((0, "2"),)), "hv1")
    lab.guests.start("pinned", "hv1")
    try:
        before = picture(host)
        kernel, slices = ansible.tasks(
            "hv1",
            task("host_isolation", isolated="6-7"),
            task("host_isolation", isolated="6-7", methods=["slices"]),
        )
        for result in (kernel, slices):
            assert (result["failed"], result.get("error")) == (True, "pinned_vms"), result
            assert "pinned (vCPU 0 on 2" in result["msg"]
        assert picture(host) == before
    finally:
        host.virsh("destroy", "pinned")
        host.virsh("undefine", "pinned")


def test_both_cells_are_described(ansible: Ansible, host: Host) -> None:
    found = ansible.module("hv1", "host_info")["host"]
    assert found["topology"] == {"sockets": 2, "dies": 1, "cores": 2, "threads": 2}
    assert [(cell["cpus"], cell["distances"], cell["siblings"]) for cell in found["cells"]] == [
        ("0-3", [10, 21], ["0-1", "2-3"]),
        ("4-7", [21, 10], ["4-5", "6-7"]),
    ]
    assert all(0 < cell["free_kib"] < cell["memory_kib"] for cell in found["cells"])
    assert found["virt_type"] == "kvm"
