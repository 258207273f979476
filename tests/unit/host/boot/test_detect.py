# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which boot loader a host has: by what booted it, by what it can configure."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot import BOOT_LOADERS, boot_loader

from tests.unit.host.boot.fakes import Host

REAL = {"boot/grub/grub.cfg": "menuentry 'x' {\n}\n"}
BLS = {"boot/grub2/grub.cfg": "insmod blscfg\nblscfg\n", "boot/loader/entries/1-6.conf": "linux x\n"}
GRUB = {"usr/sbin/update-grub": "", **REAL}
MKCONFIG = {"usr/sbin/grub2-mkconfig": ""}
GRUBBY = {"usr/bin/grubby": "", **MKCONFIG}
SYSTEMD = {"usr/bin/kernel-install": "", "usr/bin/bootctl": ""}
LOADER_INFO = "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"


@pytest.mark.parametrize(
    ("found", "files", "started_by"),
    [
        ("grub", GRUB, None),
        # Every Debian has these, and a package may have left the file.
        ("grub", {**GRUB, **SYSTEMD, "etc/kernel/cmdline": "a"}, None),
        ("grub", {**GRUB, **SYSTEMD, "boot/efi/loader/entries/1-6.conf": ""}, "GRUB 2.12"),
        ("grub", {**MKCONFIG, "boot/grub2/grub.cfg": "menuentry 'x' {\n}\n"}, None),
        ("grubby", {**GRUBBY, **BLS}, None),
        ("grubby", {**GRUBBY, **BLS, **SYSTEMD, "etc/kernel/cmdline": "a"}, "GRUB 2.12"),
        # Entries left over from before they were switched off in /etc/default/grub.
        ("grub", {**GRUBBY, **BLS, "boot/grub2/grub.cfg": "menuentry 'x' {\n}\n"}, None),
        # An s390x, with zipl.
        ("grubby", {"usr/sbin/grubby": "", "boot/loader/entries/1-6.conf": ""}, None),
        ("kernel_install", {**SYSTEMD, "efi/loader/entries/1-6.conf": ""}, None),
        ("kernel_install", {**SYSTEMD, "boot/efi/EFI/Linux/1-6.efi": ""}, None),
        ("kernel_install", {**SYSTEMD, "etc/kernel/cmdline": "a"}, None),
        ("kernel_install", {**SYSTEMD, **GRUB}, "systemd-boot 257"),
        ("kernel_install", {**SYSTEMD, **GRUBBY, "boot/loader/entries/1-6.conf": ""}, "systemd-boot 257"),
        ("rpm_ostree", {"run/ostree-booted": "", "usr/bin/rpm-ostree": "", **GRUBBY, **BLS, **SYSTEMD}, None),
        (None, {}, None),
        (None, SYSTEMD, None),
        (None, REAL, None),
        (None, {**GRUB, "run/ostree-booted": ""}, None),
        (None, GRUB, "systemd-boot 257"),
        (None, {**SYSTEMD, "etc/kernel/cmdline": "a"}, "rEFInd 0.14"),
        # Entries that nothing here can edit.
        (None, {**MKCONFIG, **BLS, **SYSTEMD}, None),
    ],
)
def test_the_boot_loader_is_found(
    tmp_path: Path, found: str | None, files: dict[str, str], started_by: str | None
) -> None:
    host = Host(tmp_path)
    for path, text in files.items():
        host.write(path, text)
    if started_by:
        path = host.write(LOADER_INFO, "")
        path.write_bytes(b"\6\0\0\0" + f"{started_by}\0".encode("utf-16-le"))
    if found:
        assert boot_loader(tmp_path, host.run).name == found
        return
    with pytest.raises(FleetError, match="No boot loader was found that this collection can configure") as caught:
        boot_loader(tmp_path, host.run)
    assert caught.value.code == "unknown_boot_loader"


@pytest.mark.parametrize("name", sorted(BOOT_LOADERS))
def test_a_boot_loader_that_is_named_is_taken(tmp_path: Path, name: str) -> None:
    assert boot_loader(tmp_path, Host(tmp_path).run, name).name == name


def test_a_name_that_is_none_of_them_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match="name one of grub, grubby, kernel_install, rpm_ostree"):
        boot_loader(tmp_path, Host(tmp_path).run, "lilo")


def test_what_efi_tells_and_nobody_understands_is_an_error(tmp_path: Path) -> None:
    Host(tmp_path).write(LOADER_INFO, "1234x")
    with pytest.raises(FleetError, match=r"LoaderInfo-.* cannot be used"):
        boot_loader(tmp_path, Host(tmp_path).run)
