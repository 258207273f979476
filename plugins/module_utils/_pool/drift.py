# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What has changed on a host since its record was written."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Dict, FrozenSet, List, Mapping, Optional

from .._cpu import layout_differences
from .model import Host, Record, Traits


def drift(host: Host) -> Optional[Dict[str, Any]]:
    """Return the differences between a host and what its record says of it, ``None`` without any or without a record.

    ``{versions: [{name, before, after}], changed: [{name, before, after}], lost: [feature], gained: [feature],
    pool_lost: [feature of the pool]}``.
    """
    if host.record is None:
        return None
    before, after = host.record.proven, host.traits
    gone = _without(before, after)
    found: Dict[str, Any] = {
        "versions": _pairs(before.versions, after.versions),
        "changed": _changed(before, after),
        "lost": gone,
        "gained": _without(after, before),
        "pool_lost": _pool_lost(host.record, gone),
    }
    return found if any(found.values()) else None


def harms_pool(host: Host) -> bool:
    """Whether a member is no longer what its pool needs, by what is known of it; a proof would say more."""
    if host.record is None:
        return False
    before, after, content = host.record.proven, host.traits, host.record.content
    needed, bits = content.cpu.address_bits, after.address_bits
    return bool(
        _pool_lost(host.record, _without(before, after))
        or (None not in (before.virt_type, after.virt_type) and before.virt_type != after.virt_type)
        or (needed is not None and bits is not None and bits < needed)
        or (before.xsave and after.xsave and layout_differences(before.xsave, after.xsave, content.features))
    )


def lost(host: Host) -> FrozenSet[str]:
    """Return the features that a member had when its pool was proven and has no more, as far as known."""
    return frozenset(_without(host.record.proven, host.traits)) if host.record is not None else frozenset()


def _without(some: Traits, other: Traits) -> List[str]:
    if some.features is None or other.features is None:
        return []
    return sorted(some.features - other.features)


def _pool_lost(record: Record, gone: List[str]) -> List[str]:
    return [name for name in gone if name in record.content.features or name in record.content.cpu.require]


def _changed(before: Traits, after: Traits) -> List[Dict[str, Any]]:
    old, new = _other(before), _other(after)
    # The kernel measures the counter at every boot, with slightly other results.
    if before.tsc and after.tsc and after.tsc.is_close(before.tsc) and after.tsc.scaling == before.tsc.scaling:
        new["tsc"] = old["tsc"]
    return _pairs(old, new)


def _other(traits: Traits) -> Dict[str, Any]:
    return {
        "virt_type": traits.virt_type,
        "address_bits": traits.address_bits,
        "xsave": None if traits.xsave is None else [list(item) for item in sorted(traits.xsave)],
        "tsc": None if traits.tsc is None else asdict(traits.tsc),
    }


def _pairs(before: Mapping[str, Any], after: Mapping[str, Any]) -> List[Dict[str, Any]]:
    """Return what differs between two mappings."""
    names = sorted(set(before) | set(after))
    return [
        {"name": name, "before": before.get(name), "after": after.get(name)}
        for name in names
        if before.get(name) != after.get(name)
    ]
