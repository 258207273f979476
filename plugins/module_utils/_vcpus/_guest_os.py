# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which operating systems take a vCPU while they run, and which give one back.

The rows of Linux and Windows follow the support matrix in oVirt's Virtual Machine Management Guide, "Hot Plugging
vCPUs". A row says what can be expected; what really happened is read back from libvirt, from QEMU and from the guest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

Version = Tuple[int, ...]


@dataclass(frozen=True)
class GuestOs:
    """An operating system: ``distribution`` in libosinfo's words (``rhel``, ``win``), ``version`` such as ``2k19``."""

    distribution: str
    version: str = ""

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


@dataclass(frozen=True)
class Support:
    """What a guest can be expected to do; ``known`` is whether a row says so."""

    plug: bool = True
    unplug: bool = True
    known: bool = False


@dataclass(frozen=True)
class Row:
    """A row of the matrix: for distributions, versions from ``since`` on, and architectures (none are all)."""

    distributions: Tuple[str, ...]
    since: Version
    archs: Tuple[str, ...]
    plug: bool
    unplug: bool


_X86 = ("x86_64", "i686")
_POWER = ("ppc64", "ppc64le")
_ENTERPRISE = ("rhel", "centos", "centos-stream", "almalinux", "rocky", "ol", "oraclelinux", "scientific", "eurolinux")
_OTHER_LINUX = (
    "alpinelinux", "alpine", "altlinux", "amazonlinux", "amzn", "archlinux", "arch", "debian", "fedora", "gentoo",
    "linuxmint", "mageia", "manjaro", "nixos", "opensuse", "opensuse-leap", "opensuse-tumbleweed", "sle", "sled",
    "sles", "ubuntu", "voidlinux",
)  # fmt: skip
_LINUX = (*_ENTERPRISE, *_OTHER_LINUX)

# The first row that fits counts, so later versions come first.
MATRIX: Tuple[Row, ...] = (
    Row(_ENTERPRISE, (6, 3), _X86, plug=True, unplug=True),
    Row(_ENTERPRISE, (), _X86, plug=False, unplug=False),
    Row(_ENTERPRISE, (7, 3), _POWER, plug=True, unplug=True),
    Row(_ENTERPRISE, (), _POWER, plug=False, unplug=False),
    Row(_OTHER_LINUX, (), (*_X86, *_POWER), plug=True, unplug=True),
    # QEMU takes no vCPU of this architecture back.
    Row(_LINUX, (), ("s390x",), plug=True, unplug=False),
    Row(("win",), (6, 2), _X86, plug=True, unplug=False),
    Row(("win",), (6, 1), ("x86_64",), plug=True, unplug=False),
    Row(("win",), (), (), plug=False, unplug=False),
    Row(("freebsd", "netbsd", "openbsd", "dragonflybsd"), (), (), plug=False, unplug=False),
    # QEMU plugs vCPUs of no other architecture, whatever runs there.
    Row((), (), ("aarch64", "armv7l", "riscv64"), plug=False, unplug=False),
)

# libosinfo's names of Windows, as versions of its kernel; what is newer than these has at least the last one.
_WINDOWS: Mapping[str, Version] = {
    "xp": (5, 1), "2k3": (5, 2), "2k3r2": (5, 2), "vista": (6, 0), "2k8": (6, 0), "7": (6, 1), "2k8r2": (6, 1),
    "8": (6, 2), "2k12": (6, 2), "8.1": (6, 3), "2k12r2": (6, 3),
}  # fmt: skip
_NEWEST_WINDOWS: Version = (10, 0)

_ID = re.compile(r"^https?://[^/]+/([^/]+)/(.+)$")


def from_metadata(os_id: Optional[str]) -> Optional[GuestOs]:
    """Return the system of a libosinfo id such as ``http://redhat.com/rhel/9.2``, or ``None`` if it is none."""
    found = _ID.match(os_id or "")
    return GuestOs(found.group(1).lower(), found.group(2).lower()) if found else None


def from_agent(info: Mapping[str, Any]) -> Optional[GuestOs]:
    """Return the system that a guest agent tells (``os.id``, ``os.version-id``, as libvirt names them)."""
    name = str(info.get("os.id") or "").lower()
    if name == "mswindows":
        # The agent tells years of servers and numbers of clients: 2019, 10.
        version = str(info.get("os.version-id") or "").lower()
        return GuestOs("win", re.sub(r"^20(\d\d)", lambda year: f"2k{int(year.group(1))}", version))
    return GuestOs(name, str(info.get("os.version-id") or "").lower()) if name else None


def support_of(system: Optional[GuestOs], arch: str, matrix: Tuple[Row, ...] = MATRIX) -> Support:
    """Return what is expected of a guest; of a system that no row names, everything, for the result is read back."""
    version = _version(system) if system else ()
    for row in matrix:
        named = not row.distributions or (system is not None and system.distribution in row.distributions)
        if named and (not row.archs or arch in row.archs) and version >= row.since:
            return Support(row.plug, row.unplug, known=True)
    return Support()


def _version(system: GuestOs) -> Version:
    """Return the version as numbers; one that has none, such as a rolling release, is newer than all."""
    if system.distribution == "win":
        return _WINDOWS.get(system.version.replace(" ", ""), _NEWEST_WINDOWS)
    numbers = tuple(int(part) for part in re.findall(r"\d+", system.version)[:2])
    return numbers or (999,)
