# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What a constraint is.

A ``VmFilter`` says why a VM cannot move at all, a ``HostFilter`` why it can never go to one host, and a ``RoomFilter``
why it cannot go there beside the VMs that are there at one moment of a plan.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, FrozenSet, Hashable, Mapping, Optional, Tuple

from ..._pinning import Misfit
from ..books import Books
from ..model import Host, Vm
from ..reasons import Reason
from ..request import Options
from ..resources import Vector

VmFilter = Callable[[Vm, Options], Optional[Reason]]


@dataclass(frozen=True)
class Context:
    """What filters of hosts may know besides the VM and the host.

    ``own_hosts`` maps host names to hosts. ``books`` know which CPUs are whose. ``draining`` are the hosts to be
    emptied.
    """

    options: Options
    own_hosts: Mapping[str, Host]
    books: Books
    draining: FrozenSet[str] = frozenset()


class HostFilter:
    """Refuses destinations, whatever else moves.

    Of thousands of hosts and VMs most are alike to a filter, so it is asked once for all of one look: VMs with equal
    ``of_vm`` and hosts with equal ``of_host`` get the same answer. A VM of which ``is_single`` is true is judged with
    each host anew, because names or pins of single hosts matter to it.
    """

    code = ""

    def of_vm(self, vm: Vm, context: Context) -> Hashable:
        """Return what of a VM matters."""
        return None

    def of_host(self, host: Host, context: Context) -> Hashable:
        """Return what of a host matters."""
        return None

    def is_single(self, vm: Vm) -> bool:
        """Whether each host has to be judged on its own for a VM."""
        return False

    def judge(self, vm: Vm, host: Host, context: Context) -> Optional[Reason]:
        """Return why the VM cannot go to the host."""
        raise NotImplementedError


@dataclass(frozen=True)
class There:
    """A host at one moment of a plan, as one VM finds it.

    ``free`` is what is left, ``holders`` which VMs (keys) have a label that the VM has too (see ``labels``), ``misfit``
    why the host cannot give the VM its CPUs and cells.
    """

    host: Host
    free: Vector
    capacity: Vector
    holders: Mapping[Tuple[str, str], FrozenSet[str]]
    misfit: Optional[Misfit] = None


RoomFilter = Callable[[Vm, There], Optional[Reason]]
