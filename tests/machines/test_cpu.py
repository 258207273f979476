# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CPUs of guests under KVM, which on AMD get what no host-model of libvirt has."""

from __future__ import annotations

from tests.integration.runner import Ansible, task
from tests.lab import Lab

# It has no disk, and is never run.
PROBE = """<domain type='kvm'><name>probe</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><cpu mode='host-model'/></domain>"""


def test_a_host_has_what_qemu_adds_to_the_cpu_of_its_guests(lab: Lab, ansible: Ansible) -> None:
    lab["hv1"].run(["virsh", "create", "--paused", "/dev/stdin"], stdin=PROBE)
    try:
        described, compared = ansible.tasks("hv1", task("host_info"), task("cpu_compare", vm="probe"))
    finally:
        lab["hv1"].virsh("destroy", "probe")
    cpus = described["snapshot"]["cpus"]
    (vm,) = [vm for vm in described["snapshot"]["vms"] if vm["name"] == "probe"]
    host, guest = (set(cpus[entry["cpu"]]["features"]) for entry in (described["host"], vm))
    assert "topoext" in guest
    assert guest <= host, guest - host
    assert compared["result"] != "incompatible", compared
