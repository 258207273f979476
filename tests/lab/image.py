# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests' kernel and initramfs, made from the Debian tree and kept in the cache."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import tempfile
from pathlib import Path
from typing import List

from .shell import LabError, Progress, run
from .tree import KERNEL_DIR, cache_dir, cache_lock, remove_partial

SOURCE = Path(__file__).parent / "guest"
RECIPE = 4  # raise it when the steps below change the content
CHECKS = ("memcheck", "cpucheck", "tick")  # each one C source
PROGRAMS = ("usr/sbin/qemu-ga",)
FOLDERS = ("bin", "sbin", "proc", "sys", "dev", "run", "tmp", "etc", "var/run")
APPLETS = ("sh", "mount", "cat", "grep", "cut", "sleep", "echo", "date")


def ensure_image(tree: Path, progress: Progress) -> Path:
    """Return the folder with `vmlinuz`, `vmlinux` and `initrd.gz`, making it first if the cache lacks it."""
    cache = cache_dir()
    image = cache / f"guest-{image_key(tree)}"
    with cache_lock(cache):
        remove_partial(cache)
        if not image.is_dir():
            progress("building the guest image")
            partial = cache / f"{image.name}.partial-{os.getpid()}"
            partial.mkdir()
            _build(tree, partial)
            partial.rename(image)
    return image


def image_key(tree: Path, source: Path = SOURCE) -> str:
    """A name for the content: an image made of other files is another one."""
    content = b"".join(path.name.encode() + b"\0" + path.read_bytes() for path in sorted(source.iterdir()))
    return hashlib.sha256(f"{tree.name} {RECIPE} {CHECKS} {APPLETS}".encode() + content).hexdigest()[:12]


def _build(tree: Path, image: Path) -> None:
    kernels = sorted((tree / KERNEL_DIR / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise LabError(f"{tree}: no kernel in {KERNEL_DIR}; remove the cache with `down --cache` and run `up` again")
    shutil.copyfile(kernels[-1], image / "vmlinuz")
    # Inside the tree, because its compiler, its libraries and its cpio are used; removed at once.
    with tempfile.TemporaryDirectory(prefix="guest-", dir=tree / "tmp") as work:
        root = Path(work) / "root"
        _fill(tree, root)
        inside = "/" + str(Path(work).relative_to(tree))
        steps = [f"cd {inside}/root"]
        for name in CHECKS:
            shutil.copyfile(SOURCE / f"{name}.c", Path(work) / f"{name}.c")
            steps.append(f"tcc -std=c11 -D_DEFAULT_SOURCE -Wall -Werror -o bin/{name} ../{name}.c")
        steps.append(f"find . | busybox cpio -o -H newc 2>/dev/null | gzip -9 > {inside}/initrd.gz")
        run(["chroot", str(tree), "sh", "-ec", "\n".join(steps)])
        (Path(work) / "packed").write_bytes(packed_part(kernels[-1].read_bytes()))
        run(["chroot", str(tree), "zstd", "-dq", f"{inside}/packed", "-o", f"{inside}/vmlinux"])
        for name in ("initrd.gz", "vmlinux"):
            shutil.copyfile(Path(work) / name, image / name)


def packed_part(kernel: bytes) -> bytes:
    """The packed ELF file inside a kernel, by Linux's boot protocol: an emulated CPU takes seconds to unpack it."""
    (sectors,), (offset, length) = struct.unpack_from("B", kernel, 0x1F1), struct.unpack_from("<II", kernel, 0x248)
    start = (sectors + 1) * 512 + offset
    # The packer adds the unpacked size, four bytes that are not zstd's.
    return kernel[start : start + length - 4]


def _fill(tree: Path, root: Path) -> None:
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    for name, place in (("init", "init"), ("shutdown", "sbin/shutdown")):
        shutil.copyfile(SOURCE / name, root / place)
        (root / place).chmod(0o755)
    shutil.copy(tree / "usr/bin/busybox", root / "bin/busybox")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    for program in PROGRAMS:
        for path in [f"/{program}", *_libraries(tree, program)]:
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            # A link is followed: the name the loader looks for, with the content.
            shutil.copy(tree / path.lstrip("/"), target)


def _libraries(tree: Path, program: str) -> List[str]:
    """Absolute paths of the shared libraries and the loader, from ldd in the tree."""
    output = run(["chroot", str(tree), "ldd", f"/{program}"]).stdout
    return re.findall(r"(/\S+) \(0x", output)
