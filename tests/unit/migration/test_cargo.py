# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which disks travel with a VM, and which keep it where it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import Disk, parse_domain
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._migration import Cargo, Copy, Medium, Place, cargo_of

LOCAL = Disk("vda", "disk", "file", "/var/a.qcow2", format="qcow2")
HERE = Place("/var/a.qcow2", shared=False, capacity=100, allocation=40)
TRAVELS = Copy("vda", "/var/a.qcow2", "a.qcow2", None, "qcow2", 100, 40)


def cargo(disk: Disk, place: Place | None = HERE) -> Cargo:
    return cargo_of([disk], {} if place is None else {disk.target: place})


def test_a_file_that_only_this_host_has_travels() -> None:
    assert cargo(LOCAL) == Cargo((TRAVELS,))
    assert cargo(LOCAL).targets == ("vda",)


def test_a_volume_is_known_by_its_pool_and_its_name() -> None:
    volume = replace(LOCAL, type="volume", source="web1", pool="images")
    assert cargo(volume).copies == (replace(TRAVELS, name="web1", pool="images"),)


def test_what_the_destination_sees_or_libvirt_takes_for_shared_stays() -> None:
    assert cargo(LOCAL, replace(HERE, shared=True)) == Cargo()
    assert cargo(Disk("vda", "disk", "block", "/dev/sdb"), None) == Cargo()


def test_what_is_only_read_has_to_be_there() -> None:
    disc = Disk("sda", "cdrom", "file", "/var/a.iso", read_only=True, format="raw")
    assert cargo(disc, Place("/var/a.iso", False)) == Cargo(media=(Medium("sda", "/var/a.iso", "a.iso", None),))
    assert cargo(replace(disc, optional=True), Place("/var/a.iso", False)) == Cargo()


@pytest.mark.parametrize(
    ("disk", "word"),
    [
        (replace(LOCAL, device="floppy"), "floppy"),
        (replace(LOCAL, shareable=True), "shareable"),
        (replace(LOCAL, peculiar=("a backing file",)), "blockpull"),
        (replace(LOCAL, peculiar=("encryption by QEMU", "a slice of an image")), "encryption by QEMU and a slice"),
        (replace(LOCAL, format="vmdk"), "vmdk"),
        (replace(LOCAL, format=None), "None"),
    ],
)
def test_what_a_copy_would_not_be_keeps_the_vm(disk: Disk, word: str) -> None:
    found = cargo(disk)
    assert (found.copies, found.media) == ((), ())
    (reason,) = found.refusals
    assert "vda (/var/a.qcow2)" in reason
    assert word in reason


XML = """
<domain type='kvm'><name>a</name><uuid>6d4d1e8e-9b2a-4f6e-8f8c-6a3b1a2c3d4e</uuid><memory>1</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices><disk type='file' device='disk'>
<driver name='qemu' type='qcow2'/>{inside}<target dev='vda'/></disk></devices></domain>
"""
SOURCE = "<source file='/a'{more}>{inside}</source>"


@pytest.mark.parametrize(
    ("inside", "peculiar", "optional"),
    [
        (SOURCE.format(more="", inside="") + "<backingStore/>", (), False),
        ("<backingStore type='file'><source file='/b'/><backingStore/></backingStore>", ("a backing file",), False),
        ("<backingStore type='network'><backingStore/></backingStore>", ("a backing file",), False),
        ("<encryption format='luks'/>", ("encryption by QEMU",), False),
        (SOURCE.format(more="", inside="<encryption format='luks'/>"), ("encryption by QEMU",), False),
        (SOURCE.format(more="", inside="<slices><slice/></slices>"), ("a slice of an image",), False),
        (SOURCE.format(more="", inside="<dataStore type='file'/>"), ("a data file of its own",), False),
        (SOURCE.format(more=" startupPolicy='optional'", inside=""), (), True),
        (SOURCE.format(more=" startupPolicy='requisite'", inside=""), (), True),
        (SOURCE.format(more=" startupPolicy='mandatory'", inside=""), (), False),
    ],
)
def test_a_definition_says_what_is_peculiar_of_a_disk(inside: str, peculiar: tuple[str, ...], optional: bool) -> None:
    (disk,) = parse_domain(XML.format(inside=inside)).disks
    assert (disk.format, disk.peculiar, disk.optional) == ("qcow2", peculiar, optional)
