# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the kernel's files say about a machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.machine import on_shared_storage, read_machine

MOUNTS = """\
/dev/vda / ext4 rw 0 0
nas:/images /srv/images nfs4 rw 0 0
/dev/vdb /srv/images/local ext4 rw 0 0
nas:/a\\040b /srv/a\\040b nfs rw 0 0
tmpfs /srv/over tmpfs rw 0 0
fs:/ /srv/over ceph rw 0 0
"""


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


@pytest.mark.parametrize(
    ("path", "shared"),
    [
        ("/srv/images/a.qcow2", True),
        ("/srv/images", True),
        ("/srv/images2/a.qcow2", False),
        ("/srv/images/local/a.qcow2", False),
        ("/srv/a b/c.raw", True),
        ("/srv/over/x", True),
        ("/var/lib/libvirt/images/a.qcow2", False),
    ],
)
def test_storage_is_shared_if_its_file_system_is(tmp_path: Path, path: str, shared: bool) -> None:
    write(tmp_path, "proc/self/mounts", MOUNTS)
    assert on_shared_storage(path, tmp_path) is shared


def test_storage_is_shared_if_qemu_conf_says_so(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/mounts", MOUNTS)
    write(
        tmp_path,
        "etc/libvirt/qemu.conf",
        '#shared_filesystems = ["/x"]\nshared_filesystems = [\n  "/var/lib/images/",\n]\n',
    )
    assert on_shared_storage("/var/lib/images/a.qcow2", tmp_path)
    assert not on_shared_storage("/x/a.qcow2", tmp_path)


def test_bridges_and_isolated_cpus_are_read(tmp_path: Path) -> None:
    write(tmp_path, "sys/devices/system/cpu/isolated", "2-7\n")
    (tmp_path / "sys/class/net/br0/bridge").mkdir(parents=True)
    (tmp_path / "sys/class/net/eth0").mkdir(parents=True)
    machine = read_machine(tmp_path)
    assert machine.isolated_cpus == "2-7"
    assert machine.bridges == ("br0",)


def test_a_kernel_without_these_files_says_nothing(tmp_path: Path) -> None:
    machine = read_machine(tmp_path)
    assert machine.isolated_cpus == ""
    assert machine.bridges == ()


def test_cpus_that_are_kept_apart_are_read(tmp_path: Path) -> None:
    write(tmp_path, "sys/devices/system/cpu/online", "0-7\n")
    write(tmp_path, "sys/devices/system/cpu/isolated", "2-3,6-7\n")
    write(tmp_path, "sys/fs/cgroup/machine.slice/cpuset.cpus.effective", "1-7\n")
    found = read_machine(tmp_path)
    assert (found.online_cpus, found.isolated_cpus, found.machine_cpus) == ("0-7", "2-3,6-7", "1-7")


def test_what_the_kernel_does_not_offer_is_empty(tmp_path: Path) -> None:
    found = read_machine(tmp_path)
    assert (found.online_cpus, found.isolated_cpus, found.machine_cpus) == ("", "", None)
