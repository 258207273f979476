# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which CPUs we gave the threads of a VM that its user left without pins.

Such threads run on the CPUs of a host that nobody has for himself, and those change. What was written for them must be
told from what the user wrote, so that it can follow, and so that the user's own comes back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Mapping, Optional, Tuple

from .. import _xml
from .._errors import FleetError
from ._pins import Pinning, canonical, with_policy_of_pins

EMULATOR = "emulator"


@dataclass(frozen=True)
class Following:
    """Every pin and ``cpuset`` in the same XML that equals ``cpus`` was written by us.

    Excepted are those of the threads in ``own`` (``vcpu0``, ``emulator``, ``iothread1``): their user chose the same.
    ``limit`` is the user's ``cpuset`` of ``<vcpu>`` before it was narrowed. Every set is in its canonical spelling.
    While pins of a running VM are changed, those to a set in ``was`` are ours as well: whoever does it may die.
    """

    cpus: str
    limit: Optional[str] = None
    own: Tuple[str, ...] = ()
    was: Tuple[str, ...] = ()

    def as_dict(self) -> Dict[str, Any]:
        """Return ``{cpus, limit}``, and ``own`` and ``was`` if there are any."""
        more = {name: list(found) for name, found in (("own", self.own), ("was", self.was)) if found}
        return {"cpus": self.cpus, "limit": self.limit, **more}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Following:
        """Return the value of a mapping with at least ``cpus``; else code ``bad_policy``, or ``bad_cpuset``."""
        if not data.get("cpus"):
            raise FleetError(
                "The record of the CPUs that a VM follows names none. Remove it, or collect it again.",
                code="bad_policy",
            )
        limit = data.get("limit")
        was = tuple(canonical(cpus) for cpus in data.get("was") or ())
        return cls(canonical(data["cpus"]), canonical(limit) if limit else None, tuple(data.get("own") or ()), was)


def following_element(following: Following) -> _xml.Element:
    """Return the record as an element."""
    own, was = (" ".join(found) or None for found in (following.own, following.was))
    return _xml.new("following", cpus=following.cpus, limit=following.limit, own=own, was=was)


def following_from_element(element: _xml.Element) -> Following:
    """Return the record in an element; attributes of a later release are left alone."""
    lists = {name: (element.get(name) or "").split() for name in ("own", "was")}
    return Following.from_dict({**element.attrib, **lists})


def own_pins(pinning: Pinning, following: Optional[Following], live: bool) -> Pinning:
    """Return the pins of a VM without ours, and with its own ``cpuset``.

    libvirt cannot change the ``cpuset`` of a running VM, so that there (``live``) it may be an old one of ours. In a
    definition one that is not ours was written by its user since.
    """
    if following is None:
        return pinning
    ours, own = (following.cpus, *following.was), following.own
    own_cpuset = following.limit if live or pinning.cpuset == following.cpus else pinning.cpuset
    return with_policy_of_pins(
        replace(
            pinning,
            vcpus=tuple(pin for pin in pinning.vcpus if pin.cpus not in ours or f"vcpu{pin.vcpu}" in own),
            iothreads=tuple(
                pin for pin in pinning.iothreads if pin.cpus not in ours or f"iothread{pin.iothread}" in own
            ),
            emulator=None if pinning.emulator in ours and EMULATOR not in own else pinning.emulator,
            cpuset=own_cpuset,
        )
    )


def threads_on(pinning: Pinning, cpus: str) -> Tuple[str, ...]:
    """Return the threads whose pins are exactly these CPUs, by the names that ``Following.own`` uses."""
    found = [f"vcpu{pin.vcpu}" for pin in pinning.vcpus if pin.cpus == cpus]
    found += [EMULATOR] if pinning.emulator == cpus else []
    return tuple(found + [f"iothread{pin.iothread}" for pin in pinning.iothreads if pin.cpus == cpus])
