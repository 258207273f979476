# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk that every machine starts from: the pods' Debian tree with a kernel and GRUB, as one raw image.

No loop devices and no mounts of the image are needed: `mke2fs -d` fills the file system, and GRUB is written into the
first MiB as grub-install would.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from pathlib import Path
from typing import List

from ..shell import Progress, run, stream
from ..tree import KERNEL_DIR, cache_dir, cache_lock, from_tree, inside, remove_partial, require_space

SOURCE = Path(__file__).parent / "rootfs"
RECIPE = 1  # raise it when the steps below change the content
PACKAGES = ("linux-image-cloud-amd64", "initramfs-tools", "zstd", "grub-pc-bin", "grub2-common", "e2fsprogs", "dbus")
SIZE_MIB = 3072
SECTOR = 512
START = 1 << 20  # the file system's first byte; GRUB's core image lies before it
FILE_SYSTEM_UUID = "4b564d46-6c65-4574-8c61-620000000001"

# What a host of a lab never needs, and what only costs time at boot.
MASKED = (
    "apparmor.service",
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "grub-common.service",
    "libvirt-guests.service",
    "logrotate.timer",
    "sshd-keygen.service",
    "systemd-networkd-persistent-storage.service",
    "systemd-networkd-wait-online.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-update-utmp.service",
    "virtlockd.service",
)

GRUB_MODULES = ("biosdisk", "part_msdos", "ext2", "normal", "configfile", "linux", "serial", "terminal", "echo")
# Only for the very first boot, which runs update-grub.
FIRST_GRUB_CFG = """\
set timeout=0
serial --speed=115200
terminal_output serial
linux /boot/{kernel} root=UUID={uuid} ro {arguments}
initrd /boot/{initrd}
boot
"""
FSTAB = f"UUID={FILE_SYSTEM_UUID} / ext4 errors=remount-ro,noatime 0 1\n"


def machines_cache() -> Path:
    """Where disks and snapshots are kept; with a lock of its own, since pods do not wait for a machine to boot."""
    return cache_dir() / "machines"


def disk_key(tree: Path, image: Path) -> str:
    """A name for the content: the tree, the guests' image, packages, our files and the recipe."""
    files = sorted(path for path in SOURCE.rglob("*") if path.is_file())
    content = b"".join(str(path.relative_to(SOURCE)).encode() + path.read_bytes() for path in files)
    text = "\n".join([tree.name, image.name, *PACKAGES, *MASKED, *GRUB_MODULES, FIRST_GRUB_CFG, str(RECIPE)])
    return hashlib.sha256(text.encode() + content).hexdigest()[:12]


def ensure_disk(tree: Path, image: Path, progress: Progress) -> Path:
    """Return the raw disk image, building it first if the cache lacks it (about a minute, 0.7 GB)."""
    cache = machines_cache()
    disk = cache / f"disk-{disk_key(tree, image)}.img"
    with cache_lock(cache):
        remove_partial(cache)
        if not disk.exists():
            require_space(cache, 2500, "KVM_FLEET_LAB_CACHE")
            work = cache / f"{disk.stem}.partial-{os.getpid()}"
            progress(f"building the machines' disk (once; log: {disk.with_suffix('.log')})")
            try:
                _build(tree, image, work, disk.with_suffix(".log"), progress)
                (work / "disk.img").rename(disk)
            finally:
                shutil.rmtree(work, ignore_errors=True)
    return disk


def _build(tree: Path, image: Path, work: Path, log: Path, progress: Progress) -> None:
    log.unlink(missing_ok=True)
    root = work / "root"
    work.mkdir()
    run(["cp", "-a", "--reflink=auto", str(tree), str(root)])
    shutil.copytree(SOURCE, root, dirs_exist_ok=True)  # before the packages: it tells what goes into the initramfs
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", "-o", "Dpkg::Options::=--force-confold"]
    for title, argv in (
        ("package lists", ["apt-get", "update", "-q"]),
        ("kernel and boot loader", [*install, *PACKAGES]),
        ("network", ["systemctl", "enable", "systemd-networkd.service"]),
        ("services that are not needed", ["systemctl", "mask", *MASKED]),
    ):
        progress(f"  {title}")
        stream(inside(root, argv), log, progress)
    _trim(root)
    _add_files(root, image)
    progress("  file system")
    core = _grub(root)
    _write_image(root, work / "disk.img", core)


def _trim(root: Path) -> None:
    (root / "usr/sbin/policy-rc.d").unlink()
    for name in (KERNEL_DIR, "var/cache/apt/archives", "var/lib/apt/lists", "tmp", "run"):
        shutil.rmtree(root / name, ignore_errors=True)
    for name in ("tmp", "run"):
        (root / name).mkdir()
    (root / "tmp").chmod(0o1777)
    for path in (root / "etc/ssh").glob("ssh_host_*"):
        path.unlink()


def _add_files(root: Path, image: Path) -> None:
    for path in (root / "usr/local/sbin").iterdir():
        path.chmod(0o755)
    shared = root / "srv/lab"
    shared.mkdir(parents=True)
    # KVM unpacks a kernel fast, and a disk with a smaller one is read faster.
    for source, name in (("vmlinuz", "kernel"), ("initrd.gz", "initrd.gz")):
        shutil.copyfile(image / source, shared / name)
    (root / "etc/fstab").write_text(FSTAB, encoding="ascii")
    (root / "etc/hostname").write_text("machine\n", encoding="ascii")
    (root / "etc/machine-id").write_text("4b564d466c656574" * 2 + "\n", encoding="ascii")
    for name in ("etc/.updated", "var/.updated"):
        (root / name).touch()  # else the first boot believes that /usr is new and refreshes every cache


def _grub(root: Path) -> bytes:
    """Put GRUB's modules and a first configuration into the tree; return the core image for the gap before it."""
    grub, modules = root / "boot/grub", root / "usr/lib/grub/i386-pc"
    target = grub / "i386-pc"
    target.mkdir(parents=True, exist_ok=True)
    for path in [*modules.glob("*.mod"), *modules.glob("*.lst"), modules / "boot.img"]:
        shutil.copy(path, target)
    make = ["grub-mkimage", "-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "-o", "/boot/grub/i386-pc/core.img"]
    run(["chroot", str(root), *make, *GRUB_MODULES])
    run(["chroot", str(root), "grub-editenv", "/boot/grub/grubenv", "create"])
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    arguments = _first_arguments(root / "etc/default/grub")
    text = FIRST_GRUB_CFG.format(
        kernel=kernel.name,
        initrd=kernel.name.replace("vmlinuz", "initrd.img"),
        uuid=FILE_SYSTEM_UUID,
        arguments=arguments,
    )
    (grub / "grub.cfg").write_text(text, encoding="ascii")
    return (target / "core.img").read_bytes()


def _first_arguments(path: Path) -> str:
    lines = dict(line.split("=", 1) for line in path.read_text(encoding="ascii").splitlines() if "=" in line)
    return " ".join(lines[name].strip('"') for name in ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"))


def _write_image(root: Path, disk: Path, core: bytes) -> None:
    with disk.open("wb") as handle:
        handle.truncate(SIZE_MIB << 20)
    options = f"offset={START},lazy_itable_init=1,lazy_journal_init=1"
    make: List[str] = [*from_tree(root, "usr/sbin/mke2fs"), "-q", "-F", "-t", "ext4", "-U", FILE_SYSTEM_UUID]
    # GRUB reads neither feature.
    make += ["-O", "^metadata_csum_seed,^orphan_file", "-E", options, "-d", str(root), str(disk)]
    config = f"MKE2FS_CONFIG={root}/etc/mke2fs.conf"
    run(["env", config, *make, f"{(SIZE_MIB << 10) - (START >> 10)}k"], timeout=300)
    boot = (root / "boot/grub/i386-pc/boot.img").read_bytes()
    with disk.open("r+b") as handle:
        handle.write(boot_sector(boot, SIZE_MIB) + core)


def boot_sector(boot: bytes, size_mib: int) -> bytes:
    """The first sector: GRUB's boot code and one active Linux partition from 1 MiB to the end of `size_mib`.

    boot.img loads its core image from sector 1, where it lies; its jump over a BIOS bug of floppies (offset 0x66) is
    made two no-operations, as grub-install does for disks.
    """
    sector = bytearray(boot[:440].ljust(SECTOR, b"\0"))
    sector[0x66:0x68] = b"\x90\x90"
    first, count = START // SECTOR, ((size_mib << 20) - START) // SECTOR
    struct.pack_into("<I", sector, 440, 0x4B464C31)  # disk signature
    struct.pack_into("<B3sB3sII", sector, 446, 0x80, b"\0\2\0", 0x83, b"\xff\xff\xff", first, count)
    sector[510:512] = b"\x55\xaa"
    return bytes(sector)
