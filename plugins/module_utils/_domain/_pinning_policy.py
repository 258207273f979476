# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""How the pins of a VM are to be chosen, from which each host makes its own pins."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Dict, FrozenSet, Mapping, Optional

from .. import _xml
from .._errors import FleetError
from .._topology import format_cpuset, parse_cpuset

CHOICES = {
    "policy": ("none", "manual", "numa", "dedicated"),
    "thread_policy": ("prefer", "isolate", "require"),
    "emulator": ("share", "isolate"),
    "memory_mode": ("strict", "preferred", "interleave", "restrictive"),
}

# The policies by which pins are chosen here; with the others they are the user's.
PLACING = ("numa", "dedicated")

# An option that a policy would not look at is a mistake of whoever gives it.
_APPLIES_TO = {
    "thread_policy": ("dedicated",),
    "emulator": ("dedicated",),
    "memory_mode": PLACING,
    "host_cells": PLACING,
}


@dataclass(frozen=True)
class PinningPolicy:
    """``none`` floats, ``manual`` has pins of the user's own, ``numa`` shares CPUs near its memory, ``dedicated`` has
    each vCPU alone on a CPU.

    ``thread_policy`` says what sibling threads mean to a dedicated VM, ``emulator`` whether its emulator and I/O
    threads have a CPU of their own. ``host_cells`` are the NUMA cells it may use, ``None`` for any. Raises
    ``FleetError`` with code ``bad_options`` (fact ``option``).
    """

    policy: str = "none"
    thread_policy: str = "prefer"
    emulator: str = "share"
    memory_mode: str = "strict"
    host_cells: Optional[FrozenSet[int]] = None

    def __post_init__(self) -> None:
        """Refuse what nobody would understand, and what would have no effect."""
        for option, choices in CHOICES.items():
            if getattr(self, option) not in choices:
                raise _bad(option, f"is {getattr(self, option)!r}. Use one of: {', '.join(choices)}")
        if self.host_cells is not None and not self.host_cells:
            raise _bad("host_cells", "names no cell. Name at least one, or leave it out")
        for field in fields(self):
            policies = _APPLIES_TO.get(field.name)
            if policies and self.policy not in policies and getattr(self, field.name) != field.default:
                raise _bad(
                    field.name,
                    f"has no effect with the policy {self.policy!r}. "
                    f"Leave it out, or use the policy {' or '.join(policies)}",
                )

    def as_dict(self) -> Dict[str, Any]:
        """Return the options, with the set of cells as text."""
        return {**vars(self), "host_cells": None if self.host_cells is None else format_cpuset(self.host_cells)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PinningPolicy:
        """Return the policy of a mapping; a missing key or ``None`` is the default, unknown keys are left alone."""
        given = {field.name: data[field.name] for field in fields(cls) if data.get(field.name) is not None}
        if "host_cells" in given:
            given["host_cells"] = _cells(given["host_cells"])
        return cls(**given)


def is_placing(policy: Optional[PinningPolicy]) -> bool:
    """Whether a policy makes the pins on each host."""
    return policy is not None and policy.policy in PLACING


def _cells(text: Any) -> FrozenSet[int]:
    try:
        return parse_cpuset(str(text))
    except FleetError as error:
        raise _bad("host_cells", f"cannot be read: {error.msg}") from error


def _bad(option: str, problem: str) -> FleetError:
    return FleetError(f"The pinning option {option} {problem.rstrip('.')}.", code="bad_options", option=option)


def pinning_element(policy: PinningPolicy) -> _xml.Element:
    """Return the policy as an element; an option at its default is left out."""
    data = policy.as_dict()
    differing = {
        field.name: data[field.name]
        for field in fields(policy)
        if field.name == "policy" or getattr(policy, field.name) != field.default
    }
    return _xml.new("pinning", **differing)


def pinning_from_element(element: _xml.Element) -> PinningPolicy:
    """Return the policy in an element; attributes of a later release are left alone."""
    return PinningPolicy.from_dict(dict(element.attrib))
