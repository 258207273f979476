# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The CPU in the definitions of VMs: read all, decide all, then write and read back one by one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, FrozenSet, List, Optional, Sequence, Tuple

from .._cpu import DomainCapabilities, difference, from_domain_capabilities, parse_cpu, same_cpu
from .._domain import parse_domain, with_cpu
from .._errors import FleetError
from .._xml import parse_as, serialise
from .api import libvirt, translated
from .cpu import Expander, compare, domain_capabilities, unknown_names
from .domains import define, definition, get, live_xml
from .probe import probe_cpu

# QEMU sets these by itself, the latter where the topology of the VM has more than one CPU in a socket.
_QEMUS_OWN = frozenset({"hypervisor", "ht"})


@dataclass(frozen=True)
class CpuChange:
    """The CPU in a definition before and after, and how a running VM differs from it (``None`` if it does not).

    ``skipped`` says why a VM was left alone; then nothing is known of the rest but its name.
    """

    name: str
    before: Optional[str] = None
    after: Optional[str] = None
    difference: Optional[Dict[str, Any]] = None
    skipped: Optional[str] = None

    @property
    def changed(self) -> bool:
        """Whether the definition gets another CPU."""
        return self.before != self.after

    def as_dict(self) -> Dict[str, Any]:
        """Return the change as the module's result has it."""
        return {
            "name": self.name,
            "changed": self.changed,
            "cpu_xml": self.after,
            "restart_required": self.difference is not None,
            "difference": self.difference,
            "skipped": self.skipped,
        }


@dataclass(frozen=True)
class _Plan:
    change: CpuChange
    definition: str


def set_cpus(
    conn: Any, cpu_xml: str, names: Optional[Sequence[str]], keep: Sequence[str], check_mode: bool
) -> List[CpuChange]:
    """Write ``cpu_xml`` into the definitions of these VMs, or of all but ``keep``, unless it is there already.

    ``names`` is ``None`` for all. Running VMs stay as they are. Nothing is written before everything is known to be
    right; a failure later on carries ``written``, the VMs that have their new CPU.
    """
    _require_known(conn, cpu_xml)
    planner = _Planner(conn, cpu_xml)
    if names is not None:
        plans = [planner.plan(domain) for domain in _different(conn, names)]
    else:
        with translated("Listing the VMs"):
            domains = sorted(conn.listAllDomains(), key=lambda domain: str(domain.name()))
        caps = from_domain_capabilities(domain_capabilities(conn))
        plans = [planner.plan_or_skip(domain, keep, caps) for domain in domains]
    if check_mode:
        return [plan.change for plan in plans]
    return _write_all(conn, plans)


def with_explicit_check(cpu_xml: str) -> str:
    """Return the CPU with ``check='partial'`` unless it says how it is checked.

    An emulated custom CPU is otherwise not checked at all, and features that the host lacks are dropped in silence.
    """
    element = parse_as(cpu_xml, "cpu")
    if element.get("mode", "custom") == "custom" and element.get("check") is None:
        element.set("check", "partial")
    return serialise(element)


def _require_known(conn: Any, cpu_xml: str) -> None:
    """Raise ``bad_cpu`` for a model or feature that libvirt does not know; one that this host lacks is fine."""
    described = parse_cpu(cpu_xml)
    if described.model is None or described.mode not in (None, "custom"):
        return
    compare(conn, cpu_xml)
    unknown = unknown_names(conn, described.model, sorted({feature.name for feature in described.features}))
    if unknown.reasons:
        words = "; ".join(unknown.reasons.values())
        raise FleetError(
            f"This host's libvirt does not understand the CPU: {words}. Take the name out of the CPU, or correct it.",
            "bad_cpu",
            unknown=sorted(unknown.reasons),
            libvirt_message=words,
        )


def _different(conn: Any, names: Sequence[str]) -> List[Any]:
    """Return the domains with these names or UUIDs, each once."""
    found = {domain.UUIDString(): domain for domain in (get(conn, name) for name in names)}
    return list(found.values())


class _Planner:
    """What becomes of each VM; what libvirt and QEMU say to one CPU is asked once."""

    def __init__(self, conn: Any, wanted: str) -> None:
        self._conn = conn
        self._wanted = wanted
        self._expander = Expander(conn)
        self._given: Optional[FrozenSet[str]] = None

    def plan_or_skip(self, domain: Any, keep: Sequence[str], caps: DomainCapabilities) -> _Plan:
        name = str(domain.name())
        try:
            reason = self._reason_to_skip(domain, keep, caps)
            return self.plan(domain) if reason is None else _Plan(CpuChange(name, skipped=reason), "")
        except FleetError as error:
            if error.facts.get("libvirt_code") != libvirt.VIR_ERR_NO_DOMAIN:
                raise
            return _Plan(CpuChange(name, skipped="it has left the host"), "")

    def plan(self, domain: Any) -> _Plan:
        name = str(domain.name())
        if not domain.isPersistent():
            raise FleetError(
                f"VM {name} is transient: it has no definition to write a CPU into. Define it first, or set the CPU "
                "where it is created.",
                "vm_transient",
                vm=name,
            )
        before_xml = definition(domain)
        planned_xml = with_cpu(before_xml, self._wanted)
        before, planned = parse_domain(before_xml).cpu_xml, parse_domain(planned_xml).cpu_xml
        if before is not None and planned is not None and same_cpu(before, planned):
            planned = before
        return _Plan(CpuChange(name, before, planned, self._running_difference(domain, planned)), planned_xml)

    def _reason_to_skip(self, domain: Any, keep: Sequence[str], caps: DomainCapabilities) -> Optional[str]:
        if domain.name() in keep or domain.UUIDString() in keep:
            return "it is to be kept"
        if not domain.isPersistent():
            return "it is transient: it has no definition"
        found = parse_domain(definition(domain))
        if (found.arch, found.virt_type) != (caps.arch, caps.virt_type):
            return f"it is a {found.virt_type} VM for {found.arch}, other than this host's {caps.virt_type} {caps.arch}"
        return None

    def _running_difference(self, domain: Any, defined: Optional[str]) -> Optional[Dict[str, Any]]:
        if defined is None or not domain.isActive():
            return None
        running = parse_domain(live_xml(domain)).cpu_xml
        if running is None:
            return {"missing": [], "extra": [], "running_model": None}
        if parse_cpu(defined).model is None or parse_cpu(running).model is None:
            return _mode_difference(running, defined)
        has, should = self._expander.features(running), self._expander.features(defined)
        missing, extra = should - has, has - should - _QEMUS_OWN
        if extra:
            extra -= self._given_by_qemu()
        if not missing and not extra:
            return None
        return {"missing": sorted(missing), "extra": sorted(extra), "running_model": parse_cpu(running).model}

    def _given_by_qemu(self) -> FrozenSet[str]:
        """Return what a VM started now would see: QEMU's models have features that libvirt's do not name."""
        if self._given is None:
            self._given = frozenset(probe_cpu(self._conn, self._wanted).features)
        return self._given


def _mode_difference(running: str, defined: str) -> Optional[Dict[str, Any]]:
    # host-model and its like become a list of features only when a VM starts.
    found = difference(parse_cpu(running), parse_cpu(defined))
    return None if parse_cpu(running).mode == parse_cpu(defined).mode else found.as_dict()


def _write_all(conn: Any, plans: Sequence[_Plan]) -> List[CpuChange]:
    done: List[CpuChange] = []
    for plan in plans:
        try:
            done.append(_write(conn, plan) if plan.change.changed else plan.change)
        except FleetError as error:
            written = [change.name for change in done if change.changed]
            told = f"{error.msg} Already written: {', '.join(written)}." if written else error.msg
            facts = {**error.facts, "vm": plan.change.name, "written": written}
            raise FleetError(told, error.code, **facts) from error
    return done


def _write(conn: Any, plan: _Plan) -> CpuChange:
    name, planned = plan.change.name, plan.change.after
    after = parse_domain(definition(define(conn, plan.definition, name))).cpu_xml
    if after is None or planned is None or not same_cpu(after, planned):
        raise FleetError(
            f"libvirt keeps another CPU for VM {name} than it was given; compare `wanted` and `found`.",
            "not_applied",
            wanted=planned,
            found=after,
        )
    return replace(plan.change, after=after)


def diff_texts(changes: Sequence[CpuChange]) -> Tuple[str, str]:
    """Return the CPUs before and after of the VMs that change, as text that ``--diff`` compares."""
    changed = [change for change in changes if change.changed]
    return (
        "".join(f"VM {change.name}\n{change.before or '(no cpu)'}\n" for change in changed),
        "".join(f"VM {change.name}\n{change.after}\n" for change in changed),
    )
