# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""CPUs as the kernel lists them below /sys, those included that are offline and unknown to libvirt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import FrozenSet, Optional, Set, Tuple

from .._errors import FleetError
from .._topology import parse_cpuset
from . import files

_CPUS = "sys/devices/system/cpu"


@dataclass(frozen=True)
class HostCpus:
    """Sets of CPU numbers; see the kernel's Documentation/ABI/testing/sysfs-devices-system-cpu.

    ``possible`` are those that could ever be plugged in. ``nohz_full`` is ``None`` if the kernel cannot do it.
    ``cores`` holds the threads of each core that runs, also where there is one; an offline CPU is in no core.
    """

    possible: FrozenSet[int]
    present: FrozenSet[int]
    online: FrozenSet[int]
    isolated: FrozenSet[int] = frozenset()
    nohz_full: Optional[FrozenSet[int]] = None
    cores: Tuple[FrozenSet[int], ...] = ()

    @property
    def offline(self) -> FrozenSet[int]:
        """CPUs that the host has and does not run."""
        return self.present - self.online


def read_cpus(root: Path = Path("/")) -> HostCpus:
    """Read the sets; raises ``host_file`` where /sys is missing, and ``bad_cpuset``."""
    online = _read_set(root / _CPUS / "online")
    if not online:
        raise FleetError(
            f"{root / _CPUS / 'online'} lists no CPU. Check that /sys is mounted, then try again.",
            "host_file",
            path=str(root / _CPUS / "online"),
        )
    present = (_read_set(root / _CPUS / "present") or frozenset()) | online
    return HostCpus(
        possible=(_read_set(root / _CPUS / "possible") or frozenset()) | present,
        present=present,
        online=online,
        isolated=_read_set(root / _CPUS / "isolated") or frozenset(),
        nohz_full=_read_set(root / _CPUS / "nohz_full"),
        cores=_cores(root, online),
    )


def _read_set(path: Path) -> Optional[FrozenSet[int]]:
    text = files.read_text(path)
    if text is None:
        return None
    # The kernel prints "(null)" for nohz_full when it can do it and nobody asked for it.
    return frozenset() if not re.match(r"\s*[0-9]", text) else parse_cpuset(text.strip())


def _cores(root: Path, online: FrozenSet[int]) -> Tuple[FrozenSet[int], ...]:
    cores: Set[FrozenSet[int]] = set()
    for cpu in online:
        siblings = _read_set(root / _CPUS / f"cpu{cpu}/topology/thread_siblings_list") or frozenset()
        cores.add((siblings & online) | {cpu})
    return tuple(sorted(cores, key=min))
