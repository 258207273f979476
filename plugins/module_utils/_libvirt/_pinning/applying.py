# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Steps carried out, all or none of them: a failure puts back what was changed, newest first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Set, Tuple

from ..._domain import Policy, parse_domain, same_pins, with_pinning, with_policy
from ..._errors import FleetError
from ..._pinning import Thread, thread_sets
from ..api import libvirt, translated
from ..domains import read_policy, write_policy
from ..undo import Failures, Undo, all_or_nothing, redefine
from .reading import Vm, reread
from .seeing import see, words_of
from .steps import BindMemory, NotePolicy, PinThread, Redefine, Step


@dataclass(frozen=True)
class Work:
    """Steps with the VMs they are for, by UUID; ``followers`` are those that nobody asked about."""

    steps: Tuple[Step, ...]
    vms: Mapping[str, Vm]
    followers: FrozenSet[str]
    online: FrozenSet[int]


def carry_out(conn: Any, work: Work, verify: Callable[[FrozenSet[str]], None]) -> None:
    """Do all steps, then ``verify``; whatever either raises, everything is put back and the error tells whether it is.

    ``verify`` gets the followers that have ended, stopped or left meanwhile: what was to be done for them is left out.
    Raises ``FleetError``: ``pin_failed`` with libvirt's words, or the code of what is wrong, with the facts ``vm``,
    ``step``, ``rolled_back`` and ``not_rolled_back``.
    """
    at: Dict[str, str] = {}
    gone: FrozenSet[str] = frozenset()
    with all_or_nothing(lambda failed: _left(work, {each["vm"] for each in failed})) as undo:
        try:
            for step in work.steps:
                at = {"vm": step.name, "step": str(step)}
                gone |= _attempt(conn, work, step, undo)
            at = {}
            verify(gone)
        except FleetError as error:
            code = "pin_failed" if error.code == "libvirt" else error.code
            raise FleetError(error.msg, code, **{**at, **error.facts}) from error


def _attempt(conn: Any, work: Work, step: Step, undo: Undo) -> FrozenSet[str]:
    """Do a step, and return the VM if it is a follower that has gone."""
    vm = work.vms[step.uuid]
    try:
        with translated(f"VM {step.name} cannot be changed ({step})", "pin_failed"):
            _do(conn, vm, step, undo, work.online)
    except FleetError:
        if step.uuid in work.followers and _has_gone(vm, step):
            return frozenset({step.uuid})
        raise
    return frozenset()


def _do(conn: Any, vm: Vm, step: Step, undo: Undo, online: FrozenSet[int]) -> None:
    """Do a step, once it is noted how it is undone: one that fails may have been done in part.

    libvirt leaves the set of a pin that fails in the control group, where it would count some day.
    """
    handle = vm.handle
    if isinstance(step, PinThread):
        undo.add(step.name, _unless_needless(vm, step, online, lambda: pin(handle, step.thread, step.back)))
        pin(handle, step.thread, step.cpus)
    elif isinstance(step, BindMemory):
        undo.add(step.name, _unless_needless(vm, step, online, lambda: bind(handle, step.before)))
        bind(handle, step.nodes)
    elif isinstance(step, NotePolicy):
        undo.add(step.name, _unless_needless(vm, step, online, lambda: note(handle, step.undone)))
        note(handle, step.policy)
    else:
        redefine(conn, undo, handle, lambda xml: redefined(xml, step))


def _unless_needless(vm: Vm, step: Step, online: FrozenSet[int], back: Callable[[], None]) -> Callable[[], None]:
    """Return what puts something back. That may fail if there is nothing to put back: the VM has gone, or has it."""

    def run() -> None:
        try:
            back()
        except (libvirt.libvirtError, FleetError):
            if not (_has_gone(vm, step) or (isinstance(step, PinThread) and _is_back(vm, step, online))):
                raise

    return run


def _is_back(vm: Vm, step: PinThread, online: FrozenSet[int]) -> bool:
    """Tell whether a thread runs where it did before, as libvirt says and as the kernel does."""
    now = reread(vm.handle)
    if now is None or now.live is None or thread_sets(now.live, online).get(step.thread) != step.back:
        return False
    found = see(now.process(), {step.thread: step.back}, online)
    return not found.strays and not found.unknown


def _has_gone(vm: Vm, step: Step) -> bool:
    """Tell whether a VM has gone for certain: one that cannot be read may still be there."""
    try:
        now = reread(vm.handle)
    except FleetError:
        return False
    return now is None or (now.defined if isinstance(step, Redefine) else now.live) is None


def _left(work: Work, known: Set[str]) -> Failures:
    """Read all VMs again after everything was undone, and return what is not as it was, without those known to be."""
    failed: Failures = []
    for uuid in dict.fromkeys(step.uuid for step in work.steps):
        vm = work.vms[uuid]
        if vm.name in known:
            continue
        try:
            now = reread(vm.handle)
        except FleetError as error:
            failed.append({"vm": vm.name, "msg": f"it could not be read again: {error.msg}"})
            continue
        differing = [] if now is None else differences(vm, now, work.online, _moved(work, uuid))
        if differing:
            failed.append({"vm": vm.name, "msg": f"it has other pins than before: {', '.join(differing)}"})
    return failed


def _moved(work: Work, uuid: str) -> Dict[Thread, FrozenSet[int]]:
    pins = [step for step in work.steps if isinstance(step, PinThread) and step.uuid == uuid]
    return {step.thread: step.back for step in pins}


def differences(
    before: Vm, now: Vm, online: FrozenSet[int], moved: Optional[Mapping[Thread, FrozenSet[int]]] = None
) -> List[str]:
    """Return in words what differs between two readings of a VM, as far as both have it.

    ``moved`` are threads that may be there instead.
    """
    found: List[str] = []
    if before.live is not None and now.live is not None:
        was, is_now = thread_sets(before.live, online), thread_sets(now.live, online)
        for thread, cpus in was.items():
            if cpus and is_now.get(thread, cpus) not in (cpus, (moved or {}).get(thread, cpus)):
                found.append(words_of(thread))
        if before.live.pinning.memory != now.live.pinning.memory:
            found.append("memory of the running VM")
    if before.defined is not None and now.defined is not None:
        same = same_pins(before.defined.pinning, now.defined.pinning)
        if not same or not _same_record(before.defined.policy, now.defined.policy):
            found.append("definition")
    return found


def _same_record(one: Optional[Policy], other: Optional[Policy]) -> bool:
    """Tell whether two policies say the same about pins; others may change the rest at any time."""
    first, second = one or Policy(), other or Policy()
    return (first.pinning, first.following) == (second.pinning, second.following)


def pin(handle: Any, thread: Thread, cpus: FrozenSet[int]) -> None:
    """Pin a thread of a running VM."""
    kind, number = thread
    cpu_map = tuple(cpu in cpus for cpu in range(max(cpus) + 1))
    live = libvirt.VIR_DOMAIN_AFFECT_LIVE
    if kind == "vcpu":
        handle.pinVcpuFlags(number, cpu_map, live)
    elif kind == "iothread":
        handle.pinIOThread(number, cpu_map, live)
    else:
        handle.pinEmulator(cpu_map, live)


def bind(handle: Any, nodes: str) -> None:
    """Bind the memory of a running VM whose mode is ``restrictive`` to other nodes."""
    handle.setNumaParameters({"numa_nodeset": nodes}, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def note(handle: Any, policy: Policy) -> None:
    """Store what a policy says about pins with a running VM; its definition keeps its own.

    The rest is as it is found now: others store the home of a VM or its migration mode meanwhile.
    """
    live = libvirt.VIR_DOMAIN_AFFECT_LIVE
    found = read_policy(handle, live)
    wanted = replace(found, pinning=policy.pinning, following=policy.following)
    if found != wanted:
        write_policy(handle, wanted, live)


def redefined(xml: str, step: Redefine) -> str:
    """Return the definition with its new pins and policy; raises ``changed_meanwhile`` for one that others changed."""
    now = parse_domain(xml)
    policy = now.policy or Policy()
    if same_pins(now.pinning, step.pinning) and policy == step.policy:
        return xml
    if not same_pins(now.pinning, step.found.pinning) or policy != (step.found.policy or Policy()):
        raise FleetError(
            f"The definition of VM {step.name} has got other pins while they were being chosen. Try again.",
            "changed_meanwhile",
        )
    return with_policy(with_pinning(xml, step.pinning), None if step.policy == Policy() else step.policy)
