# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""vCPUs, guest cells, huge pages and I/O threads in a definition, text to text; the rest stays as it was."""

from __future__ import annotations

from typing import List, Mapping

from .. import _xml
from ._layout import child, drop_if_empty
from ._leftovers import drop_stale_pins, require_nothing_left
from ._parse import parse_domain, scaled_kib
from ._policy import stored_policy
from ._resources import Resources, ResourceWish, Topology, require_whole_pages, resources_of, wished_resources

_PARTS = (
    "memoryBacking",
    "vcpu",
    "vcpus",
    "iothreads",
    "iothreadids",
    "cputune",
    "numatune",
    "cpu/topology",
    "cpu/numa",
)
# Attributes of a guest cell that say how its memory is made; a new cell takes those that all cells agree on.
_CELL_MAKING = ("memAccess", "discard")


def with_resources(xml: str, wish: ResourceWish, drop_pins: bool = False) -> str:
    """Return the domain as wished; one that is like this already is returned as it is.

    Pins of vCPUs, I/O threads and cells that would go are ``pins_left``, or go too with ``drop_pins``. Raises
    ``FleetError``: ``vcpus``, ``topology``, ``cells``, ``huge_pages`` for what does not fit together, ``in_use`` for
    what a device or another setting needs (each with ``vm``), and ``bad_xml``.
    """
    root, domain = _xml.parse_as(xml, "domain"), parse_domain(xml)
    found = resources_of(domain)
    dimms = [scaled_kib(size.text, size.get("unit")) or 0 for size in root.iterfind("devices/memory/target/size")]
    wanted = wished_resources(domain.name, found, domain.memory_kib - sum(dimms), wish)
    require_whole_pages(domain.name, wish, dimms)
    mixed = wish.huge_pages_kib is not None and not _one_size(root, wish.huge_pages_kib)
    if wanted == found and not mixed:
        return xml
    if mixed or wanted.huge_pages_kib != found.huge_pages_kib:
        _set_huge_pages(root, wanted.huge_pages_kib)
    drop_stale_pins(root, wanted, every=drop_pins)
    require_nothing_left(root, domain.name, wanted)
    _set_vcpus(root, found, wanted)
    _set_topology(root, found.topology, wanted)
    if wanted.cells != found.cells:
        _set_cells(root, wanted)
    _set_iothreads(root, found, wanted)
    return _xml.serialise(root)


def resources_text(xml: str) -> str:
    """Return the parts of a domain that ``with_resources`` may change, as text to be compared and shown."""
    root = _xml.parse_as(xml, "domain")
    parts = [_xml.indented(_xml.parse(_xml.serialise(part))) for path in _PARTS for part in root.findall(path)]
    policy = stored_policy(root)
    home = None if policy is None or policy.home is None else policy.home.pins
    return "".join(f"{_xml.serialise(part)}\n" for part in parts) + (f"at home: {home.as_dict()}\n" if home else "")


def _one_size(root: _xml.Element, size_kib: int) -> bool:
    """Tell whether the whole VM has pages of this size, and says so: another host may have another default."""
    pages = root.findall("memoryBacking/hugepages/page")
    if size_kib == 0:
        return root.find("memoryBacking/hugepages") is None
    return [(page.get("nodeset"), scaled_kib(page.get("size"), page.get("unit"))) for page in pages] == [
        (None, size_kib)
    ]


def _set_huge_pages(root: _xml.Element, size_kib: int) -> None:
    backing = child(root, "memoryBacking")
    pages = backing.find("hugepages")
    if size_kib:
        if pages is None:
            pages = _xml.new("hugepages")
            _xml.insert(backing, 0, pages)
        for page in pages.findall("page"):
            _xml.remove(page)
        _xml.insert(pages, 0, _xml.new("page", size=size_kib, unit="KiB"))
        return
    if pages is not None:
        _xml.remove(pages)
    drop_if_empty(backing)


def _set_vcpus(root: _xml.Element, found: Resources, wanted: Resources) -> None:
    if (found.maximum, found.current) == (wanted.maximum, wanted.current):
        return
    vcpu = child(root, "vcpu")
    vcpu.text = str(wanted.maximum)
    vcpu.attrib.pop("current", None)
    if wanted.current != wanted.maximum:
        vcpu.set("current", str(wanted.current))
    each = root.find("vcpus")
    if each is not None:
        _set_each_vcpu(each, wanted)


def _set_each_vcpu(each: _xml.Element, wanted: Resources) -> None:
    """Switch vCPUs on from the lowest and off from the highest, as libvirt's own setvcpus does to such a list."""
    listed = {_xml.int_attribute(vcpu, "id", 0): vcpu for vcpu in each.findall("vcpu")}
    for number in sorted(set(listed) - set(range(wanted.maximum))):
        _xml.remove(listed.pop(number))
    for number in range(wanted.maximum):
        if number not in listed:
            listed[number] = _xml.new("vcpu", id=number, enabled="no", hotpluggable="yes")
            _xml.insert(each, len(each), listed[number])
    enabled = [number for number in sorted(listed) if listed[number].get("enabled") == "yes"]
    disabled = [number for number in sorted(listed) if number not in enabled]
    chosen = (enabled + disabled)[: wanted.current]
    for number, vcpu in listed.items():
        # The order in which they were plugged would have gaps.
        vcpu.attrib.pop("order", None)
        if (number in chosen) != (number in enabled):
            vcpu.set("enabled", "yes" if number in chosen else "no")
            vcpu.set("hotpluggable", "no" if number in chosen else "yes")


def _set_topology(root: _xml.Element, found: Topology, wanted: Resources) -> None:
    topology = root.find("cpu/topology")
    if found == wanted.topology or (topology is None and wanted.topology == Topology(wanted.maximum, 1, 1, 1)):
        return
    if topology is None:
        cpu = child(root, "cpu")
        topology = _xml.new("topology")
        before = [index for index, part in enumerate(cpu) if part.tag in ("cache", "feature", "numa")]
        _xml.insert(cpu, before[0] if before else len(cpu), topology)
    if topology.get("clusters") is not None:
        topology.set("clusters", "1")
    for name, count in vars(wanted.topology).items():
        topology.set(name, str(count))


def _set_cells(root: _xml.Element, wanted: Resources) -> None:
    cpu = child(root, "cpu")
    numa = cpu.find("numa")
    if not wanted.cells:
        if numa is not None:
            _xml.remove(numa)
        return
    if numa is None:
        numa = _xml.new("numa")
        _xml.insert(cpu, len(cpu), numa)
    found = numa.findall("cell")
    listed = {_xml.int_attribute(cell, "id", index): cell for index, cell in enumerate(found)}
    alike = _alike(found)
    for number in sorted(set(listed) - {cell.id for cell in wanted.cells}):
        _xml.remove(listed.pop(number))
        _forget_distances(numa, number)
    for cell in wanted.cells:
        if cell.id not in listed:
            listed[cell.id] = _xml.new("cell", id=cell.id, **alike)
            _xml.insert(numa, len(listed) - 1, listed[cell.id])
        for name, value in (("cpus", cell.vcpus), ("memory", cell.memory_kib), ("unit", "KiB")):
            listed[cell.id].set(name, str(value))
        if not cell.vcpus:
            # A cell of memory alone; libvirt cannot read an empty set.
            listed[cell.id].attrib.pop("cpus")


def _alike(cells: List[_xml.Element]) -> Mapping[str, str]:
    values = {name: {cell.get(name) for cell in cells} for name in _CELL_MAKING}
    return {name: found.pop() for name, found in values.items() if len(found) == 1 and None not in found}


def _forget_distances(numa: _xml.Element, cell: int) -> None:
    for distances in numa.findall("cell/distances"):
        for sibling in distances.findall(f"sibling[@id='{cell}']"):
            _xml.remove(sibling)
        drop_if_empty(distances)


def _set_iothreads(root: _xml.Element, found: Resources, wanted: Resources) -> None:
    if found.iothreads == wanted.iothreads:
        return
    ids = root.find("iothreadids")
    stated = [] if ids is None else ids.findall("iothread")
    for thread in stated:
        if _xml.int_attribute(thread, "id", 0) not in wanted.iothreads:
            _xml.remove(thread)
    if ids is not None:
        drop_if_empty(ids)
    count = child(root, "iothreads")
    count.text = str(len(wanted.iothreads))
    if not wanted.iothreads:
        _xml.remove(count)
