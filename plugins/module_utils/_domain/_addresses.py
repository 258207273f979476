# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Where the guest sees its devices: addresses that are missing, and those that two descriptions of a VM differ in."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from .. import _xml

Key = Tuple[str, ...]

# Set by libvirt when a VM starts, and no part of what the definition keeps.
_OF_THE_START = ("base",)


@dataclass(frozen=True)
class Device:
    """A device that has an address, or for which libvirt chooses one when the VM is defined (``needs_address``).

    Devices of equal ``key`` can be told apart by their addresses only. ``name`` is for people.
    """

    key: Key
    name: str
    address: Optional[str]
    needs_address: bool


@dataclass(frozen=True)
class Difference:
    """A device whose address is not the same in two descriptions; ``None`` for one that is not there, or has none."""

    device: str
    before: Optional[Device]
    after: Optional[Device]


def devices_of(xml: str) -> Tuple[Device, ...]:
    """Return the devices of a domain that addresses matter to, and all controllers, in document order.

    Raises ``FleetError`` with code ``bad_xml``.
    """
    counts: Dict[Key, int] = {}
    found = (_device(element, counts) for element in _xml.parse_as(xml, "domain").iterfind("devices/*"))
    return tuple(device for device in found if device is not None)


def _device(element: _xml.Element, counts: Dict[Key, int]) -> Optional[Device]:
    address = element.find("address")
    needs = _NEEDS_ADDRESS.get(element.tag, _never)(element)
    if address is None and not needs and element.tag != "controller":
        return None
    identity = _identity(element)
    key = _kind(element) if identity is None else (identity,)
    counts[key] = counts.get(key, 0) + 1
    name = identity or f"{element.tag} {_alias(element) or counts[key]}"
    return Device(key, name, None if address is None else _text(address), needs)


def missing_addresses(xml: str) -> List[str]:
    """Return the devices without address for which libvirt chooses one when the VM is defined."""
    return [device.name for device in devices_of(xml) if device.needs_address and device.address is None]


def differing_addresses(running: str, defined: str) -> List[Dict[str, Any]]:
    """Return the devices that a running VM has elsewhere than its definition says, or that only one of them has."""
    return [
        {
            "device": found.device,
            "running": found.before.address if found.before else None,
            "defined": found.after.address if found.after else None,
            "only": "defined" if found.before is None else "running" if found.after is None else None,
        }
        for found in _differences(devices_of(running), devices_of(defined))
    ]


def moved_devices(before: str, after: str) -> List[str]:
    """Return the devices of a definition that have another address in a later one, or are not in it any more.

    Those that had no address may get one, and libvirt may add devices.
    """
    found = _differences(devices_of(before), devices_of(after))
    return [each.device for each in found if each.before and (each.before.address or each.after is None)]


def _differences(before: Sequence[Device], after: Sequence[Device]) -> List[Difference]:
    ours, theirs = _by_key(before), _by_key(after)
    found: List[Difference] = []
    for key in dict.fromkeys([*ours, *theirs]):
        left, right = ours.get(key, []), theirs.get(key, [])
        # Without a better sign, the device at the same address is the same device.
        for device in list(left):
            same = next((other for other in right if other.address == device.address), None)
            if same is not None:
                left.remove(device)
                right.remove(same)
        found += [Difference((one or other).name, one, other) for one, other in zip_longest(left, right)]
    return found


def _by_key(devices: Sequence[Device]) -> Dict[Key, List[Device]]:
    found: Dict[Key, List[Device]] = {}
    for device in devices:
        found.setdefault(device.key, []).append(device)
    return found


def _identity(element: _xml.Element) -> Optional[str]:
    """Return what a device is called in every description of the VM, if there is such a name."""
    target = _xml.find_attribute
    names: Tuple[Optional[str], ...] = ()
    if element.tag == "disk":
        names = (target(element, "target", "dev"),)
    elif element.tag == "interface":
        names = ((target(element, "mac", "address") or "").lower(),)
    elif element.tag == "controller":
        names = (element.get("type"), element.get("index"))
    elif _alias(element).startswith("ua-"):
        # libvirt numbers other aliases anew with each start, and a definition has none of them.
        names = (_alias(element),)
    elif element.tag == "channel":
        names = (target(element, "target", "name"),)
    known = [name for name in names if name]
    return " ".join([element.tag, *known]) if known and len(known) == len(names) else None


def _kind(element: _xml.Element) -> Key:
    kind = [element.get(attribute, "") for attribute in ("type", "model", "bus")]
    return (element.tag, *kind, _xml.find_attribute(element, "target", "type") or "")


def _alias(element: _xml.Element) -> str:
    return _xml.find_attribute(element, "alias", "name") or ""


def _text(address: _xml.Element) -> str:
    """Return an address in one line: ``pci 0000:00:02.0 multifunction=on``, ``drive controller=0 bus=0 …``."""
    kind, parts = address.get("type", ""), {name: value for name, value in address.attrib.items() if name != "type"}
    if kind == "pci":
        numbers = [_xml.to_int(parts.pop(name, "0")) or 0 for name in ("domain", "bus", "slot", "function")]
        parts = {"": "{:04x}:{:02x}:{:02x}.{:x}".format(*numbers), **parts}
    words = [f"{name}={value}" if name else value for name, value in parts.items() if name not in _OF_THE_START]
    # Such as <zpci uid= fid=> of s390x.
    words += [f"{name}={value}" for child in address.iterfind("*") for name, value in sorted(child.attrib.items())]
    return " ".join([kind, *words])


def _never(element: _xml.Element) -> bool:
    return False


def _always(element: _xml.Element) -> bool:
    return True


def _if(attribute: str, *values: str, of: Optional[str] = None) -> Callable[[_xml.Element], bool]:
    """Need an address if an attribute, of the device or of a child, begins with one of the values."""

    def needs(element: _xml.Element) -> bool:
        owner = element if of is None else element.find(of)
        return owner is not None and str(owner.get(attribute, "")).startswith(values)

    return needs


def _unless(attribute: str, *values: str, of: Optional[str] = None) -> Callable[[_xml.Element], bool]:
    """Need an address unless an attribute, of the device or of a child, is one of the values."""

    def needs(element: _xml.Element) -> bool:
        owner = element if of is None else element.find(of)
        return bool(owner is None or owner.get(attribute) not in values)

    return needs


def _controller(element: _xml.Element) -> bool:
    if element.get("type") == "pci":
        # What a machine type itself begins with.
        return str(element.get("model")) not in ("pci-root", "pcie-root")
    return bool(element.get("type") not in ("fdc", "isa", "xenbus") and element.get("model") != "none")


def _hostdev(element: _xml.Element) -> bool:
    return bool(element.get("mode") == "subsystem" and element.get("model") != "vfio-ap")


# Which devices libvirt gives an address when a VM is defined (qemuDomainAssignAddresses); where that depends on the
# machine, none is asked for.
_NEEDS_ADDRESS: Mapping[str, Callable[[_xml.Element], bool]] = {
    "channel": _if("type", "virtio", of="target"),
    "console": _if("type", "virtio", of="target"),
    "controller": _controller,
    "crypto": _always,
    "disk": _if("bus", "virtio", "scsi", "ide", "fdc", "sata", "usb", of="target"),
    "filesystem": _always,
    "hostdev": _hostdev,
    "hub": _always,
    "input": _if("bus", "usb", "virtio"),
    "interface": _unless("type", "usb-net", of="model"),
    "iommu": _if("model", "virtio"),
    "memballoon": _if("model", "virtio"),
    "memory": _if("model", "virtio"),
    "redirdev": _always,
    "rng": _if("model", "virtio"),
    "serial": _if("type", "pci-serial", "usb-serial", "spapr-vio-serial", of="target"),
    "shmem": _always,
    "smartcard": _always,
    "sound": _unless("model", "sb16", "pcspk"),
    "video": _unless("type", "none", "ramfb", of="model"),
    "vsock": _if("model", "virtio"),
    "watchdog": _if("model", "i6300esb"),
}
