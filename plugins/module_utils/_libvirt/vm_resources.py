# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""vCPUs, guest cells, huge pages and I/O threads in the definitions of VMs: all are decided before any is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from .. import _xml
from .._domain import Domain, Resources, ResourceWish, parse_domain, resources_of, resources_text, with_resources
from .._topology import format_cpuset
from .api import translated
from .domains import definition, get_each, is_defined, running_xml
from .undo import all_or_nothing, redefine

# QEMU gives memory in pieces of this size, so that a running VM may have a little more than its definition says.
_GRAIN_KIB = 1024


@dataclass(frozen=True)
class Wish:
    """What one VM, by name or UUID, is to have; ``drop_pins`` lets pins of what goes go too."""

    vm: str
    resources: ResourceWish
    drop_pins: bool = False

    def change(self, xml: str) -> str:
        """Return a definition as wished."""
        return with_resources(xml, self.resources, self.drop_pins)


@dataclass(frozen=True)
class ResourceChange:
    """A definition before and after, as text of what this is about, and how a running VM differs from the latter."""

    name: str
    uuid: str
    before: str
    after: str
    resources: Resources
    difference: Optional[Dict[str, Any]] = None
    warnings: Tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether the definition changes."""
        return self.before != self.after

    def as_dict(self) -> Dict[str, Any]:
        """Return the change as the module's result has it."""
        return {
            "name": self.name,
            "uuid": self.uuid,
            "changed": self.changed,
            **self.resources.as_dict(),
            "restart_required": self.difference is not None,
            "difference": self.difference,
        }


def set_resources(conn: Any, wishes: Sequence[Wish], check_mode: bool) -> List[ResourceChange]:
    """Bring the definitions of VMs to what is wished, all or none; running VMs stay as they are.

    Raises what ``with_resources`` raises, ``vm_unknown``, ``vm_transient``, ``bad_input`` for a VM given twice,
    ``define_refused`` and ``not_applied``; from the first write on with ``rolled_back`` and ``not_rolled_back``.
    """
    domains = get_each(conn, [wish.vm for wish in wishes])
    pages = _host_pages(conn) if any(wish.resources.huge_pages_kib for wish in wishes) else {}
    changes = [_plan(domain, wish, pages) for domain, wish in zip(domains, wishes)]
    if check_mode:
        return changes
    with all_or_nothing() as undo:
        for index, (domain, wish) in enumerate(zip(domains, wishes)):
            if changes[index].changed:
                changes[index] = _done(domain, changes[index], redefine(conn, undo, domain, wish.change))
    return changes


def _plan(domain: Any, wish: Wish, pages: Mapping[int, int]) -> ResourceChange:
    is_defined(domain, required=True)
    found = definition(domain)
    wanted = wish.change(found)
    parsed = parse_domain(wanted)
    resources = resources_of(parsed)
    change = ResourceChange(str(domain.name()), parsed.uuid, resources_text(found), resources_text(wanted), resources)
    warnings = _warnings(parsed, wish, pages) if change.changed else ()
    return replace(change, difference=_difference(domain, resources), warnings=warnings)


def _done(domain: Any, planned: ResourceChange, kept: str) -> ResourceChange:
    resources = resources_of(parse_domain(kept))
    difference = _difference(domain, resources)
    return replace(planned, after=resources_text(kept), resources=resources, difference=difference)


def _difference(domain: Any, defined: Resources) -> Optional[Dict[str, Any]]:
    """Return what a running VM has otherwise than its definition, ``None`` if nothing or if it is off."""
    xml = running_xml(domain)
    if xml is None:
        return None
    running, wanted = (_flat(resources) for resources in (resources_of(parse_domain(xml)), defined))
    found = {key: {"running": running[key], "defined": wanted[key]} for key in wanted if running[key] != wanted[key]}
    return found or None


def _flat(resources: Resources) -> Dict[str, Any]:
    data = resources.as_dict()
    for cell in data["cells"]:
        cell["memory_kib"] = -(-cell["memory_kib"] // _GRAIN_KIB) * _GRAIN_KIB
    return {**data.pop("vcpus"), **data}


def _host_pages(conn: Any) -> Dict[int, int]:
    """Return how much memory, in KiB, the host has in pages of each size."""
    with translated("Reading the capabilities of the host"):
        capabilities = _xml.parse(str(conn.getCapabilities()))
    found: Dict[int, int] = {}
    for pages in capabilities.iterfind("host/topology/cells/cell/pages"):
        size = _xml.int_attribute(pages, "size", 0)
        found[size] = found.get(size, 0) + size * (_xml.to_int(pages.text) or 0)
    return found


def _warnings(domain: Domain, wish: Wish, pages: Mapping[int, int]) -> Tuple[str, ...]:
    """Return what a person should know about a definition that is right in itself."""
    found = []
    size = wish.resources.huge_pages_kib or 0
    there = pages.get(size, 0)
    if size and there < domain.memory_kib:
        found.append(
            f"VM {domain.name} does not start here: it needs {domain.memory_kib} KiB in huge pages of {size} KiB, and "
            f"this host has {there} KiB in them. Reserve more of them."
        )
    policy = domain.policy.pinning.policy if domain.policy and domain.policy.pinning else None
    unpinned = set(domain.vcpus.online) - {pin.vcpu for pin in domain.pinning.vcpus}
    # Who lets pins go pins the VM anew.
    if policy == "dedicated" and unpinned and not wish.drop_pins:
        found.append(
            f"VM {domain.name} is to have CPUs of its own, and its vCPUs {format_cpuset(unpinned)} have no pins now. "
            "Pin it anew with vm_pinning."
        )
    return tuple(found)


def diff_texts(changes: Sequence[ResourceChange]) -> Tuple[str, str]:
    """Return before and after of the definitions that change, as text that ``--diff`` compares."""
    changed = [change for change in changes if change.changed]
    return (
        "".join(f"VM {change.name}\n{change.before}" for change in changed),
        "".join(f"VM {change.name}\n{change.after}" for change in changed),
    )
