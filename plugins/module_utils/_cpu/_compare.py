# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Comparing CPUs: features, differences, and equality of what the collection owns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Iterable, Optional, Tuple

from ._describe import CpuDescription, parse_cpu

# What libvirt 7 to 12 fills in for a missing check attribute when it stores a definition (qemuDomainDefCPUPostParse):
# a custom CPU gets "partial" with KVM and "none" without.
_FILLED_IN_CHECK: Dict[str, FrozenSet[str]] = {
    "custom": frozenset({"partial", "none"}),
    "host-model": frozenset({"partial"}),
    "host-passthrough": frozenset({"none"}),
    "maximum": frozenset({"none"}),
}


def required(cpu: CpuDescription) -> FrozenSet[str]:
    """Return the features listed as there: policy ``require`` or ``force``, or listed without policy.

    Features a named model brings by itself are not listed; libvirt expands them on request.
    """
    return frozenset(feature.name for feature in cpu.features if feature.policy in (None, "require", "force"))


def missing(wanted: Iterable[str], offered: Iterable[str]) -> Tuple[str, ...]:
    """Return the wanted features that are not offered, sorted."""
    return tuple(sorted(set(wanted) - set(offered)))


@dataclass(frozen=True)
class CpuDifference:
    """What changes from one CPU to another: listed features and owned attributes as ``(name, before, after)``."""

    added: Tuple[str, ...] = ()
    removed: Tuple[str, ...] = ()
    changed: Tuple[Tuple[str, Any, Any], ...] = ()

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        return bool(self.added or self.removed or self.changed)

    def as_dict(self) -> Dict[str, Any]:
        """Return ``{added: [feature], removed: [feature], changed: [{name, before, after}]}``."""
        return {
            "added": list(self.added),
            "removed": list(self.removed),
            "changed": [{"name": name, "before": before, "after": after} for name, before, after in self.changed],
        }


def difference(before: CpuDescription, after: CpuDescription) -> CpuDifference:
    """Return what changes between two CPUs, in what the collection owns; spelling differences do not count."""
    listed_before, listed_after = required(before), required(after)
    old, new = _owned(before), _owned(after)
    if _same_check(before, after):
        new["check"] = old["check"]
    policies_before, policies_after = dict(old.pop("features")), dict(new.pop("features"))
    changed = [(name, value, new[name]) for name, value in old.items() if value != new[name]]
    for name in sorted(set(policies_before) | set(policies_after)):
        pair = (policies_before.get(name), policies_after.get(name))
        # A feature that only starts or ceases to be required is in added or removed.
        if pair[0] != pair[1] and pair not in ((None, "require"), ("require", None)):
            changed.append((f"feature {name}", *pair))
    return CpuDifference(
        added=missing(listed_after, listed_before), removed=missing(listed_before, listed_after), changed=tuple(changed)
    )


def same_cpu(a_xml: str, b_xml: str) -> bool:
    """Whether two ``<cpu>`` (or domains) agree in mode, match, check, model, vendor, address width and features.

    Topology, NUMA cells and caches belong to the VM and are not looked at. Attributes that libvirt fills in when it
    stores a definition, and the order of features, do not count; so a definition written twice compares equal.
    """
    return not difference(parse_cpu(a_xml), parse_cpu(b_xml))


def _owned(cpu: CpuDescription) -> Dict[str, Any]:
    """Return what is compared, with libvirt's defaults filled in as ``virCPUDefParseXML`` does."""
    mode = _mode(cpu)
    named = mode in ("custom", "host-model")
    return {
        "mode": mode,
        # libvirt neither prints nor uses match and model details outside the modes that have them.
        "match": (cpu.match or "exact") if mode == "custom" else None,
        "check": cpu.check,
        "migratable": (cpu.migratable or "on") if mode in ("host-passthrough", "maximum") else None,
        "model": cpu.model,
        "fallback": (cpu.fallback or "allow") if named else None,
        "vendor_id": cpu.vendor_id,
        "vendor": cpu.vendor,
        "address": _address(cpu),
        "features": frozenset((feature.name, feature.policy or "require") for feature in cpu.features),
    }


def _mode(cpu: CpuDescription) -> Optional[str]:
    if cpu.mode is None and cpu.model is not None:
        return "custom"
    return cpu.mode


def _address(cpu: CpuDescription) -> Optional[Dict[str, Any]]:
    if cpu.address is None:
        return None
    return {"mode": cpu.address.mode, "bits": cpu.address.bits, "limit": cpu.address.limit}


def _same_check(a: CpuDescription, b: CpuDescription) -> bool:
    if a.check == b.check:
        return True
    if a.check is not None and b.check is not None:
        return False
    return (a.check or b.check) in _FILLED_IN_CHECK.get(_mode(a) or "", frozenset())
