# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which boot loader a host has."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Dict, Optional

from ..._errors import FleetError
from .. import files
from ..command import Run, program
from . import grub, grubby, kernel_cmdline, kernel_install, rpm_ostree
from .config import BootLoader

# systemd-boot, and GRUB since 2.12, tell here who started the kernel.
_LOADER_INFO = "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
_ENTRY_DIRECTORIES = ("efi/loader/entries", "boot/loader/entries", "boot/efi/loader/entries")
_IMAGE_DIRECTORIES = ("efi/EFI/Linux", "boot/EFI/Linux", "boot/efi/EFI/Linux")

BOOT_LOADERS: Dict[str, Callable[[Path, Run], BootLoader]] = {
    rpm_ostree.NAME: rpm_ostree.RpmOstree,
    grubby.NAME: grubby.Grubby,
    kernel_install.NAME: kernel_install.KernelInstall,
    grub.NAME: grub.Grub,
}


def boot_loader(root: Path, run: Run, name: Optional[str] = None) -> BootLoader:
    """Return the boot loader of this name, or the host's one; raises ``unknown_boot_loader``."""
    name = name or _detect(root)
    if name not in BOOT_LOADERS:
        raise FleetError(
            "No boot loader was found that this collection can configure. Looked for an ostree host with rpm-ostree; "
            "grubby with entries in /boot/loader/entries; kernel-install with boot loader entries or "
            "/etc/kernel/cmdline; GRUB's grub.cfg with update-grub, grub-mkconfig or grub2-mkconfig. Mount the boot "
            f"partition and install that tool, or name one of {', '.join(sorted(BOOT_LOADERS))}.",
            code="unknown_boot_loader",
        )
    return BOOT_LOADERS[name](root, run)


def _detect(root: Path) -> Optional[str]:
    if (root / "run/ostree-booted").exists():
        # Its boot configuration is written anew with every deployment, so no other tool may touch it.
        return rpm_ostree.NAME if program(root, "rpm-ostree") else None
    started_by, config = _started_by(root), grub.config_file(root)
    if started_by.startswith("systemd-boot"):
        return kernel_install.NAME if _can_kernel_install(root) else None
    # GRUB_ENABLE_BLSCFG=false leaves entries behind that nobody reads.
    bls = config is None or grub.takes_bls_entries(root)
    if program(root, "grubby") and any((root / grubby.ENTRIES).glob("*.conf")) and bls:
        return grubby.NAME
    if config is None:
        known = not started_by and _can_kernel_install(root) and _has_entries(root)
        return kernel_install.NAME if known else None
    tool = program(root, "update-grub", "grub-mkconfig", "grub2-mkconfig")
    # With boot loader entries grub.cfg holds no command line, and grub-mkconfig does not touch the entries.
    return grub.NAME if tool and not bls else None


def _can_kernel_install(root: Path) -> bool:
    return bool(program(root, "kernel-install") and program(root, "bootctl"))


def _has_entries(root: Path) -> bool:
    entries = any(any((root / directory).glob("*.conf")) for directory in _ENTRY_DIRECTORIES)
    images = any(any((root / directory).glob("*.efi")) for directory in _IMAGE_DIRECTORIES)
    return entries or images or (root / kernel_cmdline.PATH).exists()


def _started_by(root: Path) -> str:
    """Return what EFI tells of the boot loader, or an empty text. Four bytes of attributes, then UTF-16."""
    path = root / _LOADER_INFO
    try:
        return path.read_bytes()[4:].decode("utf-16-le").rstrip("\0")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise files.bad_record(path, str(error)) from error
