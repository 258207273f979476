# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which threads of the VMs on one hypervisor are pinned to which CPUs."""

from __future__ import annotations

from itertools import chain
from typing import Any, Tuple

from .._domain import parse_domain
from .._pinning import ThreadPin, thread_pins
from .api import translated
from .domains import live_xml, present


def pinned_threads(conn: Any) -> Tuple[ThreadPin, ...]:
    """Return the pins of all VMs of this host by name: as they are now if a VM runs, else as they are stored."""
    with translated("Listing the VMs"):
        domains = conn.listAllDomains()
    pins = chain.from_iterable(thread_pins(parse_domain(xml)) for xml in present(domains, live_xml))
    # Stable, so that the threads of a VM keep their order.
    return tuple(sorted(pins, key=lambda pin: pin.vm))
