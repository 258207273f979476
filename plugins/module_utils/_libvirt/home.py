# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""How a VM is pinned where it belongs."""

from __future__ import annotations

from typing import FrozenSet, Optional

from .._domain import Pinning
from .._host.machine import Machine, read_machine
from .._pinning import forget_shared, shared_cpus
from .._topology import parse_cpuset


def pinning_at_home(pinning: Pinning) -> Pinning:
    """Return the pins that a VM is to have at home again, from those it has there now.

    The ``cpuset`` of a VM without pins follows from the CPUs that the host isolates. Those may change until the VM
    comes back, so it is not part of them.
    """
    return forget_shared(pinning, _shared(read_machine()))


def _shared(machine: Machine) -> Optional[FrozenSet[int]]:
    allowed = None if machine.machine_cpus is None else parse_cpuset(machine.machine_cpus)
    return shared_cpus(parse_cpuset(machine.online_cpus), parse_cpuset(machine.isolated_cpus), allowed)
