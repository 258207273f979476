# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Debian 13 tree that all hosts of all labs share read-only: built once, kept in the cache.

The tree is built in `<cache>/tree-<key>.partial-<pid>` and renamed when complete, so a crash never leaves a half-built
tree in place. The key is a hash of everything that decides the content.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Optional, Sequence, Tuple

from .shell import LabError, Progress, file_lock, run, stream

SUITE = "trixie"
RECIPE = 2  # raise it when the steps below change the content
DEFAULT_CACHE = "/var/cache/kvm_fleet_lab"
DEFAULT_MIRROR = "http://deb.debian.org/debian"

PACKAGES = (
    "libvirt-daemon-system",
    "libvirt-daemon-driver-qemu",
    "libvirt-clients",
    "qemu-system-x86",
    "qemu-utils",
    "openssh-server",
    "netcat-openbsd",
    "iproute2",
    "iputils-ping",
    "procps",
    "python3",
    "python3-libvirt",
    "python3-lxml",
    "kmod",
    # for the guests' image
    "busybox-static",
    "qemu-guest-agent",
    "tcc",
    "libc6-dev",
    "zstd",
)
KERNEL_META = "linux-image-cloud-amd64"
KERNEL_DIR = "opt/guest-kernel"

# What the machine itself must have: command -> Debian/Ubuntu package.
TOOLS = {
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "tc": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

SLIM = """\
force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
path-exclude=/usr/share/info/*
"""


def cache_dir() -> Path:
    """Where trees and guest images are kept; set by KVM_FLEET_LAB_CACHE."""
    return Path(os.environ.get("KVM_FLEET_LAB_CACHE") or DEFAULT_CACHE)


def tree_key() -> str:
    """A name for the content: suite, packages and recipe."""
    text = "\n".join([SUITE, *sorted(PACKAGES), KERNEL_META, SLIM, str(RECIPE)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def ensure_tools(progress: Progress) -> None:
    """Install the commands the lab calls, where apt can do it; raise LabError naming the packages elsewhere."""
    if not _missing_packages():
        return
    if not shutil.which("apt-get"):
        names = ", ".join(_missing_packages())
        raise LabError(f"the machine lacks {names} (Debian package names); install them and try again")
    with cache_lock(cache_dir()):  # two labs that start at once
        missing = _missing_packages()
        if missing:
            progress(f"installing on this machine: {' '.join(missing)}")
            log = Path("/dev/null")
            stream(["apt-get", "update", "-q"], log, progress)
            stream(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], log, progress)


def _missing_packages() -> List[str]:
    missing = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
    return missing if KEYRING.exists() else [*missing, "debian-archive-keyring"]


def find_mirror(sources: Path = Path("/etc/apt"), os_release: Path = Path("/etc/os-release")) -> str:
    """The Debian mirror this machine uses itself, from deb822 or one-line sources; without one, the public mirror."""
    if not re.search(r"^ID=\"?debian\"?$", _text(os_release), re.M):
        return DEFAULT_MIRROR  # an Ubuntu mirror has no trixie
    files = sorted((sources / "sources.list.d").glob("*.sources")) + sorted((sources / "sources.list.d").glob("*.list"))
    for path in [*files, sources / "sources.list"]:
        for line in _text(path).splitlines():
            found = re.match(r"(?:URIs:|deb(?:\s+\[[^]]*\])?)\s+((?:https?|file|ftp):\S*/debian)/?(?:\s|$)", line)
            if found:
                return found.group(1)
    return DEFAULT_MIRROR


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@contextmanager
def cache_lock(cache: Path) -> Iterator[None]:
    """Only one process builds in a cache at a time; others wait for it. The lock dies with its holder."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"{cache}: {error.strerror}; choose another place with KVM_FLEET_LAB_CACHE") from error
    with file_lock(cache / "lock"):
        yield


def ensure_tree(progress: Progress, mirror: Optional[str] = None) -> Path:
    """Return the tree's folder, building it first if the cache lacks it (a minute or two, about 1 GB)."""
    cache = cache_dir()
    tree = cache / f"tree-{tree_key()}"
    with cache_lock(cache):
        remove_partial(cache)
        if not tree.is_dir():
            require_space(cache, 1500, "KVM_FLEET_LAB_CACHE")
            partial = cache / f"{tree.name}.partial-{os.getpid()}"
            source = mirror or os.environ.get("KVM_FLEET_LAB_MIRROR") or find_mirror()
            _build(partial, cache / f"{tree.name}.log", source, progress)
            partial.rename(tree)
    return tree


def remove_partial(cache: Path) -> None:
    """Remove what a crashed build left. Call with the cache locked."""
    for path in cache.glob("*.partial-*"):
        shutil.rmtree(path, ignore_errors=True)


def require_space(path: Path, mib: int, variable: str) -> None:
    """Raise LabError unless the file system of `path` has `mib` MiB free; `variable` names another place."""
    free = shutil.disk_usage(path).free >> 20
    if free < mib:
        raise LabError(f"{path}: {free} MiB free, {mib} MiB needed; free space or set {variable} to another place")


def _build(root: Path, log: Path, mirror: str, progress: Progress) -> None:
    progress(f"building the Debian tree from {mirror} (once; log: {log})")
    log.unlink(missing_ok=True)
    try:
        for title, argv in _steps(root, mirror):
            progress(f"  {title}")
            if argv[0] == "debootstrap":
                stream(argv, log, progress)
                _before_packages(root)
            else:
                stream(inside(root, argv), log, progress)
        _unpack_kernel(root, log, progress)
        for junk in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(root / junk, ignore_errors=True)
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise


def _steps(root: Path, mirror: str) -> List[Tuple[str, List[str]]]:
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *PACKAGES]
    return [
        ("Debian base", ["debootstrap", "--variant=minbase", SUITE, str(root), mirror]),
        ("package lists", ["apt-get", "update", "-q"]),
        (f"{len(PACKAGES)} packages with what they need", install),
    ]


def inside(root: Path, argv: Sequence[str]) -> List[str]:
    """Run `argv` in the tree with its own /proc; `stream` gives the mount a namespace that ends with the command."""
    return ["sh", "-ec", 'mount -t proc proc "$0/proc"; exec chroot "$0" "$@"', str(root), *argv]


def _before_packages(root: Path) -> None:
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text(SLIM, encoding="utf-8")
    policy = root / "usr/sbin/policy-rc.d"  # nothing may start while the tree is built
    policy.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    policy.chmod(0o755)
    asked = ["apt-config", "dump", "Acquire::http::Proxy"]
    proxy = run(asked, check=False).stdout if shutil.which("apt-config") else ""
    (root / "etc/apt/apt.conf.d/90machine-proxy").write_text(proxy, encoding="utf-8")


def from_tree(tree: Path, program: str) -> List[str]:
    """Beginning of a command that runs the tree's program on this machine: with the tree's loader and libraries.

    The machine's own system needs neither the program nor its libraries, and the program sees the machine's files.
    """
    libraries = tree / "usr/lib/x86_64-linux-gnu"
    loader = [str(tree / "usr/lib64/ld-linux-x86-64.so.2"), "--argv0", Path(program).name]
    return [*loader, "--library-path", str(libraries), str(tree / program)]


def _unpack_kernel(root: Path, log: Path, progress: Progress) -> None:
    """Unpack the guests' kernel without configuring it: no initramfs-tools, no boot loader."""
    progress("  guest kernel")
    depends = run(["chroot", str(root), "apt-cache", "depends", KERNEL_META]).stdout
    found = re.search(r"Depends: (linux-image-\S+)", depends)
    if not found:
        raise LabError(f"{KERNEL_META} names no kernel package; apt-cache said:\n{depends}")
    package = found.group(1)
    script = f"cd /tmp && apt-get download {package} && dpkg-deb -x {package}_*.deb /{KERNEL_DIR} && rm {package}_*.deb"
    stream(inside(root, ["sh", "-ec", script]), log, progress)
