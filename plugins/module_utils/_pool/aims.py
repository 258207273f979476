# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which pool every host is to be in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Tuple

from .._cpu import Preset, default_pools
from .model import Host, Refusal
from .policy import name_refusal
from .request import Wish
from .settle import Standing

# A host that is refused by a default pool for one of these tries the next one, which asks for less.
WEAKER_MAY_FIT = ("lacks_features", "address_bits", "unknown_feature", "proof")


def falls(refusal: Refusal) -> bool:
    """Whether a host that a default pool refuses tries the next one: if it lacks something, not if it gives more."""
    return refusal.code in WEAKER_MAY_FIT and bool(refusal.facts.get("missing", True))


# Refusals that other parts of the plan have found, by host and pool.
Rejected = Mapping[Tuple[str, str], Refusal]


@dataclass(frozen=True)
class Aim:
    """Where a host is to go: ``pool`` is ``None`` for none. With a ``refusal`` it stays where it is."""

    host: Host
    pool: Optional[str] = None
    refusal: Optional[Refusal] = None


def aim(wish: Wish, host: Host, standings: Mapping[str, Standing], rejected: Rejected) -> Aim:
    """Return where a host is to go."""
    if host.record_error is not None:
        return Aim(host, wish.pool, _record_error(host))
    if wish.kept:
        return _kept(host, standings, rejected)
    if not wish.present:
        return Aim(host, None)
    if wish.pool is not None:
        return Aim(host, wish.pool, name_refusal(wish.pool, host.name) or rejected.get((host.name, wish.pool)))
    if wish.definition is not None or wish.address_bits is not None:
        msg = (
            f"Host {host.name} names no pool, but its CPU is defined. A default pool has a preset CPU: name a pool, or"
            " leave definition and address bits out."
        )
        return Aim(host, None, Refusal("default_pool", msg, host.name))
    return _default(host, standings, rejected)


def _kept(host: Host, standings: Mapping[str, Standing], rejected: Rejected) -> Aim:
    """Return the pool of the host's record; a member stays in it even if it no longer gives its CPU."""
    pool = host.pool or ""
    member = pool in standings and standings[pool].is_member(host)
    return Aim(host, host.pool, None if member else rejected.get((host.name, pool)))


def _record_error(host: Host) -> Refusal:
    code, msg = host.record_error or ("bad_record", "")
    if code not in ("record_version", "bad_record"):
        code = "bad_record"
    return Refusal(code, f"Host {host.name}: {msg}", host.name)


def _default(host: Host, standings: Mapping[str, Standing], rejected: Rejected) -> Aim:
    """Return the default pool of a host: the one it is in, or the first whose CPU it can give."""
    if host.traits.features is None or host.vendor is None:
        return Aim(host, host.pool, no_cpu(host, None))
    tried: List[Tuple[str, str]] = []
    for preset in _ladder(host):
        known = rejected.get((host.name, preset.name))
        if known is not None and not falls(known):
            return Aim(host, preset.name, known)
        reason = known.msg if known else _why_not(host, preset, standings.get(preset.name))
        if reason is None:
            return Aim(host, preset.name)
        tried.append((preset.name, reason))
    return Aim(host, None, _no_default_pool(host, tried))


def _ladder(host: Host) -> Tuple[Preset, ...]:
    """Return the default pools of the host's vendor, from the one it is in, if it is in one: it does not move up."""
    presets = tuple(default_pools(host.vendor or ""))
    names = [preset.name for preset in presets]
    return presets[names.index(host.pool) :] if host.pool in names else presets


def _why_not(host: Host, preset: Preset, standing: Optional[Standing]) -> Optional[str]:
    """Return why a host cannot give the CPU of a default pool; whether a member still can is for its proof to say."""
    if host.pool == preset.name:
        return None
    cpu = standing.content.cpu if standing and standing.content else preset.cpu
    bits = host.traits.address_bits
    if cpu.address_bits is not None and bits is not None and bits < cpu.address_bits:
        return f"it has {bits} physical address bits, {cpu.address_bits} are needed"
    if host.presets is not None and preset.name in host.presets:
        return None
    lacking = sorted(set(cpu.require) - (host.traits.features or frozenset()))
    if lacking:
        return f"it lacks {', '.join(lacking)}"
    return None if host.presets is None else "its hypervisor cannot give this CPU"


def _no_default_pool(host: Host, tried: List[Tuple[str, str]]) -> Refusal:
    if not tried:
        msg = f"There are no default pools for CPUs of vendor {host.vendor}, which {host.name} has. Name a pool for it."
    else:
        words = "; ".join(f"{pool}: {reason}" for pool, reason in tried)
        msg = f"No default pool fits host {host.name} ({words}). Name a pool with the definition baseline for it."
    return Refusal("no_default_pool", msg, host.name, facts={"tried": [pool for pool, reason in tried]})


def no_cpu(host: Host, pool: Optional[str]) -> Refusal:
    """Return the refusal of a host that has no CPU to give."""
    msg = (
        f"Libvirt on host {host.name} names no CPU model for guests, so it can be in no pool."
        " Look at virsh domcapabilities there."
    )
    return Refusal("no_cpu", msg, host.name, pool)


def aims(
    wishes: Tuple[Wish, ...], hosts: Mapping[str, Host], standings: Mapping[str, Standing], rejected: Rejected
) -> Dict[str, Aim]:
    """Return where every host of the run is to go, by its name."""
    return {wish.name: aim(wish, hosts[wish.name], standings, rejected) for wish in wishes}
