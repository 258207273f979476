# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Where the vCPUs of a VM without pins may run.

On a host that isolates CPUs such a VM gets an explicit ``cpuset`` of the CPUs that are not isolated: what libvirt does
without one differs between releases (11.3 leaves isolated CPUs out, 9.0 does not), and the kernel does not balance
isolated CPUs, so all its vCPUs could end on one of them.

Nothing records that the set is ours. A set that is exactly what the host leaves to such VMs means the same as none, so
it is replaced when the VM moves on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import FrozenSet, Optional

from .._domain import Pinning
from .._topology import format_cpuset, parse_cpuset
from ._move import AUTO


def shared_cpus(
    cpus: Optional[FrozenSet[int]], isolated: FrozenSet[int], machine: Optional[FrozenSet[int]] = None
) -> Optional[FrozenSet[int]]:
    """Return the CPUs that VMs without pins share, or ``None`` where that is any CPU.

    ``cpus`` are all of the host and ``machine`` those that its ``machine.slice`` allows, ``None`` if not known.
    """
    if cpus is None or not isolated & cpus:
        return None
    shared = cpus - isolated if machine is None else (cpus & machine) - isolated
    return shared or None


def forget_shared(pinning: Pinning, shared: Optional[FrozenSet[int]]) -> Pinning:
    """Return the pins without a ``cpuset`` that only says what the host leaves to VMs without pins."""
    if shared is None or pinning.cpuset in (None, AUTO) or parse_cpuset(pinning.cpuset or "") != shared:
        return pinning
    return replace(pinning, cpuset=None)


def float_on(pinning: Pinning, shared: Optional[FrozenSet[int]]) -> Pinning:
    """Return the pins with a ``cpuset`` that keeps vCPUs without pins to ``shared``; a VM with pins stays as it is."""
    if shared is None or pinning.vcpus or pinning.cpuset == AUTO:
        return pinning
    # A set of the user's own is narrowed, unless nothing of it is left: then it was meant.
    own = parse_cpuset(pinning.cpuset) if pinning.cpuset else shared
    return replace(pinning, cpuset=format_cpuset(own & shared or own))
