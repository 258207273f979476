# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The vCPUs of a domain one by one: which it has, and which of them can be unplugged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterable, Optional, Tuple

from .. import _xml
from .._domain import parse_domain


@dataclass(frozen=True)
class Slot:
    """A vCPU that a domain has or can get.

    ``order`` is the place in which it was plugged, ``None`` if it is not there or libvirt does not say.
    """

    number: int
    plugged: bool
    hotpluggable: bool
    order: Optional[int] = None


def slots_of(xml: str) -> Tuple[Slot, ...]:
    """Return the vCPUs of a domain by number, from live or persistent XML.

    libvirt lists them only where they are not all alike: then those that are there cannot be unplugged, and the others
    can be plugged. Raises ``FleetError`` with code ``bad_xml``.
    """
    root, vcpus = _xml.parse_as(xml, "domain"), parse_domain(xml).vcpus
    listed = {_xml.int_attribute(vcpu, "id", 0): vcpu for vcpu in root.iterfind("vcpus/vcpu")}
    return tuple(
        _slot(number, listed[number])
        if number in listed
        else Slot(number, plugged=number < vcpus.current, hotpluggable=number >= vcpus.current)
        for number in range(vcpus.maximum)
    )


def _slot(number: int, vcpu: _xml.Element) -> Slot:
    return Slot(
        number=number,
        plugged=vcpu.get("enabled") == "yes",
        hotpluggable=vcpu.get("hotpluggable") == "yes",
        order=_xml.to_int(vcpu.get("order")),
    )


def online_of(slots: Iterable[Slot]) -> Tuple[int, ...]:
    """Return the numbers of the vCPUs that are there."""
    return tuple(slot.number for slot in slots if slot.plugged)


def count_of(slots: Iterable[Slot]) -> int:
    """Return how many vCPUs are there."""
    return len(online_of(slots))
