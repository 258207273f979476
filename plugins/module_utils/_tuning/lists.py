# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The VMs that the inventory lists, as lists that the modules take."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence

from .._errors import FleetError
from .settings import Settings, check, check_values, merged, read_profiles

_GROUPS = ("cpu", "pinning", "policy", "hot_plug")
_RESOURCES = ("vcpus", "cells", "huge_pages_kib", "iothreads")


def tuned_vms(vms: Any, profiles: Any, here: Sequence[Mapping[str, Any]]) -> Dict[str, List[Any]]:
    """Return what each module is to do on one host.

    ``vms`` are mappings with ``name`` (or UUID), perhaps ``profile``, and settings of their own; ``profiles`` are
    settings by name; ``here`` are the VMs of the host with ``name`` and ``uuid``. All of them are checked, wherever
    they are. The answer has ``names`` (of those that are here), ``elsewhere``, and for the modules ``resources``,
    ``cpu``, ``pinning``, ``policy`` and ``hot_plug``. Raises ``FleetError`` with code ``bad_profile``.
    """
    known = read_profiles(profiles)
    names = {str(vm[key]): str(vm["name"]) for key in ("uuid", "name") for vm in here if vm.get(key)}
    answer: Dict[str, List[Any]] = {key: [] for key in ("names", "elsewhere", "resources", *_GROUPS)}
    for entry in _entries(vms):
        listed = str(entry["name"])
        settings = known.settings(str(entry["profile"]), listed) if entry.get("profile") else {}
        own = {key: value for key, value in entry.items() if key not in ("name", "profile")}
        settings = merged(settings, own)
        check_values(settings, listed, entry.get("profile"))
        name = names.get(listed)
        if name is None:
            answer["elsewhere"].append(listed)
        elif name in answer["names"]:
            raise _twice(name)
        else:
            answer["names"].append(name)
            _add(answer, name, settings)
    return answer


def _entries(vms: Any) -> List[Mapping[str, Any]]:
    if isinstance(vms, (str, Mapping)) or not isinstance(vms, Sequence):
        raise FleetError("The VMs are no list. Give a list of mappings with a name.", "bad_profile")
    names: List[str] = []
    for number, entry in enumerate(vms):
        name = entry.get("name") if isinstance(entry, Mapping) else None
        if not name:
            raise FleetError(f"VM number {number + 1} of the list has no name. Give each a name.", "bad_profile")
        check(entry, f"VM {name}", ("name", "profile"), vm=str(name))
        if str(name) in names:
            raise _twice(str(name))
        names.append(str(name))
    return list(vms)


def _twice(name: str) -> FleetError:
    return FleetError(f"VM {name} is listed twice. List each VM once.", "bad_profile", vm=name)


def _add(answer: Dict[str, List[Any]], name: str, settings: Settings) -> None:
    resources = {key: settings[key] for key in _RESOURCES if key in settings}
    pinning = settings.get("pinning")
    if resources:
        # Pins of what goes may go, because the pins are made anew afterwards.
        answer["resources"].append({"name": name, **resources, "drop_pins": bool(pinning)})
    for key in _GROUPS:
        if settings.get(key):
            answer[key].append({"name": name, **settings[key]})
