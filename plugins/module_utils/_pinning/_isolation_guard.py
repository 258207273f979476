# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Pins of running VMs that stand in the way of another isolation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterable, List, Optional, Tuple

from .._domain import AUTO, Domain
from .._errors import FleetError
from .._topology import Isolation, format_cpuset, parse_cpuset

VCPU = "vCPU"
EMULATOR = "emulator"
IOTHREAD = "I/O thread"


@dataclass(frozen=True)
class ThreadPin:
    """The host CPUs that one thread of a VM may run on; ``number`` is that of the vCPU or I/O thread."""

    vm: str
    uuid: str
    running: bool
    kind: str
    number: Optional[int]
    cpus: FrozenSet[int]

    def __str__(self) -> str:
        """Return the words for a message."""
        thread = self.kind if self.number is None else f"{self.kind} {self.number}"
        return f"{thread} on {format_cpuset(self.cpus)}"

    def as_dict(self) -> Dict[str, object]:
        """Return the pin as a fact of a failure."""
        return {
            "vm": self.vm,
            "uuid": self.uuid,
            "thread": self.kind,
            "number": self.number,
            "cpus": format_cpuset(self.cpus),
        }


def thread_pins(domain: Domain) -> Tuple[ThreadPin, ...]:
    """Return the pins of a VM's threads; a domain with a runtime identifier counts as running.

    Threads without a pin of their own have the ``cpuset`` of ``<vcpu>``, as in libvirt; those without any are left out.
    """
    pins, running = domain.pinning, domain.runtime_id is not None
    rest = pins.cpuset if pins.cpuset != AUTO else None
    vcpus = {pin.vcpu: pin.cpus for pin in pins.vcpus}
    named: List[Tuple[str, Optional[int], Optional[str]]] = [
        (VCPU, number, vcpus.get(number, rest)) for number in sorted({*vcpus, *range(domain.vcpus.current)})
    ]
    named.append((EMULATOR, None, pins.emulator or rest))
    named += [(IOTHREAD, pin.iothread, pin.cpus) for pin in pins.iothreads]
    return tuple(
        ThreadPin(domain.name, domain.uuid, running, kind, number, parse_cpuset(cpus))
        for kind, number, cpus in named
        if cpus and cpus != AUTO
    )


def pins_lost(pins: Iterable[ThreadPin], isolation: Isolation, isolated_now: FrozenSet[int]) -> Tuple[ThreadPin, ...]:
    """Return the vCPUs of running VMs pinned to one CPU that would become a housekeeping CPU.

    A CPU that keeps house already is no loss; while nothing is isolated every CPU is as good as isolated.
    """
    losing = isolation.housekeeping & isolated_now if isolated_now else isolation.housekeeping
    return tuple(pin for pin in pins if pin.running and pin.kind == VCPU and len(pin.cpus) == 1 and pin.cpus <= losing)


def pins_outside(pins: Iterable[ThreadPin], allowed: FrozenSet[int]) -> Tuple[ThreadPin, ...]:
    """Return the threads of running VMs whose pins have no CPU among those that all VMs may use."""
    return tuple(pin for pin in pins if pin.running and not pin.cpus & allowed)


def pins_refusal(lost: Iterable[ThreadPin], outside: Iterable[ThreadPin] = ()) -> Optional[FleetError]:
    """Return the error ``pinned_vms`` that names every VM, thread and CPU, or ``None`` when there is none."""
    found = list(dict.fromkeys([*lost, *outside]))
    if not found:
        return None
    by_vm: Dict[str, List[str]] = {}
    for pin in found:
        by_vm.setdefault(pin.vm, []).append(str(pin))
    words = "; ".join(f"{vm} ({', '.join(threads)})" for vm, threads in sorted(by_vm.items()))
    return FleetError(
        f"Running VMs are pinned to CPUs that would be taken from them: {words}. "
        "Move these VMs away or change their pins, then try again.",
        "pinned_vms",
        pins=[pin.as_dict() for pin in found],
    )
