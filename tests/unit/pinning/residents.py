# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""VMs of a small host as XML, and what becomes of them when an aim is carried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Domain,
    IothreadPin,
    MemNode,
    NumaMemory,
    Pinning,
    PinningPolicy,
    Policy,
    VcpuPin,
    parse_domain,
    with_pinning,
    with_policy,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pin_rules import HostCpus
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import (
    Aim,
    HostAim,
    HostState,
    Resident,
    Thread,
    Wish,
    aim,
    live_changes,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import Cell, format_cpuset, parse_cpuset

# What a stopped VM needs beside its memory, as the small hosts of these tests have none to spare.
GIB = 1024 * 1024


@dataclass(frozen=True)
class Vm:
    """A VM as libvirt stores it: live XML, definition, and the memory it holds."""

    live: str | None
    defined: str | None
    held: Mapping[int, int] = field(default_factory=dict)

    @property
    def resident(self) -> Resident:
        live, defined = (parse_domain(xml) if xml else None for xml in (self.live, self.defined))
        return Resident(live, defined, self.held)

    @property
    def states(self) -> tuple[Domain, ...]:
        return tuple(domain for domain in (self.resident.live, self.resident.defined) if domain)


def pins(text: str = "", memory: str = "", **rest: Any) -> Pinning:
    """Give pins: the CPUs of each vCPU in turn, those of the emulator after a bar, those of I/O threads after more.

    ``memory`` is as in ``strict 0-1``, and for each of the guest's cells after a bar.
    """
    vcpus, *others = [part.split() for part in text.split("|")]
    bound, *nodes = [part.split() for part in memory.split("|")]
    return Pinning(
        vcpus=tuple(VcpuPin(number, cpus) for number, cpus in enumerate(vcpus)),
        emulator=others[0][0] if others and others[0] else None,
        iothreads=tuple(IothreadPin(number, cpus[0]) for number, cpus in enumerate(others[1:], 1)),
        memory=NumaMemory(*bound) if bound else None,
        cells=tuple(MemNode(number, *node) for number, node in enumerate(nodes)),
        **rest,
    )


def vm(
    name: str = "web",
    own: Pinning | None = None,
    policy: PinningPolicy | None = None,
    state: str = "both",
    held: Mapping[int, int] | None = None,
    **hardware: Any,
) -> Vm:
    """Give a VM that has its pins in both states, or in ``live`` or ``definition`` only."""
    memory, body = _hardware(name, **hardware)
    stored = Policy(pinning=policy) if policy else None
    texts = {
        key: with_policy(with_pinning(start + body, own or Pinning()), stored) if state in ("both", key) else None
        for key, start in (("live", "<domain id='7'>"), ("definition", "<domain>"))
    }
    return Vm(texts["live"], texts["definition"], ({0: memory} if texts["live"] else {}) if held is None else held)


def _hardware(
    name: str,
    vcpus: int = 2,
    iothreads: int = 0,
    memory: int = 4,
    cells: Sequence[tuple[int, int]] = (),
    extra: str = "",
) -> tuple[int, str]:
    """Give the memory of a VM and its XML; ``cells`` are the vCPUs and the memory of each of the guest's."""
    numa, first = "", 0
    for count, kib in cells:
        numa += f"<cell cpus='{first}-{first + count - 1}' memory='{kib}'/>"
        first += count
    total = sum(kib for count, kib in cells) or memory
    return total, (
        f"<name>{name}</name><uuid>u-{name}</uuid><memory>{total}</memory><vcpu>{first or vcpus}</vcpu>"
        f"<iothreads>{iothreads}</iothreads>{extra}{f'<cpu><numa>{numa}</numa></cpu>' if numa else ''}</domain>"
    )


def host(cells: tuple[Cell, ...], **cpus: str) -> HostState:
    """Give a host; ``cpus`` are the sets of ``HostCpus``."""
    return HostState(cells, HostCpus(**{name: parse_cpuset(text) for name, text in cpus.items()}))


def online(state: HostState) -> frozenset[int]:
    return frozenset(cpu for cell in state.cells for cpu in cell.cpus) - state.cpus.offline


def wish(name: str, policy: PinningPolicy, **rest: Any) -> Wish:
    return Wish(f"u-{name}", policy, **rest)


def aimed(state: HostState, vms: Sequence[Vm], *wishes: Wish, **options: Any) -> HostAim:
    return aim(state, [each.resident for each in vms], wishes, **options)


def after(state: HostState, each: Vm, found: Aim, apply_to: str = "both") -> Vm:
    """Give a VM when its aim has been carried out: of the live one, only threads are moved."""
    resident = each.resident
    defined, live = each.defined, each.live
    if defined and resident.defined:
        assert found.defined is not None
        defined = with_pinning(defined, found.defined)
        defined = with_policy(defined, _policy(resident.defined, found, apply_to, live=False))
    if live and resident.live:
        assert found.live is not None
        live = with_pinning(live, _moved(resident.live, found.live, online(state), found.floating))
        live = with_policy(live, _policy(resident.live, found, apply_to, live=True))
    return replace(each, live=live, defined=defined)


def _policy(domain: Domain, found: Aim, apply_to: str, live: bool) -> Policy | None:
    before = domain.policy or Policy()
    following = found.following_live if live else found.following_defined
    asked = found.wished and apply_to in ("both", "live" if live else "definition")
    pinning = found.policy if asked else before.pinning
    policy = replace(before, pinning=pinning, following=following)
    return None if policy == Policy() else policy


def _moved(domain: Domain, wanted: Pinning, cpus: frozenset[int], floating: frozenset[Thread]) -> Pinning:
    now = domain.pinning
    vcpus = {pin.vcpu: pin.cpus for pin in now.vcpus}
    iothreads = {pin.iothread: pin.cpus for pin in now.iothreads}
    emulator = now.emulator
    for (kind, number), found in live_changes(domain, wanted, cpus, floating).items():
        text = format_cpuset(found)
        if kind == "vcpu" and number is not None:
            vcpus[number] = text
        elif kind == "iothread" and number is not None:
            iothreads[number] = text
        else:
            emulator = text
    return replace(
        now,
        vcpus=tuple(VcpuPin(*pin) for pin in sorted(vcpus.items())),
        iothreads=tuple(IothreadPin(*pin) for pin in sorted(iothreads.items())),
        emulator=emulator,
    )


def carried(state: HostState, vms: Sequence[Vm], found: HostAim, *wishes: Wish) -> list[Vm]:
    """Give all VMs when all aims have been carried out."""
    aims, states = {each.uuid: each for each in found.aims}, {each.uuid: each.apply_to for each in wishes}
    return [
        after(state, each, aims[uuid], states.get(uuid, "both")) if uuid in aims else each
        for each in vms
        for uuid in [each.resident.uuid]
    ]
