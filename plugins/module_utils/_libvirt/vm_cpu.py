# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The CPU in a VM's definition: read, write, read back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional

from .._cpu import difference, parse_cpu, same_cpu
from .._domain import parse_domain, with_cpu
from .._errors import FleetError
from .._xml import parse_as, serialise
from .cpu import Expander, compare
from .domains import define, definition, get, live_xml


@dataclass(frozen=True)
class CpuChange:
    """The CPU in a definition before and after, and how a running VM differs from it (``None`` if it does not)."""

    name: str
    before: Optional[str]
    after: Optional[str]
    difference: Optional[Dict[str, Any]]


def set_cpu(conn: Any, vm: str, cpu_xml: str, check_mode: bool) -> CpuChange:
    """Write ``cpu_xml`` into the definition of a VM unless it is there already."""
    wanted = with_explicit_check(cpu_xml)
    domain = get(conn, vm)
    name = domain.name()
    if not domain.isPersistent():
        raise FleetError(
            f"VM {name} is transient: it has no definition to write a CPU into. Define it first, or set the CPU where "
            "it is created.",
            "vm_transient",
            vm=name,
        )
    before_xml = definition(domain)
    before, planned_xml = parse_domain(before_xml).cpu_xml, with_cpu(before_xml, wanted)
    planned = parse_domain(planned_xml).cpu_xml
    if before is not None and planned is not None and same_cpu(before, planned):
        return CpuChange(name, before, before, _running_difference(conn, domain, before))
    _require_known(conn, wanted)
    # Asked before anything is written: libvirt defines a VM with a CPU that it then cannot explain.
    running = _running_difference(conn, domain, planned)
    if check_mode:
        return CpuChange(name, before, planned, running)
    after = parse_domain(definition(define(conn, planned_xml, name))).cpu_xml
    if after is None or planned is None or not same_cpu(after, planned):
        raise FleetError(
            f"libvirt keeps another CPU for VM {name} than it was given; compare `wanted` and `found`.",
            "not_applied",
            wanted=planned,
            found=after,
        )
    return CpuChange(name, before, after, running)


def _require_known(conn: Any, cpu_xml: str) -> None:
    """Raise ``bad_cpu`` for a model or feature that libvirt does not know; one that this host lacks is fine."""
    if parse_cpu(cpu_xml).model is not None:
        compare(conn, cpu_xml)


def with_explicit_check(cpu_xml: str) -> str:
    """Return the CPU with ``check='partial'`` unless it says how it is checked.

    An emulated custom CPU is otherwise not checked at all, and features that the host lacks are dropped in silence.
    """
    element = parse_as(cpu_xml, "cpu")
    if element.get("mode", "custom") == "custom" and element.get("check") is None:
        element.set("check", "partial")
    return serialise(element)


def _running_difference(conn: Any, domain: Any, defined: Optional[str]) -> Optional[Dict[str, Any]]:
    if defined is None or not domain.isActive():
        return None
    running = parse_domain(live_xml(domain)).cpu_xml
    if running is None:
        return {"missing": [], "extra": [], "running_model": None}
    if parse_cpu(defined).model is None:
        return _mode_difference(running, defined)
    expander = Expander(conn)
    has, should = expander.features(running), expander.features(defined)
    if has == should:
        return None
    return {
        "missing": sorted(should - has),
        "extra": sorted(has - should),
        "running_model": parse_cpu(running).model,
    }


def _mode_difference(running: str, defined: str) -> Optional[Dict[str, Any]]:
    # host-model and its like become a list of features only when a VM starts.
    found = difference(parse_cpu(running), parse_cpu(defined))
    return None if parse_cpu(running).mode == parse_cpu(defined).mode else found.as_dict()
