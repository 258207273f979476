# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The CPU of a single guest from options, and what libvirt would do with a guest's CPU without a word."""

from __future__ import annotations

from dataclasses import dataclass, fields
from html import escape
from typing import Any, Dict, List, Mapping, Optional, Tuple

from .._errors import FleetError
from ._describe import Feature
from ._pool import check_address_bits, check_name

MODES = ("custom", "host-model", "host-passthrough", "maximum")
MATCHES = ("exact", "minimum", "strict")
POLICIES = ("require", "disable", "force", "optional", "forbid")
CHECKS = ("none", "partial", "full")
FALLBACKS = ("allow", "forbid")
SWITCHES = ("on", "off")

# The options that a mode takes, as virCPUDefParseXML and the schema (cputypes.rng) have it.
_ONLY_FOR = {
    "model": ("custom",),
    "match": ("custom",),
    "vendor": ("custom",),
    "fallback": ("custom", "host-model"),
    "migratable": ("host-passthrough", "maximum"),
}
_CHOICES = {"mode": MODES, "match": MATCHES, "check": CHECKS, "fallback": FALLBACKS, "migratable": SWITCHES}


@dataclass(frozen=True)
class CpuOptions:
    """What a person may say about the CPU of a guest; ``None`` leaves it to the mode.

    ``features`` have a policy each and keep their order. ``address_bits`` is the width of physical addresses that the
    guest sees, ``migratable`` is ``on`` or ``off``. Raises ``FleetError`` with code ``bad_cpu`` for words that libvirt
    does not know, for options that the mode does not take, and for a feature given twice.
    """

    mode: str = "custom"
    model: Optional[str] = None
    match: Optional[str] = None
    check: Optional[str] = None
    vendor: Optional[str] = None
    fallback: Optional[str] = None
    features: Tuple[Feature, ...] = ()
    address_bits: Optional[int] = None
    migratable: Optional[str] = None

    def __post_init__(self) -> None:
        """Refuse what libvirt would refuse or, worse, ignore."""
        for option, known in _CHOICES.items():
            _check_choice(option, getattr(self, option), known)
        for option, modes in _ONLY_FOR.items():
            if getattr(self, option) is not None and self.mode not in modes:
                raise _bad(
                    option, f"The mode {self.mode} takes no {option}, only {' and '.join(modes)} does. Leave it out."
                )
        if self.mode == "custom" and self.model is None:
            raise _bad("model", "The mode custom needs a model. Name one of those that the host's cpu_models lists.")
        for name, what in ((self.model, "model"), (self.vendor, "vendor")):
            if name is not None:
                check_name(name, what)
        if self.address_bits is not None:
            check_address_bits(self.address_bits)
        _check_features(self.features)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> CpuOptions:
        """Return the options in a mapping as modules have it; ``features`` is ``[{name, policy}]``, require by default.

        Keys with ``None`` count as not given, and keys that are no options are ``bad_cpu``.
        """
        unknown = sorted(set(data) - {field.name for field in fields(cls)})
        if unknown:
            raise _bad(unknown[0], f"{', '.join(unknown)} is no option of a CPU. Leave it out.")
        given = {name: value for name, value in data.items() if value is not None and name != "features"}
        features = tuple(_feature(item) for item in data.get("features") or ())
        return cls(features=features, **given)

    def xml(self) -> str:
        """Return the guest's ``<cpu>``.

        Where nothing else is said, a custom CPU is exact, its model is not replaced, and missing features refuse the
        start: libvirt's own defaults are to replace the model and, with TCG, to drop features silently.
        """
        custom = self.mode == "custom"
        attributes = {
            "mode": self.mode,
            "match": self.match or ("exact" if custom else None),
            "check": self.check or ("partial" if custom else None),
            "migratable": self.migratable,
        }
        lines = self._model_lines()
        if self.address_bits is not None:
            lines.append(f'<maxphysaddr mode="emulate" bits="{self.address_bits}"/>')
        for feature in self.features:
            lines.append(f"<feature{_attributes({'policy': feature.policy or 'require', 'name': feature.name})}/>")
        if not lines:
            return f"<cpu{_attributes(attributes)}/>"
        return "\n".join([f"<cpu{_attributes(attributes)}>", *(f"  {line}" for line in lines), "</cpu>"])

    def _model_lines(self) -> List[str]:
        lines: List[str] = []
        if self.model is not None:
            fallback = _attributes({"fallback": self.fallback or "forbid"})
            lines.append(f"<model{fallback}>{escape(self.model)}</model>")
        elif self.fallback is not None:
            lines.append(f"<model{_attributes({'fallback': self.fallback})}/>")
        if self.vendor is not None:
            lines.append(f"<vendor>{escape(self.vendor)}</vendor>")
        return lines


def _attributes(values: Mapping[str, Optional[str]]) -> str:
    return "".join(f' {name}="{escape(value)}"' for name, value in values.items() if value is not None)


def _bad(option: str, text: str, **facts: Any) -> FleetError:
    return FleetError(text, code="bad_cpu", option=option, **facts)


def _check_choice(option: str, value: Optional[str], known: Tuple[str, ...]) -> None:
    if value is not None and value not in known:
        raise _bad(option, f"{value!r} is no {option} of a CPU. Use one of {', '.join(known)}.")


def _feature(item: Any) -> Feature:
    if not isinstance(item, Mapping) or "name" not in item or set(item) - {"name", "policy"}:
        raise _bad("features", f"{item!r} is no feature. Give each as a name and, if it is not require, a policy.")
    return Feature(item["name"], item.get("policy") or "require")


def _check_features(features: Tuple[Feature, ...]) -> None:
    seen: Dict[str, Optional[str]] = {}
    for feature in features:
        name = check_name(feature.name, "feature")
        if feature.policy is not None and feature.policy not in POLICIES:
            raise _bad(
                "features",
                f"Feature {name} has the policy {feature.policy!r}. Use one of {', '.join(POLICIES)}.",
                feature=name,
            )
        if name in seen:
            raise _bad("features", f"Feature {name} is given twice. Keep one policy for it.", feature=name)
        seen[name] = feature.policy
