# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Changes to a definition, text to text. What the collection does not own stays as it was, comments included."""

from __future__ import annotations

from copy import deepcopy
from typing import List, Optional, Tuple

from .. import _xml
from .._cpu import cpu_from_element, same_cpu
from .._errors import FleetError
from ._layout import drop_if_empty, place
from ._pins import AUTO, Pinning, pinning_of, same_pins
from ._policy import METADATA_KEY, METADATA_URI, Policy, policy_element, policy_elements, stored_policy

_CPU_ATTRIBUTES = ("mode", "match", "check", "migratable", "deprecated_features")
_CPU_CHILDREN = ("model", "vendor", "maxphysaddr", "feature")


def with_cpu(xml: str, cpu_xml: str) -> str:
    """Return the domain with another CPU: its mode, model, vendor, address width and features.

    The VM's own topology, NUMA cells and caches stay, and those of ``cpu_xml`` are not taken over. A domain that has
    the CPU already is returned as it is. Raises ``FleetError``: ``bad_cpu`` for a host's description, ``bad_xml``.
    """
    root, wanted = _xml.parse_as(xml, "domain"), _xml.parse_as(cpu_xml, "cpu")
    if cpu_from_element(wanted).arch is not None:
        raise FleetError(
            "The CPU is the description of a host. Make a guest CPU of it first, with a baseline.", code="bad_cpu"
        )
    cpu = root.find("cpu")
    if cpu is not None and same_cpu(_xml.serialise(cpu), cpu_xml):
        return xml
    if cpu is None:
        cpu = _xml.new("cpu")
        place(root, cpu)
    for name in _CPU_ATTRIBUTES:
        cpu.attrib.pop(name, None)
        if wanted.get(name) is not None:
            cpu.set(name, wanted.get(name))
    for child in [child for child in cpu if child.tag in _CPU_CHILDREN]:
        _xml.remove(child)
    _add_cpu_children(cpu, wanted)
    return _xml.serialise(root)


def _add_cpu_children(cpu: _xml.Element, wanted: _xml.Element) -> None:
    """Add model and vendor first and the rest before ``<numa>``, as libvirt prints them."""
    for index, child in enumerate(_copies(wanted, "model", "vendor")):
        _xml.insert(cpu, index, child)
    for child in _copies(wanted, "maxphysaddr", "feature"):
        numa = cpu.find("numa")
        _xml.insert(cpu, len(cpu) if numa is None else cpu.index(numa), child)


def _copies(parent: _xml.Element, *names: str) -> List[_xml.Element]:
    found = [deepcopy(child) for name in names for child in parent.findall(name)]
    for child in found:
        child.tail = None
    return found


def with_pinning(xml: str, pinning: Pinning) -> str:
    """Return the domain with exactly the given pins, and the rest of ``<vcpu>``, ``<cputune>``, ``<numatune>`` kept.

    A domain that has these pins already is returned as it is. Raises ``FleetError`` with code ``bad_xml``.
    """
    root = _xml.parse_as(xml, "domain")
    before = pinning_of(root)
    if same_pins(before, pinning):
        return xml
    if before.cpuset != pinning.cpuset:
        _set_cpuset(root, pinning.cpuset)
    threads = [_xml.new("vcpupin", vcpu=pin.vcpu, cpuset=pin.cpus) for pin in pinning.vcpus]
    if pinning.emulator is not None:
        threads.append(_xml.new("emulatorpin", cpuset=pinning.emulator))
    threads += [_xml.new("iothreadpin", iothread=pin.iothread, cpuset=pin.cpus) for pin in pinning.iothreads]
    _replace_children(root, "cputune", ("vcpupin", "emulatorpin", "iothreadpin"), threads)
    _replace_children(root, "numatune", ("memory", "memnode"), _memory_elements(pinning))
    return _xml.serialise(root)


def _memory_elements(pinning: Pinning) -> List[_xml.Element]:
    elements = []
    if pinning.memory is not None:
        automatic = pinning.memory.nodes == AUTO
        nodes, placement = (None, AUTO) if automatic else (pinning.memory.nodes, None)
        elements.append(_xml.new("memory", mode=pinning.memory.mode, nodeset=nodes, placement=placement))
    return elements + [_xml.new("memnode", cellid=cell.id, mode=cell.mode, nodeset=cell.node) for cell in pinning.cells]


def _set_cpuset(root: _xml.Element, cpuset: Optional[str]) -> None:
    vcpu = root.find("vcpu")
    if vcpu is None:
        # libvirt's default for a definition without <vcpu>.
        vcpu = _xml.new("vcpu", "1")
        place(root, vcpu)
    vcpu.set("placement", AUTO if cpuset == AUTO else "static")
    if cpuset in (None, AUTO):
        vcpu.attrib.pop("cpuset", None)
    else:
        vcpu.set("cpuset", cpuset)


def _replace_children(root: _xml.Element, parent_name: str, names: Tuple[str, ...], wanted: List[_xml.Element]) -> None:
    """Put ``wanted`` in the place of the named children; a parent that this empties goes, a missing one is made."""
    parent = root.find(parent_name)
    owned = [] if parent is None else [child for child in parent if child.tag in names]
    if [dict(child.attrib, tag=child.tag) for child in owned] == [dict(c.attrib, tag=c.tag) for c in wanted]:
        return
    if parent is None:
        parent = _xml.new(parent_name)
        place(root, parent)
    index = parent.index(owned[0]) if owned else len(parent)
    for child in owned:
        _xml.remove(child)
    for offset, child in enumerate(wanted):
        _xml.insert(parent, index + offset, child)
    drop_if_empty(parent)


def with_policy(xml: str, policy: Optional[Policy]) -> str:
    """Return the domain with this policy in its metadata, or with none; metadata of others stays.

    A domain that has the policy already is returned as it is. Raises ``FleetError`` with code ``bad_xml``, or
    ``policy_version`` rather than overwrite what a newer release wrote.
    """
    root = _xml.parse_as(xml, "domain")
    if stored_policy(root) == policy:
        return xml
    for old in policy_elements(root):
        _xml.remove(old)
    metadata = root.find("metadata")
    if policy is not None:
        if metadata is None:
            metadata = _xml.new("metadata")
            place(root, metadata)
        _xml.insert(metadata, len(metadata), _xml.namespaced(policy_element(policy), METADATA_URI, METADATA_KEY))
    elif metadata is not None:
        drop_if_empty(metadata)
    return _xml.serialise(root)
