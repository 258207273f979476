# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""All presets: the default pools, the x86-64 levels, and the tiers named after generations of CPUs."""

from __future__ import annotations

import re
from typing import Iterable, Mapping, Optional, Tuple

from .._errors import FleetError
from ._pool import PoolCpu
from ._preset import Preset, tier
from ._presets_amd import AMD
from ._presets_intel import INTEL

_DEFAULT_NAME = re.compile(r"default_[a-z]+[0-9]+", re.IGNORECASE)

# The levels of the x86-64 psABI (x86-64-ABI, low-level system information; the names are libvirt's), with xsave because
# avx needs it. Every CPU of levels 3 and 4 has aes as well, and without it storage and networks are slow.
_V2 = ("cx16", "lahf_lm", "pni", "popcnt", "sse4.1", "sse4.2", "ssse3")
_V3 = (*_V2, "abm", "aes", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave")
_V4 = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")
_LEVELS = (("v2", _V2), ("v3", _V3), ("v4", _V4))
_LEVELS_SOURCE = "x86-64 psABI levels over kvm64"

# What guests need to see for their mitigations, as in oVirt's secure levels.
_SECURE = {"Intel": ("md-clear", "spec-ctrl", "ssbd"), "AMD": ("ibpb", "virt-ssbd")}

# Named tiers that are the first to have all of a level, so that the whole is in order.
_FIRST_ABOVE = {
    "Intel": {"v2": "intel-nehalem", "v3": "intel-haswell", "v4": "intel-skylake-server"},
    "AMD": {"v2": "amd-opteron-g4", "v3": "amd-epyc", "v4": "amd-epyc-genoa"},
}
_NAMED = {"Intel": INTEL, "AMD": AMD}

# Each level is weaker than the one before it and leaves hosts out that are rarer: over libvirt's recordings of 41 Intel
# and 9 AMD hosts, 0 fits 38 and 7, 1 fits 40 and 7, 2 fits 41 and 8. 36 bits is what the oldest 64-bit CPUs have, 39
# what clients have, 40 what QEMU's machines have by default.
_DEFAULTS = (
    ("x86-64-v2 and AES", (*_V2, "aes"), 40),
    ("x86-64-v2", _V2, 39),
    ("any 64-bit CPU", (), 36),
)


def _common(vendor: str, require: Iterable[str], address_bits: Optional[int] = None) -> PoolCpu:
    """Return a CPU over kvm64, whose vme QEMU gives with KVM but not with TCG."""
    return PoolCpu("kvm64", vendor, tuple(require), ("vme",), address_bits)


def _default_pools(vendor: str) -> Tuple[Preset, ...]:
    return tuple(
        Preset(
            name=f"default_{vendor.lower()}{level}",
            vendor=vendor,
            title=f"{vendor}, {title}",
            cpu=_common(vendor, require, bits),
            source=_LEVELS_SOURCE,
            default_level=level,
        )
        for level, (title, require, bits) in enumerate(_DEFAULTS)
    )


def _tiers(vendor: str) -> Tuple[Preset, ...]:
    """Return named tiers and levels of a vendor, each level before the first tier that has all of it."""
    levels = {
        _FIRST_ABOVE[vendor][level]: tier(
            f"x86-64-{level}-{vendor.lower()}",
            f"{vendor}, x86-64-{level}",
            _LEVELS_SOURCE,
            _common(vendor, require),
            _common(vendor, (*require, *_SECURE[vendor])),
        )
        for level, require in _LEVELS
    }
    ordered: Tuple[Preset, ...] = ()
    for preset in _NAMED[vendor]:
        ordered += (*levels.get(preset.name, ()), preset)
    return ordered


_DEFAULT_POOLS: Mapping[str, Tuple[Preset, ...]] = {vendor: _default_pools(vendor) for vendor in _NAMED}
_TIERS: Mapping[str, Tuple[Preset, ...]] = {vendor: _tiers(vendor) for vendor in _NAMED}

#: All presets by name: default pools, then tiers, vendor by vendor.
PRESETS: Mapping[str, Preset] = {
    preset.name: preset for vendor in _NAMED for preset in (*_DEFAULT_POOLS[vendor], *_TIERS[vendor])
}


def default_pools(vendor: Optional[str]) -> Tuple[Preset, ...]:
    """Return the default pools of a vendor by level, the strongest first; none for a vendor without presets."""
    return _DEFAULT_POOLS.get(vendor or "", ())


def tiers(vendor: Optional[str]) -> Tuple[Preset, ...]:
    """Return the tiers of a vendor from the weakest to the strongest, each secure twin after its base."""
    return _TIERS.get(vendor or "", ())


def strongest(vendor: Optional[str], names: Iterable[str]) -> Optional[Preset]:
    """Return the strongest of a vendor's tiers among ``names``, such as those a host can give; secure twins aside."""
    given = frozenset(names)
    found = [preset for preset in tiers(vendor) if preset.base is None and preset.name in given]
    return found[-1] if found else None


def basic_preset(vendor: Optional[str]) -> Preset:
    """Return the preset whose CPU new pools get, that of the vendor's default pool; code ``vendor`` if it has none."""
    pools = default_pools(vendor)
    if not pools:
        raise FleetError(
            f"There are no preset CPUs for the vendor {vendor}, only for {' and '.join(_NAMED)}. "
            "Leave its hosts out of CPU pools.",
            code="vendor",
            vendor=vendor,
        )
    return pools[0]


def is_default_name(name: str) -> bool:
    """Whether a pool's name is kept for default pools, whichever vendor and level; letters may be of either case."""
    return _DEFAULT_NAME.fullmatch(name) is not None
