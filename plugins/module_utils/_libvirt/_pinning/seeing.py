# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Where the kernel lets the threads of a VM run, compared with where they should."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import FrozenSet, List, Mapping, Optional, Tuple

from ..._host.threads import HELPER, Process
from ..._pinning import Thread
from ..._topology import format_cpuset


@dataclass(frozen=True)
class Seen:
    """Where the threads of a running VM really run (``sets``), compared with where they should.

    ``strays`` run elsewhere. ``unknown`` says in words what could not be found out, or cannot be mended by pinning.
    """

    sets: Mapping[Thread, FrozenSet[int]] = field(default_factory=dict)
    strays: Tuple[Thread, ...] = ()
    unknown: Tuple[str, ...] = ()


def see(process: Optional[Process], wanted: Mapping[Thread, FrozenSet[int]], online: FrozenSet[int]) -> Seen:
    """Compare the threads of a process with the sets they are to have, as far as its control group allows those.

    Helpers are where libvirt's control group for the emulator puts them; one with a part of that set is there, too.
    """
    if process is None:
        return Seen(unknown=("its process is not found",))
    allowed = online if process.allowed is None else online & process.allowed
    sets = {(thread.kind, thread.number): thread.cpus for thread in process.threads if thread.kind != HELPER}
    strays: List[Thread] = []
    unknown: List[str] = []
    for thread, cpus in wanted.items():
        if thread not in sets:
            unknown.append(f"{words_of(thread)} is not found")
        elif cpus and sets[thread] != cpus & allowed:
            # Pinned to nothing that it may use: libvirt would refuse to pin it there, too.
            if cpus & allowed:
                strays.append(thread)
            else:
                unknown.append(f"{words_of(thread)} may use none of its CPUs {format_cpuset(cpus)}")
    emulator = wanted.get(("emulator", None), frozenset())
    astray = [each for each in process.threads if each.kind == HELPER and emulator and not each.cpus <= emulator]
    if astray and ("emulator", None) not in strays:
        unknown.append(f"{len(astray)} threads of its emulator run elsewhere")
    return Seen(sets, tuple(strays), tuple(unknown))


def words_of(thread: Thread) -> str:
    """Return a thread in words."""
    kind, number = thread
    return {"vcpu": f"vCPU {number}", "iothread": f"I/O thread {number}"}.get(kind, kind)
