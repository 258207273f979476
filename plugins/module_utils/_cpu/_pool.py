# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The guest CPU of a pool as a value, which needs no lxml: the controller plans with it, hosts write its XML."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from html import escape
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from .. import _xml
from .._errors import FleetError
from ._describe import AddressBits, CpuDescription, cpu_from_element

# Every model and feature that libvirt's cpu_map knows is spelled like this.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

# What QEMU takes for phys-bits (x86_cpu_realizefn, TARGET_PHYS_ADDR_SPACE_BITS in target/i386/cpu-param.h).
MIN_ADDRESS_BITS, MAX_ADDRESS_BITS = 32, 52

_KEYS = frozenset({"model", "vendor", "require", "disable", "address_bits"})


def check_name(name: object, what: str) -> str:
    """Return a name that libvirt could know; code ``bad_cpu`` for anything else. ``what`` says what it names."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise FleetError(
            f"{name!r} cannot be the name of a CPU's {what}. Use a name that libvirt knows, of letters, digits, "
            "dots, hyphens and underscores.",
            code="bad_cpu",
        )
    return name


def check_address_bits(bits: object) -> int:
    """Return a width of physical addresses that QEMU takes, in bits; code ``bad_cpu`` for anything else."""
    if not isinstance(bits, int) or not MIN_ADDRESS_BITS <= bits <= MAX_ADDRESS_BITS:
        raise FleetError(
            f"{bits!r} is no width of physical addresses. "
            f"Use a whole number of bits from {MIN_ADDRESS_BITS} to {MAX_ADDRESS_BITS}.",
            code="bad_cpu",
        )
    return bits


@dataclass(frozen=True)
class PoolCpu:
    """The CPU that the VMs of a pool get: a model, and features that every member has to give or to hide.

    ``require`` and ``disable`` end up sorted and without duplicates. ``address_bits`` is the width of physical
    addresses that guests see, ``None`` for QEMU's default of the machine type. Raises ``FleetError`` with code
    ``bad_cpu`` for names that are none, and for a feature that is both required and disabled.
    """

    model: str
    vendor: Optional[str] = None
    require: Tuple[str, ...] = ()
    disable: Tuple[str, ...] = ()
    address_bits: Optional[int] = None

    def __post_init__(self) -> None:
        """Bring the value into the one form that equality and ``digest`` rely on."""
        check_name(self.model, "model")
        if self.vendor is not None:
            check_name(self.vendor, "vendor")
        if self.address_bits is not None:
            check_address_bits(self.address_bits)
        for field in ("require", "disable"):
            object.__setattr__(self, field, _features(getattr(self, field), field))
        both = sorted(set(self.require) & set(self.disable))
        if both:
            raise FleetError(
                f"The CPU both requires and disables {', '.join(both)}. Keep each feature in one of the two lists.",
                code="bad_cpu",
                features=both,
            )

    def xml(self) -> str:
        """Return the ``<cpu>`` of a guest in its one canonical form.

        ``check='partial'`` is written out because with TCG libvirt's default is ``none``, which drops missing features
        silently.
        """
        lines = [f'<model fallback="forbid">{escape(self.model)}</model>']
        if self.vendor is not None:
            lines.append(f"<vendor>{escape(self.vendor)}</vendor>")
        if self.address_bits is not None:
            lines.append(f'<maxphysaddr mode="emulate" bits="{self.address_bits}"/>')
        policies = {**dict.fromkeys(self.require, "require"), **dict.fromkeys(self.disable, "disable")}
        lines += [f'<feature policy="{policies[name]}" name="{escape(name)}"/>' for name in sorted(policies)]
        return "\n".join(
            ['<cpu mode="custom" match="exact" check="partial">', *(f"  {line}" for line in lines), "</cpu>"]
        )

    def digest(self) -> str:
        """Return a short name of this very CPU, ``c`` and twelve hexadecimal digits; equal CPUs have equal names."""
        return "c" + hashlib.sha256(self.xml().encode("utf-8")).hexdigest()[:12]

    def as_data(self) -> Dict[str, Any]:
        """Return ``{model, vendor, require: [name], disable: [name], address_bits}``, as JSON carries it."""
        return {
            "model": self.model,
            "vendor": self.vendor,
            "require": list(self.require),
            "disable": list(self.disable),
            "address_bits": self.address_bits,
        }

    def without(self, features: Iterable[str]) -> PoolCpu:
        """Return this CPU without a word about ``features``, neither required nor disabled."""
        dropped = frozenset(features)
        return replace(
            self,
            require=tuple(name for name in self.require if name not in dropped),
            disable=tuple(name for name in self.disable if name not in dropped),
        )

    def with_disabled(self, features: Iterable[str]) -> PoolCpu:
        """Return this CPU with ``features`` disabled as well, except those it requires."""
        return replace(self, disable=self.disable + tuple(sorted(frozenset(features) - frozenset(self.require))))

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> PoolCpu:
        """Return the CPU in what ``as_data`` gave, whatever else it has; code ``bad_cpu`` for wrong types or names."""
        if not isinstance(data, Mapping) or "model" not in data:
            raise FleetError(
                "A CPU is described by a mapping with at least a model. "
                f"Give one with the keys {', '.join(sorted(_KEYS))}.",
                code="bad_cpu",
            )
        return cls(
            model=data["model"],
            vendor=data.get("vendor"),
            require=_features(data.get("require") or (), "require"),
            disable=_features(data.get("disable") or (), "disable"),
            address_bits=data.get("address_bits"),
        )

    @classmethod
    def from_xml(cls, text: str) -> PoolCpu:
        """Return the pool CPU in a ``<cpu>``, such as the result of a baseline call (needs lxml).

        What belongs to a host or to a VM (topology, NUMA cells, caches, microcode, CPUID vendor string) is left out,
        and the limit of an address width becomes the width. Raises ``FleetError``: ``cpu_policy`` for policies other
        than require and disable (QEMU drops ``force`` and ``optional`` silently, ``forbid`` shuts out better hosts),
        ``no_cpu`` without a model, ``bad_cpu``, ``bad_xml``.
        """
        cpu = cpu_from_element(_xml.parse_as(text, "cpu"))
        if cpu.model is None:
            raise FleetError(
                "The XML names no CPU model, so it cannot become a pool CPU. "
                "Take the baseline of at least one host, or a custom CPU with a model.",
                code="no_cpu",
            )
        by_policy: Dict[str, List[str]] = {"require": [], "disable": []}
        for name, policy in _policies(cpu):
            by_policy[policy].append(name)
        return cls(
            model=cpu.model,
            vendor=cpu.vendor,
            require=tuple(by_policy["require"]),
            disable=tuple(by_policy["disable"]),
            address_bits=_address_bits(cpu.address),
        )


def _features(names: object, what: str) -> Tuple[str, ...]:
    if not isinstance(names, (list, tuple)):
        raise FleetError(f"The features to {what} must be a list of names, not {names!r}. Give a list.", code="bad_cpu")
    return tuple(sorted({check_name(name, "feature") for name in names}))


def _policies(cpu: CpuDescription) -> List[Tuple[str, str]]:
    policies = [(feature.name, feature.policy or "require") for feature in cpu.features]
    for name, policy in policies:
        if policy not in ("require", "disable"):
            raise FleetError(
                f"Feature {name} has policy '{policy}', which a pool CPU must not have: every member has to give the "
                "guest exactly the same. Use 'require' or 'disable'.",
                code="cpu_policy",
                feature=name,
                policy=policy,
            )
    return policies


def _address_bits(address: Optional[AddressBits]) -> Optional[int]:
    """Return the width that guests shall see; a host's own width, which has no mode, is not one."""
    if address is None or address.mode is None:
        return None
    return address.bits if address.mode == "emulate" else address.limit
