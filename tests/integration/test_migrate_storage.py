# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""vm_migrate takes disks along that are on the host's own storage, and leaves none behind where the VM is not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.fleet import CRAWL_MIB_S, PATIENCE_S, Fleet, Wanted, guest, kill_module
from tests.integration.runner import Ansible, task
from tests.lab import Lab
from tests.lab.shell import wait_for

MIB = 1 << 20
FOLDER = "/var/lib/local"
ROOM_MIB = 40
SIZES = {"d.qcow2": 16 * MIB, "d.img": 8 * MIB}
FILES = sorted(f"{FOLDER}/{name}" for name in SIZES)
DISKS = f"""
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{FOLDER}/d.qcow2'/>
<target dev='vda' bus='virtio'/></disk>
<disk type='volume' device='disk'><driver name='qemu' type='raw'/><source pool='local' volume='d.img'/>
<target dev='vdb' bus='virtio'/></disk>
"""
POOL = f"<pool type='dir'><name>local</name><target><path>{FOLDER}</path></target></pool>"
STRANGER = f"""
<domain type='qemu'><name>stranger</name><memory unit='MiB'>64</memory><os><type>hvm</type></os><devices>
<disk type='file'><source file='{FOLDER}/d.img'/><target dev='vda'/></disk></devices></domain>
"""


@pytest.fixture(scope="module")
def pools(lab: Lab) -> Iterator[None]:
    """A small file system on each host, with a storage pool of the same name."""
    remove_pools(lab)
    for host in lab.hosts:
        host.run(f"mkdir -p {FOLDER} && mount -t tmpfs -o size={ROOM_MIB}m local {FOLDER}")
        host.run("virsh -q pool-define /dev/stdin && virsh -q pool-start local", stdin=POOL)
    yield
    remove_pools(lab)


def remove_pools(lab: Lab) -> None:
    for host in lab.hosts:
        host.run("for vm in d stranger; do virsh -q destroy $vm; virsh -q undefine $vm; done", check=False)
        host.run(f"virsh -q pool-destroy local; virsh -q pool-undefine local; umount {FOLDER}", check=False)


@pytest.fixture
def disked(lab: Lab, fleet: Fleet, pools: None) -> Wanted:
    """The guest `d` on hv1 with two disks there, and nothing of it elsewhere."""
    wanted = guest("d", extra_devices=DISKS)
    fleet.remove("stranger")
    if lab.guests.running_on("d") != ["hv1"] or files(lab, "hv1") != FILES:
        fleet.remove("d")
        empty(lab, "hv1")
        for name, size in SIZES.items():
            lab["hv1"].virsh("vol-create-as", "local", name, str(size), "--format", FORMAT[name], "--allocation", "0")
    for host in ("hv2", "hv3"):
        empty(lab, host)
    fleet.have(wanted)
    return wanted


FORMAT = {"d.qcow2": "qcow2", "d.img": "raw"}


def files(lab: Lab, host: str) -> list[str]:
    return sorted(lab[host].run(f"ls -d {FOLDER}/*", check=False).stdout.split())


def empty(lab: Lab, host: str) -> None:
    lab[host].run(f"rm -rf {FOLDER}/*; virsh -q pool-start local; virsh -q pool-refresh local", check=False)


def disk_io(lab: Lab, host: str, disk: int, command: str) -> None:
    """Let QEMU read or write a disk of the running guest, in the guest's own way."""
    device = f"/machine/peripheral/virtio-disk{disk}/virtio-backend"
    lab[host].virsh("qemu-monitor-command", "--hmp", "d", f'qemu-io -d {device} "{command}"')


def content(name: str, *patterns: tuple[int, int, int]) -> str:
    """The digest of a disk after writes of (byte, offset in MiB, MiB)."""
    expected = bytearray(SIZES[name])
    for byte, offset, size in patterns:
        expected[offset * MIB : (offset + size) * MIB] = bytes([byte]) * (size * MIB)
    return hashlib.sha256(expected).hexdigest()


def digest(lab: Lab, host: str, name: str) -> str:
    """The digest of what the guest sees of a disk, read from the file on a host."""
    convert = f"qemu-img convert -U -f {FORMAT[name]} -O raw {FOLDER}/{name} /tmp/disk && sha256sum </tmp/disk"
    return lab[host].run(f"{convert}; rm -f /tmp/disk").stdout.split()[0]


def migrate(ansible: Ansible, fleet: Fleet, host: str = "hv1", to: str = "hv2", **options: Any) -> dict[str, Any]:
    result: dict[str, Any] = ansible.module(
        host, "vm_migrate", moves=[fleet.move("d", to)], **{"copy_storage": True, **options}
    )
    return result


def begin(lab: Lab, ansible: Ansible, fleet: Fleet) -> Any:
    """Begin to move the guest and return while a disk of 6 MiB is being copied slowly."""
    disk_io(lab, "hv1", 0, "write -P 0xa1 0 6M")
    options = {"copy_storage": True, "bandwidth_mib_s": CRAWL_MIB_S, "forecast": False}
    job = ansible.start_tasks("hv1", [task("vm_migrate", moves=[fleet.move("d", "hv2")], **options)])
    fleet.wait_migrating("d", "hv1")
    return job


def be_killed(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    """Begin to move the guest, kill the module, and let the migration fail that goes on."""
    begin(lab, ansible, fleet)
    kill_module(lab, "hv1")
    lab["hv1"].virsh("domjobabort", "d")
    wait_for("the copy to go", lambda: len(lab.guests.processes("d")) == 1, PATIENCE_S)
    assert files(lab, "hv2") == FILES


def test_without_being_asked_no_disk_travels(lab: Lab, ansible: Ansible, fleet: Fleet, disked: Wanted) -> None:
    result = migrate(ansible, fleet, copy_storage=False)
    assert (result["failed"], result["error"]) == (True, "blocked"), result
    for path in FILES:
        assert path in result["msg"]
    assert result["msg"].count("copy_storage: true") == len(FILES)
    assert files(lab, "hv2") == []
    fleet.assert_intact_and_once("d", "hv1")


TROUBLES = {
    "storage_taken": ("printf keep >{0}/d.img", "rm {0}/d.img", ("d.img", "used by no VM there", "vol-delete")),
    "storage_full": ("head -c 38M /dev/zero >{0}/other", "rm {0}/other", ("local", "MiB")),
    "storage_missing": ("virsh -q pool-destroy local", "virsh -q pool-start local", ("local", "not started")),
}


@pytest.mark.parametrize("code", TROUBLES)
def test_a_destination_without_a_place_is_named_and_not_touched(
    lab: Lab, ansible: Ansible, fleet: Fleet, disked: Wanted, code: str
) -> None:
    trouble, remedy, words = TROUBLES[code]
    disk_io(lab, "hv1", 0, "write -P 0xa1 0 6M")
    lab["hv2"].run(trouble.format(FOLDER))
    seen = lab["hv2"].run(f"ls -l --time-style=full-iso {FOLDER}; cat {FOLDER}/d.img", check=False).stdout
    options = {"moves": [fleet.move("d", "hv2")], "copy_storage": True}
    for result in ansible.tasks("hv1", *(task("vm_migrate", check=check, **options) for check in (True, False))):
        assert (result["failed"], result["error"]) == (True, code), result
        assert all(word in result["msg"] for word in ("d: ", "hv2", *words)), result
    assert lab["hv2"].run(f"ls -l --time-style=full-iso {FOLDER}; cat {FOLDER}/d.img", check=False).stdout == seen
    assert lab.guests.running_on("d") == ["hv1"]
    lab["hv2"].run(remedy.format(FOLDER))


def test_check_mode_says_that_it_would_move_and_makes_nothing(
    lab: Lab, ansible: Ansible, fleet: Fleet, disked: Wanted
) -> None:
    before = fleet.picture()
    result = ansible.module("hv1", "vm_migrate", check=True, moves=[fleet.move("d", "hv2")], copy_storage=True)
    assert [entry["outcome"] for entry in result["migrations"]] == ["would_move"], result
    assert (fleet.picture(), files(lab, "hv2")) == (before, [])


def test_a_copy_that_a_killed_run_made_goes_unless_a_vm_there_has_it(
    lab: Lab, ansible: Ansible, fleet: Fleet, disked: Wanted
) -> None:
    be_killed(lab, ansible, fleet)
    lab["hv2"].run(f"printf other >{FOLDER}/other && virsh -q define /dev/stdin", stdin=STRANGER)
    result = ansible.module("hv1", "vm_migrate", state="reconciled")
    (entry,) = result["migrations"]
    assert (entry["outcome"], entry["runs_on"], entry["mended"]) == ("reconciled", "hv1", ["destination_volumes"])
    assert entry["left_volumes"] == [{"host": "hv2", "path": f"{FOLDER}/d.img"}]
    assert files(lab, "hv2") == [f"{FOLDER}/d.img", f"{FOLDER}/other"]
    fleet.assert_intact_and_once("d", "hv1")
    assert ansible.module("hv1", "vm_migrate", state="reconciled")["migrations"] == []
    fleet.remove("stranger")


def test_a_failure_in_the_middle_leaves_no_copy(lab: Lab, ansible: Ansible, fleet: Fleet, disked: Wanted) -> None:
    job = begin(lab, ansible, fleet)
    lab.faults.kill_guest("hv2", "d")
    (found,) = job.wait().results
    assert (found.status, found.result["error"]) == ("failed", "migration_failed"), found
    assert (found.result["migrations"][0]["left_volumes"], files(lab, "hv2")) == ([], [])
    fleet.assert_intact_and_once("d", "hv1")


@pytest.mark.long
def test_what_a_killed_run_made_is_made_anew_and_the_disks_arrive_as_they_are(
    lab: Lab, ansible: Ansible, fleet: Fleet, disked: Wanted
) -> None:
    disk_io(lab, "hv1", 1, "write -P 0xb1 1M 1M")
    be_killed(lab, ansible, fleet)
    job = begin(lab, ansible, fleet)
    # Into what has been copied and into what has not, while disks and then memory flow.
    disk_io(lab, "hv1", 0, "write -P 0xc1 0 1M")
    disk_io(lab, "hv1", 0, "write -P 0xc2 12M 1M")
    wait_for("memory to follow", lambda: "Iteration" in lab["hv1"].virsh("domjobinfo", "d"), PATIENCE_S)
    disk_io(lab, "hv1", 1, "write -P 0xd1 7M 1M")
    fleet.hurry("d", "hv1")
    (found,) = job.wait().results
    assert found.status == "ok", found
    (entry,) = found.result["migrations"]
    assert (entry["outcome"], entry["runs_on"]) == ("moved", "hv2"), entry
    assert sorted(file["path"] for file in entry["left_volumes"] if file["host"] == "hv1") == FILES
    assert entry["transferred_mib"] > sum(SIZES.values()) / MIB
    fleet.assert_intact_and_once("d", "hv2")
    for disk in (0, 1):
        disk_io(lab, "hv2", disk, "flush")
    assert digest(lab, "hv2", "d.qcow2") == content("d.qcow2", (0xA1, 0, 6), (0xC1, 0, 1), (0xC2, 12, 1))
    assert digest(lab, "hv2", "d.img") == content("d.img", (0xB1, 1, 1), (0xD1, 7, 1))
    again = migrate(ansible, fleet)
    assert [entry["outcome"] for entry in again["migrations"]] == ["already_there"], again
    come_back(lab, ansible, fleet)


def come_back(lab: Lab, ansible: Ansible, fleet: Fleet) -> None:
    """Move the guest back to hv1, which is refused until the files are gone that it left there."""
    back = migrate(ansible, fleet, "hv2", "hv1")
    assert (back["failed"], back["error"]) == (True, "storage_taken"), back
    assert all(path in back["msg"] for path in FILES)
    for name in SIZES:
        lab["hv1"].virsh("vol-delete", name, "--pool", "local")
    home = migrate(ansible, fleet, "hv2", "hv1")
    assert not home["failed"], home
    fleet.assert_intact_and_once("d", "hv1")
    assert digest(lab, "hv1", "d.img") == content("d.img", (0xB1, 1, 1), (0xD1, 7, 1))
