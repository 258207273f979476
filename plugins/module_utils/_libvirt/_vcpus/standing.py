# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""How the vCPUs of a VM stand, as results have it."""

from __future__ import annotations

from typing import Any, Dict, Sequence

from ..._domain import Domain, parse_domain, resources_of
from ..._topology import format_cpuset
from ..._vcpus import Slot, count_of, online_of, slots_of
from .look import Look, guest_vcpus


def stands(look: Look) -> Dict[str, Any]:
    """Return the vCPUs of a VM as the running VM has them, its definition, and its guest.

    ``running`` and ``defined`` are ``None`` where there is no such state, ``guest_online`` where nobody tells.
    """
    guest = guest_vcpus(look)
    return {
        "running": None if look.live is None else _described(look.live, look.slots),
        "defined": None if look.defined is None else _described(look.defined, look.defined_slots),
        "guest_online": None if guest is None else len(guest.online),
    }


def described(xml: str) -> Dict[str, Any]:
    """Return the vCPUs of a running VM or of a definition: numbers, sets of them, topology and pins."""
    return _described(parse_domain(xml), slots_of(xml))


def _described(state: Domain, slots: Sequence[Slot]) -> Dict[str, Any]:
    return {
        "count": count_of(slots),
        "maximum": len(slots),
        "online": format_cpuset(online_of(slots)),
        "unpluggable": format_cpuset({slot.number for slot in slots if slot.plugged and slot.hotpluggable}),
        "topology": dict(vars(resources_of(state).topology)),
        "pins": [{"vcpu": pin.vcpu, "cpus": pin.cpus} for pin in state.pinning.vcpus],
    }
