# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Of which vendor and kind a pool is, and what a pool that nobody is in yet demands of those who would form it."""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Sequence

from .._cpu import PRESETS, is_default_name
from .model import Host, Refusal
from .policy import BASELINE, Policy
from .settle import Standing


def vendor_of(pool: str, standing: Standing, policy: Policy, joining: Sequence[Host]) -> Optional[str]:
    """Return the vendor of a pool: on record, by its preset, or that of all who want to form it."""
    if standing.content is not None:
        return standing.content.vendor
    preset = PRESETS.get(pool if is_default_name(pool) else policy.definition or "")
    if preset is not None:
        return preset.vendor
    vendors = {host.vendor for host in joining if host.vendor is not None}
    return vendors.pop() if len(vendors) == 1 else None


def virt_type_of(standing: Standing, old: Sequence[Host], joining: Sequence[Host]) -> Optional[str]:
    """Return how guests of a pool run: as on its members now, or if these differ, as on record."""
    types = {host.traits.virt_type for host in old or joining if host.traits.virt_type is not None}
    if len(types) == 1:
        return types.pop()
    return standing.basis.proven.virt_type if standing.basis else None


def mixed(pool: str, standing: Standing, vendor: Optional[str], joining: Sequence[Host]) -> Dict[str, Refusal]:
    """Refuse all who would form a pool that nobody is in yet, if they are of several kinds."""
    if standing.content is not None:
        return {}
    refused: Dict[str, Refusal] = {}
    if vendor is None:
        vendors = {host.name: host.vendor for host in joining if host.vendor is not None}
        refused.update(_of_one_kind(pool, "vendor", "CPUs of one vendor", vendors))
    types = {host.name: host.traits.virt_type for host in joining if host.traits.virt_type is not None}
    refused.update(_of_one_kind(pool, "virt_type", "hosts that all have KVM, or none", types))
    return refused


def _of_one_kind(pool: str, code: str, what: str, kinds: Mapping[str, str]) -> Dict[str, Refusal]:
    if len(set(kinds.values())) < 2:
        return {}
    words = ", ".join(f"{host}: {kind}" for host, kind in sorted(kinds.items()))
    msg = f"Pool {pool} must have {what} ({words}). Make a pool of each kind."
    facts = {"hosts": dict(sorted(kinds.items()))}
    return {host: Refusal(code, msg, host, pool, facts) for host in kinds}


def no_presets(host: Host, pool: str) -> Refusal:
    """Return the refusal of a host whose vendor has no preset CPU for a new pool."""
    msg = (
        f"There is no basic CPU for vendor {host.vendor or 'unknown'}, which host {host.name} has, so pool {pool}"
        f" cannot start with it. Define the pool as {BASELINE}."
    )
    return Refusal("vendor", msg, host.name, pool, {"vendor": host.vendor})
