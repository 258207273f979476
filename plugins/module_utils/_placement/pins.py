# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The pins a VM gets at its destination."""

from __future__ import annotations

from dataclasses import replace
from typing import Mapping, Optional

from .._domain import Pinning
from .._pinning import float_on, forget_shared, move_pinning
from .model import Host, Vm


def wanted_pinning(vm: Vm, host: Host) -> Pinning:
    """Return the pins to be had on a host: at home those the VM had there, elsewhere those it has now."""
    if vm.home is not None and vm.home.pins is not None and vm.home.is_host(host):
        return vm.home.pins
    return vm.pinning


def destination_pins(vm: Vm, source: Host, host: Host, usage: Mapping[int, int]) -> Optional[Pinning]:
    """Return the new pins, or ``None`` where the VM keeps the ones it has."""
    wanted = forget_shared(wanted_pinning(vm, host), source.shared_cpus)
    pins = float_on(move_pinning(wanted, host.cpus, usage), host.shared_cpus)
    # The policy only says who chose the pins; libvirt gets the same XML either way.
    return None if replace(pins, policy=vm.pinning.policy) == vm.pinning else pins
