# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Where a VM's threads and memory are pinned, as a value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple, TypeVar

from .. import _xml
from .._errors import FleetError
from .._topology import canonical_cpuset

# In place of a set: libvirt asks numad at start (placement='auto').
AUTO = "auto"

_T = TypeVar("_T")


@dataclass(frozen=True)
class VcpuPin:
    """The host CPUs one vCPU may run on."""

    vcpu: int
    cpus: str


@dataclass(frozen=True)
class IothreadPin:
    """The host CPUs one I/O thread may run on."""

    iothread: int
    cpus: str


@dataclass(frozen=True)
class NumaMemory:
    """Where all guest memory comes from; ``nodes`` is a set in libvirt's notation or ``auto``."""

    mode: str
    nodes: str


@dataclass(frozen=True)
class MemNode:
    """Where the memory of one guest NUMA cell comes from; ``node`` is a set in libvirt's notation."""

    id: int
    mode: str
    node: str


@dataclass(frozen=True)
class Pinning:
    """All pins of a VM, with every set in its one canonical spelling, so that equal pins compare equal.

    ``cpuset`` is that of ``<vcpu>``, for threads without a pin of their own; it may be ``auto``. ``policy`` is ``none``
    or ``manual`` when read from XML; ``numa`` and ``dedicated`` come from whoever chose the pins.
    """

    policy: str = "none"
    vcpus: Tuple[VcpuPin, ...] = ()
    emulator: Optional[str] = None
    iothreads: Tuple[IothreadPin, ...] = ()
    cpuset: Optional[str] = None
    memory: Optional[NumaMemory] = None
    cells: Tuple[MemNode, ...] = ()

    @property
    def is_pinned(self) -> bool:
        """Whether vCPUs or memory are bound to chosen CPUs or nodes.

        Emulator and I/O threads, and a ``cpuset`` that only keeps a VM off some CPUs, do not bind it.
        """
        return bool(self.vcpus or self.cells or (self.memory and self.memory.nodes != AUTO))

    def as_dict(self) -> Dict[str, Any]:
        """Return the pins as in a fleet snapshot: every key is there, lists of objects, sets as text."""
        return {
            "policy": self.policy,
            "vcpus": [{"vcpu": pin.vcpu, "cpus": pin.cpus} for pin in self.vcpus],
            "emulator": self.emulator,
            "iothreads": [{"iothread": pin.iothread, "cpus": pin.cpus} for pin in self.iothreads],
            "cpuset": self.cpuset,
            "memory": None if self.memory is None else {"mode": self.memory.mode, "nodes": self.memory.nodes},
            "cells": [{"id": cell.id, "mode": cell.mode, "node": cell.node} for cell in self.cells],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Pinning:
        """Return the pins of a mapping; missing keys mean no pin, unknown keys are left alone.

        A cell without ``mode`` takes that of ``memory``, else ``strict``. Cells without ``node`` (a guest's cells that
        are bound nowhere) are skipped. Raises ``FleetError``: ``bad_pins`` for a wrong shape, ``bad_cpuset``.
        """
        try:
            return _from_dict(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FleetError(
                f"The pins cannot be read: {type(error).__name__}: {error}. "
                "Give vcpus, iothreads and cells as lists of objects with their numbers and sets.",
                code="bad_pins",
            ) from error


def _from_dict(data: Mapping[str, Any]) -> Pinning:
    memory = None
    if data.get("memory"):
        memory = NumaMemory(data["memory"].get("mode") or "strict", canonical(data["memory"].get("nodes") or AUTO))
    mode = memory.mode if memory else "strict"
    pins = Pinning(
        vcpus=_by_number([VcpuPin(int(pin["vcpu"]), canonical(pin["cpus"])) for pin in data.get("vcpus") or ()]),
        emulator=_optional(data.get("emulator")),
        iothreads=_by_number(
            [IothreadPin(int(pin["iothread"]), canonical(pin["cpus"])) for pin in data.get("iothreads") or ()]
        ),
        cpuset=_optional(data.get("cpuset")),
        memory=memory,
        cells=_by_number(
            [
                MemNode(int(cell["id"]), cell.get("mode") or mode, canonical(cell["node"]))
                for cell in data.get("cells") or ()
                if cell.get("node") not in (None, "")
            ]
        ),
    )
    return with_policy_of_pins(pins, data.get("policy"))


def same_pins(one: Pinning, other: Pinning) -> bool:
    """Whether two pinnings are alike, whoever chose them."""
    return replace(one, policy="") == replace(other, policy="")


def pinning_of(domain: _xml.Element) -> Pinning:
    """Return the pins in a parsed domain."""
    vcpu, numatune = domain.find("vcpu"), domain.find("numatune")
    cpuset = None
    if vcpu is not None:
        cpuset = AUTO if vcpu.get("placement") == AUTO else _optional(vcpu.get("cpuset"))
    tunes = [element for element in (domain.find("cputune"), numatune) if element is not None]
    return pins_from_children([child for tune in tunes for child in tune], cpuset)


def pins_from_children(children: List[_xml.Element], cpuset: Optional[str], policy: Optional[str] = None) -> Pinning:
    """Return the pins that elements named as in ``<cputune>`` and ``<numatune>`` state, in any namespace."""
    memory = _each(children, "memory", _memory)
    emulator = _each(children, "emulatorpin", lambda pin: canonical(pin.get("cpuset", "")))
    pins = Pinning(
        vcpus=_by_number(_each(children, "vcpupin", lambda pin: VcpuPin(_number(pin, "vcpu"), _set(pin)))),
        emulator=emulator[0] if emulator else None,
        iothreads=_by_number(
            _each(children, "iothreadpin", lambda pin: IothreadPin(_number(pin, "iothread"), _set(pin)))
        ),
        cpuset=cpuset,
        memory=memory[0] if memory else None,
        cells=_by_number(_each(children, "memnode", _memnode)),
    )
    return with_policy_of_pins(pins, policy)


def _each(children: List[_xml.Element], name: str, make: Callable[[_xml.Element], _T]) -> List[_T]:
    return [make(child) for child in children if _xml.local_name(child) == name]


def _number(pin: _xml.Element, name: str) -> int:
    number = _xml.to_int(pin.get(name))
    if number is None:
        raise FleetError(
            f"The pins cannot be read: a <{_xml.local_name(pin)}> has no number in '{name}'. Correct the XML.",
            code="bad_pins",
        )
    return number


def _set(pin: _xml.Element) -> str:
    return canonical(pin.get("cpuset", ""))


def _memory(memory: _xml.Element) -> NumaMemory:
    nodes = memory.get("nodeset")
    return NumaMemory(memory.get("mode", "strict"), AUTO if nodes is None else canonical(nodes))


def _memnode(node: _xml.Element) -> MemNode:
    return MemNode(_number(node, "cellid"), node.get("mode", "strict"), canonical(node.get("nodeset", "")))


def canonical(text: Any) -> str:
    """Return a set in its one spelling; ``auto`` stays."""
    return AUTO if text == AUTO else canonical_cpuset(str(text))


def _optional(text: Any) -> Optional[str]:
    return None if text in (None, "") else canonical(text)


def _by_number(pins: List[_T]) -> Tuple[_T, ...]:
    """Sort by the first field, the number of the vCPU, I/O thread or cell."""
    return tuple(sorted(pins, key=lambda pin: next(iter(vars(pin).values()))))


def with_policy_of_pins(pins: Pinning, policy: Optional[str] = None) -> Pinning:
    """Return the pins with a policy, else with that which pins without any have."""
    values = dict(vars(pins))
    values["policy"] = policy or ("manual" if pins.is_pinned else "none")
    return Pinning(**values)
