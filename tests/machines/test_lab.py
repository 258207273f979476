# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab keeps its promises for full hosts: real KVM, real cells, real boots, and nothing left behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, Set

import pytest

from tests.lab import GuestSpec, Host, Lab, LabError
from tests.lab.shell import wait_for
from tests.lab.spec import LabSpec

pytestmark = pytest.mark.long

PINS = {"CPU 0/KVM": "2", "CPU 1/KVM": "6"}
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
ARGUMENT = "lab_test=1"


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[str]:
    """A running guest with a vCPU in each cell, its memory being verified; at first on hv1."""
    lab.guests.define(GuestSpec("moving", vcpus=2, pins=((0, "2"), (1, "6")), emulator_pin="0-1"), host="hv1")
    lab.guests.start("moving", "hv1")
    yield "moving"
    for host in lab.hosts:
        host.run("virsh -q destroy moving; virsh -q undefine moving", check=False)


def said(host: Host, command: str) -> str:
    return host.run(command).stdout.strip()


def affinities(lab: Lab, name: str) -> Dict[str, str]:
    """CPUs on which each thread of a guest may run, from the host's kernel."""
    (process,) = lab.guests.processes(name)
    text = lab[process.host].run(f"cd /proc/{process.pid}/task && grep -E 'Name|Cpus_allowed_list' */status").stdout
    names = dict(re.findall(r"^(\d+)/status:Name:\t(.*)$", text, re.M))
    return {names[thread]: cpus for thread, cpus in re.findall(r"^(\d+)/.*_list:\t(.*)$", text, re.M)}


def test_hosts_out_of_one_snapshot_have_their_own_identity(lab: Lab) -> None:
    files = ("/etc/machine-id", "/sys/class/net/eth0/address", "/proc/sys/kernel/random/uuid")
    for question in (BOOT_ID, *(f"cat {path}" for path in files)):
        assert len({said(host, question) for host in lab.hosts}) == 2, question
    for host in lab.hosts:
        assert said(host, "hostname") == host.name
        assert host.uuid in host.virsh("capabilities")
        assert said(host, "cat /sys/class/dmi/id/product_uuid") == host.uuid
        assert abs(float(said(host, "date +%s.%N")) - time.time()) < 5


def test_hosts_have_kvm_two_cells_and_siblings(lab: Lab) -> None:
    for host in lab.hosts:
        assert "<domain>kvm</domain>" in host.virsh("domcapabilities", "--virttype", "kvm")
        nodes = said(host, "cd /sys/devices/system/node && cat node*/cpulist node0/distance").split("\n")
        assert nodes == ["0-3", "4-7", "10 21"]
        assert said(host, "cat /sys/devices/system/cpu/cpu2/topology/thread_siblings_list") == "2-3"
        assert said(host, "systemctl is-system-running") == "running"


def test_up_again_changes_nothing(lab: Lab) -> None:
    before = [host.pid() for host in lab.hosts]
    Lab(lab.spec.name).up()
    assert [host.pid() for host in lab.hosts] == before
    with pytest.raises(LabError, match="of kind machine"):
        Lab(lab.spec.name).up(kind="pod")


def test_pinned_guest_moves_and_comes_back_intact_and_once(lab: Lab, guest: str) -> None:
    for source, destination in (("hv1", "hv2"), ("hv2", "hv1")):
        lab.guests.migrate(guest, source, destination)
        lab.guests.wait_ticks(guest)
        assert lab.guests.running_on(guest) == [destination]
        found = affinities(lab, guest)
        assert {name: found[name] for name in PINS} == PINS
    verdict = lab.guests.verdict(guest)
    assert verdict.intact, verdict


def test_killed_libvirtd_stays_down_and_the_guest_runs_on(lab: Lab, guest: str) -> None:
    lab.faults.kill_libvirtd("hv1")
    assert not lab["hv1"].answers()
    lab.guests.wait_ticks(guest)
    lab.faults.start_libvirtd("hv1")
    assert lab.guests.running_on(guest) == ["hv1"]
    assert lab.guests.verdict(guest).intact


def test_cut_link_separates_a_host_that_still_takes_commands(lab: Lab) -> None:
    ping = f"ping -q -c 1 -W 2 {lab['hv2'].address}"
    lab.faults.cut_link("hv2")
    assert lab["hv1"].run(ping, check=False).returncode != 0
    assert said(lab["hv2"], "hostname") == "hv2"
    lab.faults.restore_link("hv2")
    wait_for("hv2 to be reached", lambda: lab["hv1"].run(ping, check=False).returncode == 0, 20)


def test_hosts_really_boot(lab: Lab) -> None:
    """hv2 reboots with an argument from a file of GRUB's, while another lab boots a host without a snapshot."""
    host = lab["hv2"]
    pid, before, begun = host.pid(), said(host, BOOT_ID), time.monotonic()
    host.run(
        f"""echo 'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX {ARGUMENT}"' >/etc/default/grub.d/test.cfg; update-grub"""
    )
    host.run("systemctl reboot")
    with Lab("mitcold") as cold:
        cold.up(hosts=1, kind="machine", cold=True)
        assert float(said(cold["hv1"], "cut -d' ' -f1 /proc/uptime")) < time.monotonic() - begun
        assert "BOOT_IMAGE=/boot/vmlinuz-" in said(cold["hv1"], "cat /proc/cmdline")
        assert "### BEGIN /etc/grub.d/10_linux ###" in said(cold["hv1"], "cat /boot/grub/grub.cfg")
    host.wait_ready()
    assert said(host, BOOT_ID) != before
    assert ARGUMENT in said(host, "cat /proc/cmdline").split()
    assert said(host, "cat /sys/class/dmi/id/product_uuid") == host.uuid
    assert host.pid() == pid
    host.run("rm /etc/default/grub.d/test.cfg; update-grub")


def test_down_removes_a_lab_whose_up_was_killed() -> None:
    name = "mitkill"
    up = [sys.executable, "-m", "tests.lab", "--name", name, "up", "--kind", "machine", "--hosts", "1"]
    process = subprocess.Popen(up, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL)
    wait_for("QEMU to run", lambda: Lab(name).groups.pids("hv1") != [] or process.poll() is not None, 120, 0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    half = Lab(name)
    assert half.leftovers() != []
    half.down()
    assert Lab(name).spec == LabSpec(name=name)
    assert Lab(name).leftovers() == []
    assert not half.folder.exists()
    assert processes_with(str(half.folder)) == set()
    half.down()


def processes_with(word: str) -> Set[str]:
    commands = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return {line for line in commands.splitlines() if word in line}
