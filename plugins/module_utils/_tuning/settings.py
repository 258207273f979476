# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Settings of VMs: what may be said, and how a profile and a VM's own settings become one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, NoReturn, Optional, Sequence, Tuple

from .._cpu import CpuOptions
from .._domain import HOT_UNPLUG, MIGRATION_MODES, PinningPolicy, ResourceWish, given_pins
from .._errors import FleetError
from .._vcpus import AGENT, KEEP, LIVE, NEXT_START, REFUSE

Settings = Dict[str, Any]

# Every setting, with those inside it; ``None`` has none. Their names are those of the modules' options.
SCHEMA: Mapping[str, Any] = {
    "cpu": dict.fromkeys(
        ("cpu", "mode", "model", "match", "check", "vendor", "fallback", "features", "address_bits", "migratable")
    ),
    "pinning": dict.fromkeys(
        ("policy", "thread_policy", "emulator_threads", "memory_mode", "host_cells", "pins"),
    ),
    "vcpus": {
        "maximum": None,
        "current": None,
        "topology": dict.fromkeys(("sockets", "dies", "cores", "threads")),
    },
    "cells": None,
    "huge_pages_kib": None,
    "iothreads": None,
    "hot_plug": dict.fromkeys(("count", "sockets", "method", "unplug_pinned", "can_plug", "can_unplug", "unpluggable")),
    "policy": dict.fromkeys(("migration", "hosts", "home", "keep_apart", "keep_together", "priority", "hot_unplug")),
}
_CHOICES = {
    "policy.migration": (*MIGRATION_MODES, "default"),
    "policy.home": ("here", "none"),
    "policy.hot_unplug": (*HOT_UNPLUG, "default"),
    "hot_plug.method": (LIVE, AGENT, NEXT_START),
    "hot_plug.unplug_pinned": (REFUSE, KEEP),
}
# Who chooses another of these does not want what was said for the one before.
_KINDS = {"cpu": ("cpu", "mode", "model"), "pinning": ("policy",)}


@dataclass(frozen=True)
class Profiles:
    """Named settings; ``extends`` names the profile that one adds to."""

    given: Mapping[str, Mapping[str, Any]]

    def settings(self, name: str, vm: str) -> Settings:
        """Return the settings of a profile with those that it extends, for a VM that is named in errors.

        Raises ``FleetError`` with code ``bad_profile`` for profiles that are unknown or extend each other.
        """
        chain = self._chain(name, vm)
        settings: Settings = {}
        for link in reversed(chain):
            profile = self.given[link]
            settings = merged(settings, {key: value for key, value in profile.items() if key not in _NO_SETTINGS})
        return settings

    def _chain(self, name: str, vm: str) -> Sequence[str]:
        chain: Tuple[str, ...] = ()
        link: Optional[str] = name
        while link is not None:
            if link not in self.given:
                asked = f"The profile {chain[-1]} extends" if chain else f"VM {vm} has"
                _refuse(
                    f"{asked} the profile {link}, which does not exist. Use one of: {', '.join(sorted(self.given))}.",
                    vm=vm,
                    profile=link,
                )
            if link in chain:
                circle = " extends ".join((*chain[chain.index(link) :], link))
                _refuse(
                    f"The profiles of VM {vm} go in a circle: {circle}. Leave out one extends.", vm=vm, profile=link
                )
            chain = (*chain, link)
            link = self.given[link].get("extends")
        return chain


_NO_SETTINGS = ("extends", "description")


def read_profiles(data: Any) -> Profiles:
    """Return the profiles in a mapping of name to settings; all of them are checked.

    Raises ``FleetError`` with code ``bad_profile`` (facts ``profile`` and ``key``).
    """
    if not isinstance(data, Mapping):
        _refuse("The profiles are no mapping. Give a mapping of names to settings.")
    for name, profile in data.items():
        check(profile, f"The profile {name}", ("extends", "description"), profile=str(name))
    return Profiles({str(name): profile for name, profile in data.items()})


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> Settings:
    """Return settings with others over them, key by key; ``None`` takes a setting back.

    A CPU or pinning of another kind replaces that of ``base`` as a whole.
    """
    result = dict(base)
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged({} if _of_another_kind(key, result[key], value) else result[key], value)
        else:
            result[key] = merged({}, value) if isinstance(value, Mapping) else value
    return result


def _of_another_kind(group: str, base: Mapping[str, Any], over: Mapping[str, Any]) -> bool:
    return any(over.get(kind) is not None and over[kind] != base.get(kind) for kind in _KINDS.get(group, ()))


def check(data: Any, whose: str, besides: Sequence[str] = (), **facts: Any) -> None:
    """Refuse keys and words that no module knows; ``besides`` are keys that are no settings.

    Raises ``FleetError`` with code ``bad_profile`` (fact ``key``, such as ``vcpus.topology.cores``).
    """
    if not isinstance(data, Mapping):
        _refuse(f"{whose} is no mapping. Give settings by name.", **facts)
    _check_keys({key: value for key, value in data.items() if key not in besides}, SCHEMA, whose, "", facts)


def _check_keys(data: Any, schema: Mapping[str, Any], whose: str, prefix: str, facts: Mapping[str, Any]) -> None:
    for key, value in data.items():
        path = f"{prefix}{key}"
        if key not in schema:
            _refuse(f"{whose} has the unknown key {path}. Known are: {', '.join(schema)}.", key=path, **facts)
        if value is None:
            continue
        if schema[key] is not None:
            if not isinstance(value, Mapping):
                _refuse(f"{whose} has {path} that is no mapping. Give it as a mapping.", key=path, **facts)
            _check_keys(value, schema[key], whose, f"{path}.", facts)
        if path in _CHOICES and value not in _CHOICES[path]:
            words = ", ".join(_CHOICES[path])
            _refuse(f"{whose} has the unknown {path} {value!r}. Use one of: {words}.", key=path, **facts)


def check_values(settings: Settings, vm: str, profile: Optional[str]) -> None:
    """Refuse what the parts of the collection that take the settings would refuse, with the VM and profile named."""
    for group, reader in _READERS.items():
        part = settings if group is None else settings.get(group)
        if part is None:
            continue
        try:
            reader(part)
        except FleetError as error:
            key = ".".join(str(word) for word in (group, error.facts.get("option")) if word is not None)
            whose = f"VM {vm}" + (f" (profile {profile})" if profile else "")
            _refuse(f"{whose} has settings that cannot be: {error.msg}", vm=vm, profile=profile, key=key)


def _read_pinning(pinning: Mapping[str, Any]) -> None:
    # Without a policy of its own it changes the one that is stored with the VM, and dedicated takes every other option.
    PinningPolicy.from_dict({"policy": "dedicated", **pinning, "emulator": pinning.get("emulator_threads")})
    if pinning.get("pins") is not None:
        if not isinstance(pinning["pins"], Mapping):
            raise FleetError("pins is no mapping. Give it as a mapping.", option="pins")
        given_pins(pinning["pins"], pinning.get("policy"))


def _read_cpu(cpu: Mapping[str, Any]) -> None:
    if "cpu" in cpu:
        if len(cpu) > 1:
            raise FleetError("The CPU is given as XML and by options. Give one of them.", option="cpu")
        return
    migratable = cpu.get("migratable")
    if isinstance(migratable, bool):
        migratable = "on" if migratable else "off"
    CpuOptions.from_data({**cpu, "migratable": migratable})


_READERS = {None: ResourceWish.from_dict, "pinning": _read_pinning, "cpu": _read_cpu}


def _refuse(words: str, **facts: Any) -> NoReturn:
    raise FleetError(words, "bad_profile", **facts)
