# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""How a VM wants to be treated, stored with the VM in libvirt's domain metadata so that it travels with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, FrozenSet, Mapping, Optional, Sequence, Tuple

from .. import _xml
from .._errors import FleetError
from ._following import Following, following_element, following_from_element
from ._groups import check_groups
from ._pinning_policy import PinningPolicy, pinning_element, pinning_from_element
from ._pins import Pinning, pins_from_children

METADATA_URI = "urn:virtops:kvm_fleet:policy"
METADATA_KEY = "kvm_fleet"
MIGRATION_MODES = ("automatic", "manual", "pinned")
HOT_UNPLUG = ("allowed", "refused")
GROUPS = ("keep_apart", "keep_together")
# A release leaves out what it does not know when it writes a policy, so a part that is added after a release needs a
# higher version, with which older ones keep their hands off. All parts so far are in the first release.
VERSION = "1"

_YES_NO = {"yes": True, "no": False}


@dataclass(frozen=True)
class Home:
    """The host a VM belongs to (libvirt host UUID and inventory name), and what it had there.

    ``autostart`` and ``pins`` are ``None`` when unknown; a ``Pinning()`` without pins says it had none.
    """

    uuid: str
    name: str
    autostart: Optional[bool] = None
    pins: Optional[Pinning] = None

    def as_dict(self) -> Dict[str, Any]:
        """Return ``{uuid, name, autostart, pins}``."""
        pins = None if self.pins is None else self.pins.as_dict()
        return {"uuid": self.uuid, "name": self.name, "autostart": self.autostart, "pins": pins}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Home:
        """Return the home of a mapping with at least ``uuid`` and ``name``; else code ``bad_policy``."""
        if not data.get("uuid") or not data.get("name"):
            raise FleetError("A home needs the UUID and the name of its host. Give both.", code="bad_policy")
        pins = data.get("pins")
        return cls(
            str(data["uuid"]),
            str(data["name"]),
            data.get("autostart"),
            None if pins is None else Pinning.from_dict(pins),
        )


@dataclass(frozen=True)
class Policy:
    """``migration`` is one of ``MIGRATION_MODES`` or ``None`` (decided by rule); no ``hosts`` means any host.

    ``pinning`` is ``None`` where nobody has asked for a policy: whatever pins there are, are the user's own, but for
    those that ``following`` says are ours. ``keep_apart`` and ``keep_together`` are names of groups, of which those of
    the one have nothing to do with those of the other. The higher ``priority`` matters more. ``hot_unplug`` is one of
    ``HOT_UNPLUG`` or ``None``, which is as good as allowed.
    """

    migration: Optional[str] = None
    hosts: Tuple[str, ...] = ()
    home: Optional[Home] = None
    pinning: Optional[PinningPolicy] = None
    following: Optional[Following] = None
    keep_apart: FrozenSet[str] = frozenset()
    keep_together: FrozenSet[str] = frozenset()
    priority: int = 0
    hot_unplug: Optional[str] = None

    def __post_init__(self) -> None:
        """Refuse what nobody would understand."""
        _check_word("migration", "migration mode", self.migration, MIGRATION_MODES)
        _check_word("hot_unplug", "word for hot unplug", self.hot_unplug, HOT_UNPLUG)
        check_groups("keep_apart", self.keep_apart)
        check_groups("keep_together", self.keep_together)
        if not isinstance(self.priority, int) or isinstance(self.priority, bool):
            raise _bad_priority(self.priority)

    @property
    def may_unplug(self) -> bool:
        """Whether vCPUs may be taken from the VM while it runs."""
        return self.hot_unplug != "refused"

    def as_dict(self) -> Dict[str, Any]:
        """Return all parts by name, but ``pinning`` and ``following`` only if there are such; groups are sorted."""
        home = None if self.home is None else self.home.as_dict()
        more = {
            name: value.as_dict()
            for name, value in (("pinning", self.pinning), ("following", self.following))
            if value is not None
        }
        return {
            "migration": self.migration,
            "hosts": list(self.hosts),
            "home": home,
            "keep_apart": sorted(self.keep_apart),
            "keep_together": sorted(self.keep_together),
            "priority": self.priority,
            "hot_unplug": self.hot_unplug,
            **more,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Policy:
        """Return the policy of a mapping; every key may be missing.

        Raises ``FleetError`` with code ``bad_policy``, or ``bad_options`` for its ``pinning``.
        """
        home, pinning, following = data.get("home"), data.get("pinning"), data.get("following")
        return cls(
            data.get("migration"),
            tuple(str(host) for host in data.get("hosts") or ()),
            None if home is None else Home.from_dict(home),
            None if pinning is None else PinningPolicy.from_dict(pinning),
            None if following is None else Following.from_dict(following),
            frozenset(data.get("keep_apart") or ()),
            frozenset(data.get("keep_together") or ()),
            data.get("priority") or 0,
            data.get("hot_unplug"),
        )


def _check_word(option: str, kind: str, word: Optional[str], known: Tuple[str, ...]) -> None:
    if word is not None and word not in known:
        raise _bad(option, f"The {kind} '{word}' is unknown. Use one of: {', '.join(known)}.")


def _bad_priority(value: object) -> FleetError:
    return _bad("priority", f"The priority {value!r} is no whole number. Give one, or 0 for none.")


def _bad(option: str, msg: str) -> FleetError:
    return FleetError(msg, code="bad_policy", option=option)


def policy_to_xml(policy: Policy) -> str:
    """Return the element for ``virDomainSetMetadata`` with ``METADATA_KEY`` and ``METADATA_URI``.

    It has no namespace: libvirt declares the prefix itself and puts every element without namespace into it, and
    refuses an element that declares the prefix already (``virXMLInjectNamespace``).
    """
    return _xml.serialise(policy_element(policy))


def policy_element(policy: Policy) -> _xml.Element:
    """Return the policy as an element without namespace."""
    element = _xml.new("policy", version=VERSION)
    if policy.migration is not None:
        element.append(_xml.new("migration", policy.migration))
    element.extend(_list_element("hosts", "host", policy.hosts))
    if policy.home is not None:
        element.append(_home_element(policy.home))
    for option in GROUPS:
        element.extend(_list_element(option, "group", sorted(getattr(policy, option))))
    if policy.priority != 0:
        element.append(_xml.new("priority", str(policy.priority)))
    if policy.hot_unplug is not None:
        element.append(_xml.new("hot_unplug", policy.hot_unplug))
    if policy.pinning is not None:
        element.append(pinning_element(policy.pinning))
    if policy.following is not None:
        element.append(following_element(policy.following))
    return element


def _list_element(tag: str, item: str, names: Sequence[str]) -> Tuple[_xml.Element, ...]:
    """Return the element for a list, none for an empty one."""
    if not names:
        return ()
    element = _xml.new(tag)
    element.extend(_xml.new(item, name) for name in names)
    return (element,)


def _home_element(home: Home) -> _xml.Element:
    autostart = None if home.autostart is None else ("yes" if home.autostart else "no")
    element = _xml.new("home", uuid=home.uuid, name=home.name, autostart=autostart)
    if home.pins is None:
        return element
    pins = _xml.new("pins", policy=home.pins.policy, cpuset=home.pins.cpuset)
    for vcpu in home.pins.vcpus:
        pins.append(_xml.new("vcpupin", vcpu=vcpu.vcpu, cpuset=vcpu.cpus))
    if home.pins.emulator is not None:
        pins.append(_xml.new("emulatorpin", cpuset=home.pins.emulator))
    for thread in home.pins.iothreads:
        pins.append(_xml.new("iothreadpin", iothread=thread.iothread, cpuset=thread.cpus))
    if home.pins.memory is not None:
        pins.append(_xml.new("memory", mode=home.pins.memory.mode, nodeset=home.pins.memory.nodes))
    for cell in home.pins.cells:
        pins.append(_xml.new("memnode", cellid=cell.id, mode=cell.mode, nodeset=cell.node))
    element.append(pins)
    return element


def policy_from_xml(text: str, vm: Optional[str] = None) -> Policy:
    """Return the policy in an element as ``virDomainGetMetadata`` gives it, or as it stands in a domain.

    Raises ``FleetError``: ``policy_version`` when a newer release wrote it, ``bad_policy``, ``bad_options`` or
    ``bad_xml`` when it is broken. ``vm`` is named in the message.
    """
    return policy_from_element(_xml.parse(text), vm)


def policy_from_element(element: _xml.Element, vm: Optional[str] = None) -> Policy:
    """Return the policy in a parsed element, in any namespace."""
    owner = f"VM {vm}" if vm else "the VM"
    version = element.get("version")
    if version != VERSION:
        raise FleetError(
            f"The policy stored with {owner} has version {version}, but this release knows version {VERSION} only. "
            "Upgrade virtops.kvm_fleet on the controller.",
            code="policy_version",
            vm=vm,
            version=version,
        )
    parts = {_xml.local_name(child): child for child in element}
    try:
        return _policy(parts)
    except FleetError as error:
        message = f"The policy stored with {owner} cannot be used: {error.msg}"
        raise FleetError(message, error.code, **{**error.facts, "vm": vm}) from error


def _policy(parts: Mapping[str, _xml.Element]) -> Policy:
    return Policy(
        _text(parts.get("migration")),
        _texts(parts.get("hosts"), "host"),
        _home(parts["home"]) if "home" in parts else None,
        pinning_from_element(parts["pinning"]) if "pinning" in parts else None,
        following_from_element(parts["following"]) if "following" in parts else None,
        frozenset(_texts(parts.get("keep_apart"), "group")),
        frozenset(_texts(parts.get("keep_together"), "group")),
        _priority(_text(parts.get("priority"))),
        _text(parts.get("hot_unplug")),
    )


def _text(element: Optional[_xml.Element]) -> Optional[str]:
    return None if element is None else (element.text or "").strip() or None


def _texts(element: Optional[_xml.Element], tag: str) -> Tuple[str, ...]:
    children = () if element is None else element
    return tuple((child.text or "").strip() for child in children if _xml.local_name(child) == tag)


def _priority(text: Optional[str]) -> int:
    try:
        return int(text or 0)
    except ValueError as error:
        raise _bad_priority(text) from error


def _home(element: _xml.Element) -> Home:
    pins = [child for child in element if _xml.local_name(child) == "pins"]
    return Home(
        uuid=element.get("uuid", ""),
        name=element.get("name", ""),
        autostart=_YES_NO.get(element.get("autostart", "")),
        pins=pins_from_children(list(pins[0]), pins[0].get("cpuset"), pins[0].get("policy")) if pins else None,
    )


def policy_of_domain(xml: str) -> Optional[Policy]:
    """Return the policy stored in a domain's metadata; ``None`` when it has none."""
    return stored_policy(_xml.parse_as(xml, "domain"))


def stored_policy(domain: _xml.Element) -> Optional[Policy]:
    """Return the policy stored in a parsed domain; ``None`` when it has none."""
    elements = policy_elements(domain)
    return policy_from_element(elements[0], _xml.find_text(domain, "name")) if elements else None


def policy_elements(domain: _xml.Element) -> Tuple[_xml.Element, ...]:
    """Return our elements in a domain's metadata; libvirt keeps at most one."""
    return tuple(domain.iterfind(f"metadata/{{{METADATA_URI}}}policy"))
