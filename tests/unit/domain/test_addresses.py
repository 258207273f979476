# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where guests see their devices, and that nothing the collection writes moves one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    IothreadPin,
    Pinning,
    Policy,
    ResourceWish,
    VcpuPin,
    devices_of,
    differing_addresses,
    missing_addresses,
    moved_devices,
    with_cpu,
    with_machine,
    with_pinning,
    with_policy,
    with_resources,
)
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

PCI = "<address type='pci' domain='0x0000' bus='0x{bus:02x}' slot='0x0{slot:x}' function='0x0'/>"


def domain(*devices: str) -> str:
    return f"<domain><name>a</name><devices>{''.join(devices)}</devices></domain>"


def pci(slot: int, bus: int = 0) -> str:
    return PCI.format(slot=slot, bus=bus)


def disk(target: str, address: str = "", bus: str = "virtio") -> str:
    return f"<disk type='file'><target dev='{target}' bus='{bus}'/>{address}</disk>"


def rng(address: str = "", alias: str = "") -> str:
    named = f"<alias name='{alias}'/>" if alias else ""
    return f"<rng model='virtio'><backend model='random'>/dev/urandom</backend>{named}{address}</rng>"


# What is read


def test_a_running_vm_as_libvirt_prints_it(live: str) -> None:
    assert [(device.name, device.address) for device in devices_of(live)] == [
        ("disk vda", "pci 0000:04:00.0"),
        ("disk vdb", "pci 0000:05:00.0"),
        ("disk sda", "drive controller=0 bus=0 target=0 unit=0"),
        ("controller pci 0", None),
        ("controller pci 1", "pci 0000:00:02.0 multifunction=on"),
        ("interface 52:54:00:6b:3c:58", "pci 0000:01:00.0"),
        ("interface 52:54:00:6b:3c:59", "pci 0000:02:00.0"),
        ("memballoon balloon0", "pci 0000:06:00.0"),
        ("memory dimm0", "dimm slot=0"),
    ]
    assert missing_addresses(live) == []


def test_a_definition_written_by_hand_has_no_addresses(plain: str) -> None:
    assert missing_addresses(plain) == ["disk vda", "disk vdb", "interface 1"]


def test_the_address_of_a_host_device_is_the_one_in_the_guest() -> None:
    source = f"<source>{pci(3, bus=0x5E)}</source>"
    given_away = "<hostdev mode='subsystem' type='pci'>{}</hostdev>".format
    assert missing_addresses(domain(given_away(source))) == ["hostdev 1"]
    (found,) = devices_of(domain(given_away(source + pci(7))))
    assert found.address == "pci 0000:00:07.0"


NEEDING = [
    disk("sda", bus="scsi"),
    disk("hda", bus="ide"),
    disk("fda", bus="fdc"),
    disk("sda", bus="sata"),
    disk("sda", bus="usb"),
    "<controller type='pci' index='1' model='pcie-root-port'/>",
    "<controller type='usb' index='0' model='qemu-xhci'/>",
    "<controller type='virtio-serial' index='0'/>",
    "<interface type='network'><mac address='52:54:00:00:00:01'/></interface>",
    "<interface type='network'><model type='e1000'/></interface>",
    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>",
    "<console type='pty'><target type='virtio'/></console>",
    "<serial type='pty'><target type='pci-serial'/></serial>",
    "<input type='tablet' bus='usb'/>",
    "<video><model type='virtio'/></video>",
    "<sound model='ich9'/>",
    "<memballoon model='virtio-non-transitional'/>",
    "<watchdog model='i6300esb'/>",
    "<filesystem type='mount'/>",
    "<hostdev mode='subsystem' type='usb'/>",
    "<hostdev mode='subsystem' type='mdev' model='vfio-pci'/>",
    "<memory model='virtio-mem'/>",
    "<redirdev bus='usb'/>",
    "<vsock model='virtio'/>",
    rng(),
]
WITHOUT = [
    disk("sda", bus="sd"),
    "<controller type='pci' index='0' model='pci-root'/>",
    "<controller type='pci' index='0' model='pcie-root'/>",
    "<controller type='usb' index='0' model='none'/>",
    "<controller type='fdc' index='0'/>",
    "<channel type='unix'><target type='guestfwd' port='4600'/></channel>",
    "<console type='pty'><target type='serial'/></console>",
    "<serial type='pty'><target type='isa-serial'/></serial>",
    "<input type='mouse' bus='ps2'/>",
    "<video><model type='none'/></video>",
    "<sound model='pcspk'/>",
    "<memballoon model='none'/>",
    "<watchdog model='itco'/>",
    "<hostdev mode='subsystem' type='mdev' model='vfio-ap'/>",
    "<memory model='dimm'/>",
    "<tpm model='tpm-crb'/>",
    "<graphics type='vnc'/>",
    "<emulator>/usr/bin/qemu-system-x86_64</emulator>",
]


@pytest.mark.parametrize("device", NEEDING)
def test_libvirt_gives_it_an_address_so_it_is_missed(device: str) -> None:
    (found,) = devices_of(domain(device))
    assert missing_addresses(domain(device)) == [found.name]
    element = etree.fromstring(device)
    element.append(etree.fromstring(pci(2)))
    assert missing_addresses(domain(etree.tostring(element, encoding="unicode"))) == []


@pytest.mark.parametrize("device", WITHOUT)
def test_it_may_have_none_so_it_is_not_missed(device: str) -> None:
    assert missing_addresses(domain(device)) == []


# Running and defined


def differing(running: str, defined: str) -> list[tuple[str, str | None, str | None, str | None]]:
    found = differing_addresses(running, defined)
    return [(each["device"], each["running"], each["defined"], each["only"]) for each in found]


def test_a_disk_plugged_in_and_defined_by_itself_is_elsewhere() -> None:
    running = domain(disk("vda", pci(3)), disk("vdb", pci(7)))
    defined = domain(disk("vda", pci(3)), disk("vdb", pci(8)))
    assert differing(running, defined) == [("disk vdb", "pci 0000:00:07.0", "pci 0000:00:08.0", None)]


def test_what_only_one_of_them_has_is_said() -> None:
    running, defined = domain(disk("vdb", pci(7))), domain(disk("vdc", pci(7)))
    assert differing(running, defined) == [
        ("disk vdb", "pci 0000:00:07.0", None, "running"),
        ("disk vdc", None, "pci 0000:00:07.0", "defined"),
    ]


@pytest.mark.parametrize(
    "device",
    [
        "<interface type='network'><mac address='52:54:00:AB:00:01'/>{}</interface>",
        "<controller type='scsi' index='1' model='virtio-scsi'>{}</controller>",
        "<sound model='ich9'><alias name='ua-sound'/>{}</sound>",
        "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/>{}</channel>",
        "<hostdev mode='subsystem' type='pci'><alias name='ua-nic'/>{}</hostdev>",
    ],
)
def test_a_device_is_known_again_by_its_name_not_by_its_place(device: str) -> None:
    other = device.replace("00:01", "00:02").replace("index='1'", "index='2'").replace("ua-", "ua-other-")
    other = other.replace("agent.0", "agent.1")
    running = domain(device.format(pci(3)), other.format(pci(4)))
    # The same addresses the other way round.
    defined = domain(other.format(pci(3)), device.lower().format(pci(4)))
    found = differing(running, defined)
    assert [(old, new, only) for _name, old, new, only in found] == [
        ("pci 0000:00:03.0", "pci 0000:00:04.0", None),
        ("pci 0000:00:04.0", "pci 0000:00:03.0", None),
    ]
    assert len({name for name, *_rest in found}) == 2


def test_devices_without_a_name_are_known_again_by_their_addresses() -> None:
    running = domain(rng(pci(5), "rng0"), rng(pci(6), "rng1"), rng(pci(9), "rng2"))
    defined = domain(rng(pci(6)), rng(pci(5)))
    assert differing(running, defined) == [("rng rng2", "pci 0000:00:09.0", None, "running")]
    assert differing(running, domain(rng(pci(5)), rng(pci(6)), rng(pci(8)))) == [
        ("rng rng2", "pci 0000:00:09.0", "pci 0000:00:08.0", None)
    ]


def test_a_device_of_another_model_is_another_device() -> None:
    running, defined = domain("<watchdog model='itco'/>"), domain(f"<watchdog model='i6300esb'>{pci(4)}</watchdog>")
    assert differing(running, defined) == [("watchdog 1", None, "pci 0000:00:04.0", "defined")]
    old, new = (domain(f"<sound model='{model}'>{pci(3)}</sound>") for model in ("ac97", "ich6"))
    assert [only for *_rest, only in differing(old, new)] == ["running", "defined"]


@pytest.mark.parametrize(
    ("running", "defined", "differs"),
    [
        # The base is chosen when the VM starts.
        ("<address type='dimm' slot='0' base='0x280000000'/>", "<address type='dimm' slot='0'/>", False),
        ("<address type='dimm' slot='0' base='0x280000000'/>", "<address type='dimm' slot='1'/>", True),
        (pci(3), "<address type='pci' bus='0' slot='3'/>", False),
        (pci(3), pci(3).replace("/>", " multifunction='on'/>"), True),
        ("<address type='ccw' cssid='0xfe' ssid='0x0' devno='0x0001'/>",
         "<address type='ccw' cssid='0xfe' ssid='0x0' devno='0x0002'/>", True),
        ("<address type='pci'><zpci uid='0x0001' fid='0x00000000'/></address>",
         "<address type='pci'><zpci uid='0x0002' fid='0x00000000'/></address>", True),
    ],
)  # fmt: skip
def test_addresses_differ_by_what_the_guest_sees(running: str, defined: str, differs: bool) -> None:
    memory = "<memory model='dimm'>{}</memory>".format
    assert bool(differing(domain(memory(running)), domain(memory(defined)))) is differs


SLOTS = st.lists(st.integers(1, 15), min_size=1, max_size=8, unique=True)


@given(SLOTS, st.randoms())
def test_the_order_of_devices_does_not_matter(slots: list[int], chance: Any) -> None:
    devices = [rng(pci(slot)) if slot % 2 else disk(f"vd{slot}", pci(slot)) for slot in slots]
    shuffled = chance.sample(devices, len(devices))
    assert differing(domain(*devices), domain(*shuffled)) == []
    assert moved_devices(domain(*devices), domain(*shuffled)) == []


@given(SLOTS)
def test_a_device_that_is_gone_is_one_difference(slots: list[int]) -> None:
    devices = [rng(pci(slot)) for slot in slots]
    assert [found[1:] for found in differing(domain(*devices), domain(*devices[1:]))] == [
        (f"pci 0000:00:{slots[0]:02x}.0", None, "running")
    ]


# Before and after


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        (disk("vda", pci(3)), disk("vda", pci(4)), ["disk vda"]),
        (disk("vda", pci(3)), disk("vda"), ["disk vda"]),
        (disk("vda", pci(3)), "", ["disk vda"]),
        (disk("vda"), "", ["disk vda"]),
        ("<controller type='pci' index='0' model='pci-root'/>", "", ["controller pci 0"]),
        (rng() + rng(), rng(), ["rng 2"]),
        # What had no address may get one, and libvirt may add devices.
        (disk("vda"), disk("vda", pci(3)), []),
        (disk("vda", pci(3)), disk("vda", pci(3)) + rng(pci(4)), []),
    ],
)
def test_a_later_definition_must_keep_devices_and_their_addresses(before: str, after: str, moved: list[str]) -> None:
    assert moved_devices(domain(before), domain(after)) == moved


PINS = Pinning(
    cpuset="0-3", vcpus=(VcpuPin(0, "1"),), emulator="0", iothreads=(IothreadPin(1, "2"),), memory=None, cells=()
)
CHANGES: dict[str, Callable[[str], str]] = {
    "cpu": lambda xml: with_cpu(xml, "<cpu mode='host-model'/>"),
    "pinning": lambda xml: with_pinning(xml, PINS),
    "no pinning": lambda xml: with_pinning(xml, Pinning()),
    "policy": lambda xml: with_policy(xml, Policy(migration="pinned")),
    "resources": lambda xml: with_resources(xml, ResourceWish(iothreads=3, huge_pages_kib=0), drop_pins=True),
    "machine type": lambda xml: with_machine(xml, "pc-q35-9.2"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_no_change_of_the_collection_touches_an_address_or_a_controller(
    live: str, plain: str, change: Callable[[str], str]
) -> None:
    for xml in (live, plain):
        assert devices_of(change(xml)) == devices_of(xml)
    assert change(live) != live
