# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What in a definition belongs to vCPUs, I/O threads or guest cells that it is not to have any more.

libvirt drops pins of missing vCPUs without a word and refuses others at define or only when the VM starts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import FrozenSet, Iterator, Tuple

from .. import _xml
from .._errors import FleetError
from .._topology import parse_cpuset
from ._following import own_pins
from ._layout import drop_if_empty
from ._pins import Pinning, pinning_of
from ._policy import METADATA_KEY, METADATA_URI, Home, policy_element, policy_elements, stored_policy
from ._resources import Resources

# Where a pin stands, and the attribute that numbers what it pins.
_PINS = (("cputune/vcpupin", "vcpu"), ("cputune/iothreadpin", "iothread"), ("numatune/memnode", "cellid"))
# Other settings of sets of vCPUs and I/O threads.
_SETS = (
    ("cputune/vcpusched", "vcpus", "vcpu"),
    ("cputune/iothreadsched", "iothreads", "iothread"),
    ("cputune/cachetune", "vcpus", "vcpu"),
    ("cputune/memorytune", "vcpus", "vcpu"),
)
_KINDS = {"vcpu": "vCPU", "iothread": "I/O thread", "cellid": "cell"}


def drop_stale_pins(root: _xml.Element, wanted: Resources, every: bool) -> None:
    """Remove pins of what goes: those that follow the host's division anyhow, with ``every`` the user's own too."""
    own = _users_own(root)
    for pin, words in list(_stale(root, wanted)):
        if every or words not in own:
            parent = pin.getparent()
            _xml.remove(pin)
            drop_if_empty(parent)
    if every:
        _drop_at_home(root, wanted)


def _users_own(root: _xml.Element) -> FrozenSet[str]:
    policy = stored_policy(root)
    pins = own_pins(pinning_of(root), policy.following if policy else None, live=False)
    return frozenset(
        [f"{_KINDS['vcpu']} {pin.vcpu}" for pin in pins.vcpus]
        + [f"{_KINDS['iothread']} {pin.iothread}" for pin in pins.iothreads]
        + [f"{_KINDS['cellid']} {cell.id}" for cell in pins.cells]
    )


def _drop_at_home(root: _xml.Element, wanted: Resources) -> None:
    policy = stored_policy(root)
    if policy is None or policy.home is None or policy.home.pins is None:
        return
    home = replace(policy.home, pins=_kept(policy.home.pins, wanted))
    if home != policy.home:
        (old,) = policy_elements(root)
        new = _xml.namespaced(policy_element(replace(policy, home=home)), METADATA_URI, METADATA_KEY)
        _xml.insert(old.getparent(), old.getparent().index(old), new)
        _xml.remove(old)


def require_nothing_left(root: _xml.Element, name: str, wanted: Resources) -> None:
    """Raise ``pins_left`` for pins of what goes, and ``in_use`` for devices and settings that need it."""
    used = [*_devices(root, wanted), *_settings(root, wanted), *_cells_in_use(root, wanted), *_making(root, wanted)]
    if used:
        raise FleetError(
            f"VM {name} cannot be defined like this: {'; '.join(used)}. Change that first.",
            "in_use",
            vm=name,
            used=used,
        )
    left = [words for _pin, words in _stale(root, wanted)]
    policy = stored_policy(root)
    if policy is not None and policy.home is not None and _stale_at_home(policy.home, wanted):
        left.append(f"pins on its home {policy.home.name}")
    if left:
        raise FleetError(
            f"VM {name} has pins of what it would lose: {', '.join(left)}. Change its pinning first, or set drop_pins "
            "and pin it anew afterwards.",
            "pins_left",
            vm=name,
            pins=left,
        )


def _numbers(wanted: Resources, attribute: str) -> FrozenSet[int]:
    return {
        "vcpu": frozenset(range(wanted.maximum)),
        "iothread": frozenset(wanted.iothreads),
        "cellid": frozenset(cell.id for cell in wanted.cells),
    }[attribute]


def _stale(root: _xml.Element, wanted: Resources) -> Iterator[Tuple[_xml.Element, str]]:
    for path, attribute in _PINS:
        for pin in root.findall(path):
            number = _xml.int_attribute(pin, attribute, -1)
            if number not in _numbers(wanted, attribute):
                yield pin, f"{_KINDS[attribute]} {number}"


def _kept(pins: Pinning, wanted: Resources) -> Pinning:
    return replace(
        pins,
        vcpus=tuple(pin for pin in pins.vcpus if pin.vcpu in _numbers(wanted, "vcpu")),
        iothreads=tuple(pin for pin in pins.iothreads if pin.iothread in _numbers(wanted, "iothread")),
        cells=tuple(cell for cell in pins.cells if cell.id in _numbers(wanted, "cellid")),
    )


def _stale_at_home(home: Home, wanted: Resources) -> bool:
    return home.pins is not None and _kept(home.pins, wanted) != home.pins


def _settings(root: _xml.Element, wanted: Resources) -> Iterator[str]:
    for path, attribute, kind in _SETS:
        for element in root.findall(path):
            gone = parse_cpuset(element.get(attribute, "")) - _numbers(wanted, kind)
            if gone:
                yield f"<{element.tag}> is for {_KINDS[kind]} {min(gone)} too"


def _devices(root: _xml.Element, wanted: Resources) -> Iterator[str]:
    for device in root.findall("devices/*"):
        threads = [_xml.to_int(driver.get("iothread")) for driver in device.findall("driver[@iothread]")]
        threads += [_xml.to_int(thread.get("id")) for thread in device.iterfind("driver/iothreads/iothread")]
        gone = sorted({number for number in threads if number is not None} - _numbers(wanted, "iothread"))
        if gone:
            yield f"{_device_name(device)} uses I/O thread {gone[0]}"


def _cells_in_use(root: _xml.Element, wanted: Resources) -> Iterator[str]:
    if root.find("cpu/numa") is None and not wanted.cells:
        return
    used = [(_device_name(node.getparent().getparent()), node.text) for node in root.iterfind("devices/*/target/node")]
    pages = root.iterfind("memoryBacking/hugepages/page[@nodeset]")
    used += [("a size of huge pages", str(cell)) for page in pages for cell in parse_cpuset(page.get("nodeset"))]
    links = root.findall("cpu/numa/interconnects/*")
    linked = {link.get(end, "") for link in links for end in ("initiator", "target")}
    used += [("an interconnect", cell) for cell in sorted(linked)]
    for what, cell in used:
        if _xml.to_int(cell) not in _numbers(wanted, "cellid"):
            yield f"{what} is for cell {cell}"


def _making(root: _xml.Element, wanted: Resources) -> Iterator[str]:
    """Yield how the memory of cells that go is made, where what takes their place would make it otherwise."""
    of_all = {
        "memAccess": _xml.find_attribute(root, "memoryBacking/access", "mode") or "private",
        "discard": "no" if root.find("memoryBacking/discard") is None else "yes",
    }
    cells = {_xml.int_attribute(cell, "id", index): cell for index, cell in enumerate(root.findall("cpu/numa/cell"))}
    stay = [cell for number, cell in cells.items() if number in _numbers(wanted, "cellid")]
    heirs = "the other cells do" if stay else "<memoryBacking> does"
    for number in sorted(set(cells) - _numbers(wanted, "cellid")):
        for name, default in of_all.items():
            made = cells[number].get(name)
            if made is not None and {made} != ({cell.get(name, default) for cell in stay} or {default}):
                yield f"cell {number} has memory with {name}='{made}', which {heirs} not have"


def _device_name(device: _xml.Element) -> str:
    name = _xml.find_attribute(device, "target", "dev") or device.get("index") or ""
    return f"{device.tag} {name}".strip()
