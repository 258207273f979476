# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import migration_blockers


def domain(devices: str = "", inside: str = "") -> str:
    return f"<domain type='kvm' id='1'><name>a</name>{inside}<devices>{devices}</devices></domain>"


def shared(path: str) -> bool:
    return path.startswith("/srv/shared/")


def test_an_ordinary_vm_has_none(live: str, plain: str) -> None:
    assert migration_blockers(live, shared_path=shared) == ()
    assert migration_blockers(plain, shared_path=shared) == ()


HOSTDEV = "cannot migrate a domain with <hostdev mode='subsystem' type='{}'>"
INVTSC = "<cpu><feature policy='require' name='invtsc'/></cpu>"


@pytest.mark.parametrize(
    ("devices", "reason"),
    [
        ("<hostdev mode='subsystem' type='pci'/>", HOSTDEV.format("pci")),
        ("<hostdev mode='subsystem' type='mdev'/>", HOSTDEV.format("mdev")),
        ("<hostdev mode='subsystem' type='scsi'/>", HOSTDEV.format("scsi")),
        ("<hostdev mode='subsystem' type='scsi_host'/>", HOSTDEV.format("scsi_host")),
        ("<hostdev mode='subsystem' type='mdev'><teaming type='transient'/></hostdev>", HOSTDEV.format("mdev")),
        ("<hostdev mode='subsystem' type='pci'><teaming type='persistent'/></hostdev>", HOSTDEV.format("pci")),
        ("<hostdev mode='capabilities' type='misc'/>", "cannot migrate a domain with <hostdev mode='capabilities'>"),
        ("<interface type='hostdev'/>", "cannot migrate a domain with <interface type='hostdev'>"),
        ("<interface type='vdpa'/>", "vDPA devices cannot be migrated"),
        ("<memory model='dimm'/>", "domain's dimm info lacks slot ID or base address"),
        (
            "<shmem name='shm0' role='peer'/>",
            "shmem device 'shm0' cannot be migrated, only shmem with role='master' can be migrated",
        ),
        (
            "<shmem name='shm0'/>",
            "shmem device 'shm0' cannot be migrated, only shmem with role='master' can be migrated",
        ),
        (
            "<filesystem type='mount'><driver type='virtiofs'/><target dir='share'/></filesystem>",
            "migration with virtiofs device is not supported (share)",
        ),
        (
            "<disk type='file'><source file='/srv/shared/a'/><target dev='vda'/><transient/></disk>",
            "migration with transient disk is not supported (vda)",
        ),
        (
            "<disk type='file'><source file='/var/a.qcow2'/><target dev='vda'/></disk>",
            "Migration without shared storage is unsafe (vda: /var/a.qcow2)",
        ),
        (
            "<disk type='nvme'><source type='pci' namespace='1'/><target dev='vdb'/></disk>",
            "Migration without shared storage is unsafe (vdb: NVMe)",
        ),
    ],
)
def test_a_device_that_blocks_is_reported_in_libvirts_words(devices: str, reason: str) -> None:
    assert migration_blockers(domain(devices), shared_path=shared) == (reason,)


@pytest.mark.parametrize(
    "devices",
    [
        "<hostdev mode='subsystem' type='usb'/>",
        "<hostdev mode='subsystem' type='pci'><teaming type='transient' persistent='ua-x'/></hostdev>",
        "<interface type='hostdev'><teaming type='transient' persistent='ua-x'/></interface>",
        "<memory model='dimm'><address type='dimm' slot='0' base='0x100000000'/></memory>",
        "<memory model='nvdimm'/>",
        "<shmem name='shm0' role='master'/>",
        "<filesystem type='mount'><driver type='path'/></filesystem>",
        "<disk type='file'><source file='/srv/shared/a'/><target dev='vda'/></disk>",
        "<disk type='file'><source file='/var/iso'/><target dev='sda'/><readonly/></disk>",
        "<disk type='file' device='cdrom'><target dev='sda'/></disk>",
        "<disk type='block'><source dev='/dev/sdb'/><target dev='vda'/></disk>",
        "<disk type='network'><source protocol='rbd' name='p/a'/><target dev='vda'/></disk>",
    ],
)
def test_what_libvirt_lets_pass_is_not_reported(devices: str) -> None:
    assert migration_blockers(domain(devices), shared_path=shared) == ()


def test_an_invariant_tsc_needs_its_frequency() -> None:
    assert migration_blockers(domain(inside=INVTSC)) == (
        "domain has 'invtsc' CPU feature but TSC frequency is not specified",
    )
    clock = "<clock offset='utc'><timer name='tsc' frequency='2400000000'/></clock>"
    assert migration_blockers(domain(inside=INVTSC + clock)) == ()
    assert migration_blockers(domain(inside=INVTSC.replace("require", "disable"))) == ()


def test_facts_that_are_not_in_the_xml_come_from_the_caller() -> None:
    assert migration_blockers(domain(), snapshots=2, block_job=True) == (
        "cannot migrate domain with 2 snapshots",
        "domain has active block job",
    )


def test_storage_is_not_judged_without_knowing_what_is_shared() -> None:
    assert migration_blockers(domain("<disk type='nvme'/><disk><source file='/var/a'/></disk>")) == ()


def test_virtiofs_passes_where_the_host_can_migrate_it() -> None:
    devices = "<filesystem type='mount'><driver type='virtiofs'/><target dir='share'/></filesystem>"

    assert migration_blockers(domain(devices), virtiofs_migratable=True) == ()


def test_each_reason_is_given_once() -> None:
    device = "<hostdev mode='subsystem' type='pci'/>"

    assert migration_blockers(domain(device * 3)) == (HOSTDEV.format("pci"),)
