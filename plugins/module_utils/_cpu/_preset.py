# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What a preset is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional, Tuple

from ._pool import PoolCpu

# The width that QEMU gives by itself where its machine types are not a distribution's own, enough for 1 TiB. It is
# written out, for else a guest has the width of the host that it was started on.
TIER_ADDRESS_BITS = 40


@dataclass(frozen=True)
class Preset:
    """A CPU with a name that never changes: that of a default pool, or a tier that a pool's definition can name.

    ``vendor`` is libvirt's name of it (``Intel``, ``AMD``), ``title`` is for people, ``source`` says where the CPU was
    taken from. ``default_level`` is the number of a default pool, the strongest being 0; tiers have none. ``base`` is
    the tier that a secure twin extends.
    """

    name: str
    vendor: str
    title: str
    cpu: PoolCpu
    source: str
    default_level: Optional[int] = None
    base: Optional[str] = None


def tier(name: str, title: str, source: str, cpu: PoolCpu, secure: PoolCpu) -> Tuple[Preset, Preset]:
    """Return a tier and its secure twin, whose guests see what their mitigations need."""
    vendor = cpu.vendor or ""
    plain, twin = (replace(each, address_bits=TIER_ADDRESS_BITS) for each in (cpu, secure))
    return (
        Preset(name, vendor, title, plain, source),
        Preset(f"{name}-secure", vendor, f"{title}, with mitigations", twin, source, base=name),
    )
