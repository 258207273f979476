# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Disk,
    GuestCell,
    Policy,
    Vcpus,
    migration_mode,
    parse_domain,
    with_policy,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError


def test_a_running_vm(live: str) -> None:
    vm = parse_domain(live)

    assert (vm.name, vm.uuid, vm.runtime_id) == ("db1", "6f2f1a3c-5f0e-4a55-9a1e-0f6f2d1c7b01", 7)
    assert (vm.virt_type, vm.emulator) == ("kvm", "/usr/bin/qemu-system-x86_64")
    assert (vm.arch, vm.machine) == ("x86_64", "pc-q35-10.0")
    assert vm.vcpus == Vcpus(current=4, maximum=8, sockets=2, dies=1, cores=2, threads=2)
    assert vm.guest_cells == (GuestCell(0, "0-7", 8388608),)
    assert vm.huge_pages_kib == 2048
    assert vm.networks == ("backup", "br0")
    assert vm.cpu_xml is not None
    assert vm.cpu_xml.startswith('<cpu mode="custom" match="exact" check="full">')
    assert not vm.has_hostdev
    assert vm.policy is None


def test_memory_counts_dimms_but_not_the_reserved_maximum(live: str) -> None:
    assert parse_domain(live).memory_kib == 9437184


def test_disks_keep_what_decides_about_sharing(live: str) -> None:
    assert parse_domain(live).disks == (
        Disk(
            "vda",
            "disk",
            "file",
            "/srv/shared/db1.qcow2",
            backing=("/srv/templates/debian13.qcow2",),
            cache="none",
            format="qcow2",
            peculiar=("a backing file",),
        ),
        Disk("vdb", "disk", "block", "/dev/disk/by-id/dm-name-san-db1", shareable=True, cache="none", format="raw"),
        Disk("sda", "cdrom", "file", read_only=True),
    )


def test_storage_names_folders_devices_and_pools(live: str, plain: str) -> None:
    assert parse_domain(live).storage == ("/dev/disk/by-id/dm-name-san-db1", "/srv/shared", "/srv/templates")
    assert parse_domain(plain).storage == ("images",)


def test_a_small_definition_has_libvirts_defaults(plain: str) -> None:
    vm = parse_domain(plain)

    assert vm.memory_kib == vm.current_memory_kib == 512 * 1024
    assert vm.vcpus.as_dict() == {
        "current": 2,
        "maximum": 2,
        "topology": {"sockets": 2, "dies": 1, "cores": 1, "threads": 1},
    }
    assert (vm.runtime_id, vm.cpu_xml, vm.cpu_mode, vm.huge_pages_kib) == (None, None, None, None)
    assert vm.networks == ("eno1",)
    assert vm.guest_cells == ()
    assert [disk.source for disk in vm.disks] == ["pool/web1", "web1-data"]


def domain(inside: str) -> str:
    return f"<domain type='kvm'><name>a</name>{inside}</domain>"


@pytest.mark.parametrize(
    ("memory", "kib"),
    [
        ("<memory>1024</memory>", 1024),
        ("<memory unit='GiB'>2</memory>", 2097152),
        ("<memory unit='G'>2</memory>", 2097152),
        ("<memory unit='MB'>1</memory>", 977),
        ("<memory unit='b'>1</memory>", 1),
        ("", 0),
    ],
)
def test_memory_units_are_those_of_libvirt(memory: str, kib: int) -> None:
    assert parse_domain(domain(memory)).memory_kib == kib


@pytest.mark.parametrize(
    ("pages", "kib"),
    [
        ("<hugepages/>", 2048),
        ("<hugepages><page size='1' unit='G'/></hugepages>", 1048576),
        ("<hugepages><page size='1' unit='GiB' nodeset='0'/><page size='2048' unit='KiB'/></hugepages>", 2048),
        ("<hugepages><page size='1' unit='GiB' nodeset='0'/></hugepages>", 1048576),
        ("<nosharepages/>", None),
    ],
)
def test_huge_page_size(pages: str, kib: int | None) -> None:
    assert parse_domain(domain(f"<memoryBacking>{pages}</memoryBacking>")).huge_pages_kib == kib


def test_host_devices_are_named_by_kind() -> None:
    devices = (
        "<devices><hostdev mode='subsystem' type='mdev'/><hostdev mode='subsystem' type='usb'/>"
        "<interface type='hostdev'/></devices>"
    )

    vm = parse_domain(domain(devices))
    assert vm.hostdevs == ("mdev", "usb", "pci")
    assert vm.has_hostdev


def test_the_pinning_of_a_snapshot_lists_all_guest_cells() -> None:
    cells = "<cell id='0' cpus='0-1' memory='1' unit='GiB'/><cell id='1' cpus='2-3' memory='1' unit='GiB'/>"
    vm = parse_domain(
        domain(f"<numatune><memnode cellid='1' mode='strict' nodeset='0'/></numatune><cpu><numa>{cells}</numa></cpu>")
    )

    assert vm.pinning_as_dict()["cells"] == [
        {"id": 0, "vcpus": "0-1", "memory_kib": 1048576},
        {"id": 1, "vcpus": "2-3", "memory_kib": 1048576, "mode": "strict", "node": "0"},
    ]


@pytest.mark.parametrize(
    ("inside", "mode"),
    [
        ("", "automatic"),
        ("<cpu mode='host-model'/>", "automatic"),
        ("<cpu mode='host-passthrough'/>", "manual"),
        ("<cputune><vcpupin vcpu='0' cpuset='1'/></cputune>", "manual"),
        ("<numatune><memory mode='preferred' nodeset='0'/></numatune>", "manual"),
        ("<numatune><memnode cellid='0' mode='strict' nodeset='0'/></numatune>", "manual"),
        ("<numatune><memory mode='strict' placement='auto'/></numatune>", "automatic"),
        ("<vcpu cpuset='0-3'>2</vcpu>", "automatic"),
        ("<cputune><emulatorpin cpuset='0'/></cputune>", "automatic"),
    ],
)
def test_migration_mode_follows_from_cpu_and_pins(inside: str, mode: str) -> None:
    assert migration_mode(parse_domain(domain(inside))) == mode


def test_a_stored_migration_mode_wins() -> None:
    pinned = parse_domain(with_policy(domain("<cpu mode='host-passthrough'/>"), Policy(migration="pinned")))

    assert migration_mode(pinned) == "pinned"
    assert migration_mode(pinned, Policy(migration="automatic")) == "automatic"
    assert migration_mode(pinned, Policy(hosts=("hv1",))) == "manual"


def test_a_domain_without_name_is_refused() -> None:
    with pytest.raises(FleetError, match="no <name>") as caught:
        parse_domain("<domain/>")

    assert caught.value.code == "bad_xml"


@pytest.mark.parametrize(
    ("vcpus", "online", "data"),
    [
        ("<vcpu current='2'>4</vcpu>", (0, 1), None),
        (
            "<vcpu current='2'>4</vcpu><vcpus><vcpu id='0' enabled='yes'/><vcpu id='1' enabled='yes'/></vcpus>",
            (0, 1),
            None,
        ),
        (
            "<vcpu current='2'>4</vcpu><vcpus><vcpu id='0' enabled='yes'/><vcpu id='1' enabled='no'/>"
            "<vcpu id='3' enabled='yes'/></vcpus>",
            (0, 3),
            "0,3",
        ),
    ],
)
def test_vcpus_that_the_guest_has_may_be_any(vcpus: str, online: tuple[int, ...], data: str | None) -> None:
    found = parse_domain(domain(vcpus)).vcpus

    assert found.online == online
    assert found.as_dict().get("online") == data


@pytest.mark.parametrize(
    ("threads", "numbers"),
    [
        ("", ()),
        ("<iothreads>2</iothreads>", (1, 2)),
        ("<iothreads>2</iothreads><iothreadids><iothread id='4'/><iothread id='2'/></iothreadids>", (2, 4)),
        ("<iothreads>3</iothreads><iothreadids><iothread id='2'/></iothreadids>", (1, 2, 3)),
        ("<iothreadids><iothread id='7'/></iothreadids>", (7,)),
    ],
)
def test_io_threads_without_a_number_get_the_lowest_free(threads: str, numbers: tuple[int, ...]) -> None:
    assert parse_domain(domain(threads)).iothreads == numbers
