# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The CPU in the definitions of VMs: read all, decide all, then write and read back one by one.

A VM may leave the host, or be changed, after it was read; so each is read once more just before it is written.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, List, Optional, Sequence, Tuple

from .._cpu import from_domain_capabilities, parse_cpu, same_cpu
from .._domain import parse_domain, with_cpu
from .._errors import FleetError
from .._xml import parse_as, serialise
from .address_space import bits_needed
from .api import translated
from .cpu import compare, domain_capabilities, unknown_names
from .domains import define, definition, get, get_each, is_gone, running_xml
from .running_cpu import RunningCpus

# Every libvirt for x86 knows it; its features need not be looked at to look up others.
_KNOWN_MODEL = "kvm64"


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
    """``found`` and ``wanted`` are definitions of ``domain``."""

    change: CpuChange
    domain: Any
    found: str = ""
    wanted: str = ""


def set_cpus(
    conn: Any, cpu_xml: str, names: Optional[Sequence[str]], keep: Sequence[str], check_mode: bool
) -> List[CpuChange]:
    """Write ``cpu_xml`` into the definitions of these VMs, or of all but ``keep``, unless it is there already.

    ``names`` is ``None`` for all. Running VMs stay as they are. Nothing is written before everything is known to be
    right (``check_cpu`` first); a failure later on carries ``written``, the VMs that have their new CPU.
    """
    planner = _Planner(conn, cpu_xml, every=names is None, keep=keep)
    if names is not None:
        domains = _different(conn, names)
    else:
        with translated("Listing the VMs"):
            domains = sorted(conn.listAllDomains(), key=lambda domain: str(domain.name()))
    return _change_all([(planner, domain) for domain in domains], check_mode)


def set_each_cpu(conn: Any, wanted: Sequence[Tuple[str, str]], check_mode: bool) -> List[CpuChange]:
    """Write into the definition of each VM, by name or UUID, a CPU of its own, as ``set_cpus`` does."""
    planners = {cpu_xml: _Planner(conn, cpu_xml, every=False, keep=()) for _name, cpu_xml in wanted}
    domains = get_each(conn, [name for name, _cpu_xml in wanted])
    return _change_all([(planners[cpu_xml], domain) for domain, (_name, cpu_xml) in zip(domains, wanted)], check_mode)


def _change_all(pairs: Sequence[Tuple[_Planner, Any]], check_mode: bool) -> List[CpuChange]:
    plans = [(planner, planner.plan(domain)) for planner, domain in pairs]
    return [plan.change for _planner, plan in plans] if check_mode else _write_all(plans)


def with_explicit_check(cpu_xml: str) -> str:
    """Return the CPU with ``check='partial'`` unless it says how it is checked.

    An emulated custom CPU is otherwise not checked at all, and features that the host lacks are dropped in silence.
    """
    element = parse_as(cpu_xml, "cpu")
    if element.get("mode", "custom") == "custom" and element.get("check") is None:
        element.set("check", "partial")
    return serialise(element)


def check_cpu(conn: Any, cpu_xml: str) -> List[str]:
    """Return a warning about what this host cannot give, for the CPU may be meant for another one.

    Raises ``bad_cpu`` for a model or feature that libvirt does not know, and for a CPU that is none.
    """
    described = parse_cpu(cpu_xml)
    custom = described.mode in (None, "custom")
    if custom and described.model is None:
        raise FleetError(
            "The CPU has neither a model nor a mode that does without. Give it a model, or a mode such as host-model.",
            "bad_cpu",
        )
    found = compare(conn, cpu_xml) if custom else None
    model = described.model if custom and described.model is not None else _KNOWN_MODEL
    unknown = unknown_names(conn, model, sorted({feature.name for feature in described.features}))
    if unknown.features or (custom and unknown.model):
        words = "; ".join(unknown.reasons.values())
        raise FleetError(
            f"This host's libvirt does not understand the CPU: {words}. Take the name out of the CPU, or correct it.",
            "bad_cpu",
            unknown=sorted(unknown.reasons),
            libvirt_message=words,
        )
    if found is None or found.result != "incompatible":
        return []
    cause = f"it lacks {', '.join(found.missing)}" if found.missing else found.reason or "libvirt does not say why"
    return [f"This host cannot give its VMs this CPU: {cause}. They do not start here; move them to a host that can."]


def _different(conn: Any, names: Sequence[str]) -> List[Any]:
    """Return the domains with these names or UUIDs, each once."""
    found = {domain.UUIDString(): domain for domain in (get(conn, name) for name in names)}
    return list(found.values())


class _Planner:
    """What becomes of each VM; with ``every`` those that cannot have the CPU are left alone."""

    def __init__(self, conn: Any, wanted: str, every: bool, keep: Sequence[str]) -> None:
        self._conn = conn
        self._wanted = wanted
        self._every = every
        self._keep_names, self._keep_uuids = frozenset(keep), frozenset(name.lower() for name in keep)
        self._caps = from_domain_capabilities(domain_capabilities(conn)) if every else None
        self._running = RunningCpus(conn, wanted)

    def plan(self, domain: Any) -> _Plan:
        """Return what becomes of a VM; raises ``vm_transient`` and ``address_bits``."""
        if self._every and (domain.name() in self._keep_names or domain.UUIDString() in self._keep_uuids):
            return _Plan(CpuChange(str(domain.name()), skipped="it is to be kept"), domain)
        try:
            plan = self._draft(domain)
            return replace(plan, change=replace(plan.change, difference=self._difference(domain, plan.change.after)))
        except FleetError as error:
            return _Plan(self._left_alone(domain, error), domain)

    def write(self, plan: _Plan) -> CpuChange:
        """Write what was planned, into the definition as it is now; a VM that has left would come to be here again."""
        try:
            now = self._draft(plan.domain)
            after = _define(self._conn, now) if now.change.changed else now.change.after
            same = now.found == plan.found
            difference = plan.change.difference if same else self._difference(plan.domain, after)
            return replace(now.change, after=after, difference=difference)
        except FleetError as error:
            return self._left_alone(plan.domain, error)

    def _draft(self, domain: Any) -> _Plan:
        name = str(domain.name())
        with translated(f"Reading VM {name}"):
            persistent = domain.isPersistent()
        if not persistent:
            advice = "Define it first, or set the CPU where it is created."
            raise _unfit(name, "vm_transient", "it is transient: it has no definition", advice)
        found = definition(domain)
        self._require_native(name, found)
        wanted = with_cpu(found, self._wanted)
        before, after = parse_domain(found).cpu_xml, parse_domain(wanted).cpu_xml
        if before is not None and after is not None and same_cpu(before, after):
            after = before
        if before != after:
            _require_room(name, wanted)
        return _Plan(CpuChange(name, before, after), domain, found, wanted)

    def _require_native(self, name: str, found: str) -> None:
        caps, parsed = self._caps, parse_domain(found)
        if caps is not None and (parsed.arch, parsed.virt_type) != (caps.arch, caps.virt_type):
            other = f"it is a {parsed.virt_type} VM for {parsed.arch}"
            reason = f"{other}, other than this host's {caps.virt_type} {caps.arch}"
            raise _unfit(name, "vm_foreign", reason, "Leave it out.")

    def _difference(self, domain: Any, defined: Optional[str]) -> Optional[Dict[str, Any]]:
        return self._running.difference(running_xml(domain), defined)

    def _left_alone(self, domain: Any, error: FleetError) -> CpuChange:
        """Return why a VM is left alone, or raise the error again if it is not one of those."""
        reason = error.facts.get("reason") if self._every else None
        if is_gone(error):
            reason = "it has left the host"
        if reason is None:
            raise error
        return CpuChange(str(domain.name()), skipped=reason)


def _unfit(name: str, code: str, reason: str, advice: str) -> FleetError:
    return FleetError(f"VM {name} cannot have this CPU: {reason}. {advice}", code, vm=name, reason=reason)


def _require_room(name: str, wanted: str) -> None:
    """Raise ``address_bits`` if QEMU would not start the VM because its memory reaches beyond the CPU's addresses."""
    address, needed = parse_cpu(wanted).address, bits_needed(wanted)
    bits = (address.bits or address.limit) if address is not None else None
    if bits is not None and needed is not None and bits < needed:
        reason = f"with its memory QEMU starts it from {needed} address bits on, and the CPU has {bits}"
        raise _unfit(name, "address_bits", reason, "Give the CPU more address bits, or the VM less (max)memory.")


def _write_all(plans: Sequence[Tuple[_Planner, _Plan]]) -> List[CpuChange]:
    done: List[CpuChange] = []
    for planner, plan in plans:
        try:
            done.append(planner.write(plan) if plan.change.changed else plan.change)
        except FleetError as error:
            written = [change.name for change in done if change.changed]
            told = f"{error.msg} Already written: {', '.join(written)}." if written else error.msg
            facts = {**error.facts, "vm": plan.change.name, "written": written}
            raise FleetError(told, error.code, **facts) from error
    return done


def _define(conn: Any, plan: _Plan) -> str:
    """Define a VM as planned and return its CPU as libvirt keeps it."""
    name, planned = plan.change.name, plan.change.after
    after = parse_domain(definition(define(conn, plan.wanted, name))).cpu_xml
    if after is None or planned is None or not same_cpu(after, planned):
        raise FleetError(
            f"libvirt keeps another CPU for VM {name} than it was given; compare `wanted` and `found`.",
            "not_applied",
            wanted=planned,
            found=after,
        )
    return after


def diff_texts(changes: Sequence[CpuChange]) -> Tuple[str, str]:
    """Return the CPUs before and after of the VMs that change, as text that ``--diff`` compares."""
    changed = [change for change in changes if change.changed]
    return (
        "".join(f"VM {change.name}\n{change.before or '(no cpu)'}\n" for change in changed),
        "".join(f"VM {change.name}\n{change.after}\n" for change in changed),
    )
