# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The result of the module: what became of each VM, who owns which CPUs, and texts to compare."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Container, Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from ..._domain import Domain, NumaMemory, Pinning, Policy
from ..._pin_rules import policy_of
from ..._pinning import DEFINITION, Aim, Claim, HostAim, HostState, Thread, live_changes, pending, pinned, thread_sets
from ..._topology import format_cpuset
from .reading import Vm, online_of
from .seeing import Seen, words_of
from .steps import movable_memory, policy_after


@dataclass(frozen=True)
class Report:
    """What the module returns; ``before`` and ``after`` differ if, and only if, something changes."""

    before: str
    after: str
    facts: Mapping[str, Any]
    warnings: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Task:
    """A VM with what it is to have. ``changes`` tells whether anything is done, ``apply_to`` is as in ``Wish``.

    ``found`` is what was seen of it beforehand, and ``seen`` at the end, ``None`` as long as nothing has been done.
    """

    aim: Aim
    vm: Vm
    apply_to: str
    changes: bool
    found: Seen
    seen: Optional[Seen]


def vm_record(task: Task, state: HostState) -> Dict[str, Any]:
    """Return what becomes of a VM on a host."""
    aim, vm, seen = task.aim, task.vm, task.seen
    policy = (aim.policy or policy_of(vm.domain)).policy
    # What is asked for of the definition only, the running VM lacks until it is started again.
    later = aim.defined if aim.wished and task.apply_to == DEFINITION else None
    missing: List[Dict[str, Any]] = []
    # Where there is one cell only, no memory is elsewhere.
    if vm.live is not None and len([cell for cell in state.cells if cell.memory_kib]) > 1:
        missing = _pending(vm.live, later or aim.live, moves=later is None)
    live = None if vm.live is None or aim.live is None else _live_pins(vm.live, aim.live, policy)
    return {
        "name": aim.name,
        "uuid": aim.uuid,
        "changed": task.changes,
        "policy": policy,
        "pins": None if aim.defined is None else replace(aim.defined, policy=policy).as_dict(),
        "live_pins": None if live is None else live.as_dict(),
        "cells": list(aim.cells),
        "cpus": format_cpuset(aim.cpus),
        "blocked": format_cpuset(aim.blocked),
        "floating": not aim.wished,
        "restart_or_migrate_required": bool(missing) or _threads_differ(vm.live, aim.live, later, online_of(state)),
        "pending": missing,
        "verified": None if seen is None else not (seen.strays or seen.unknown),
    }


def _live_pins(live: Domain, wanted: Pinning, policy: str) -> Pinning:
    """Return the pins with the memory that a running VM can have at once."""
    return replace(wanted, policy=policy, memory=_memory_after(live, wanted), cells=live.pinning.cells)


def _memory_after(live: Domain, wanted: Pinning) -> Optional[NumaMemory]:
    return live.pinning.memory if movable_memory(live, wanted) is None else wanted.memory


def _pending(live: Domain, wanted: Optional[Pinning], moves: bool) -> List[Dict[str, Any]]:
    """Return what of the memory must wait; ``moves`` tells that what can be moved at once, is."""
    if wanted is None:
        return []
    memory = _memory_after(live, wanted) if moves else live.pinning.memory
    found = pending(replace(live, pinning=replace(live.pinning, memory=memory)), wanted)
    return [{"kind": each.kind, "live": each.live, "wanted": each.wanted} for each in found]


def _threads_differ(
    live: Optional[Domain], now: Optional[Pinning], later: Optional[Pinning], online: FrozenSet[int]
) -> bool:
    """Tell whether the threads of a running VM run elsewhere than they do once it is started again."""
    if live is None or now is None or later is None:
        return False
    return thread_sets(live, online, now) != thread_sets(live, online, later)


def texts(tasks: Sequence[Task], online: FrozenSet[int]) -> Tuple[str, str]:
    """Return the VMs that change before and after, as lines that ``--diff`` compares."""
    before: List[str] = []
    after: List[str] = []
    for task in tasks:
        if task.changes:
            was, becomes = _lines(task, online)
            before += [f"VM {task.aim.name}", *was]
            after += [f"VM {task.aim.name}", *becomes]
    return "".join(f"{line}\n" for line in before), "".join(f"{line}\n" for line in after)


def _lines(task: Task, online: FrozenSet[int]) -> Tuple[List[str], List[str]]:
    aim, vm = task.aim, task.vm
    before: List[str] = []
    after: List[str] = []
    if vm.live is not None and aim.live is not None:
        changes = {*live_changes(vm.live, aim.live, online, aim.floating), *task.found.strays}
        was, becomes = _thread_lines(vm.live, aim.live, task.found, changes, online)
        before += [*was, *_memory_lines("running", vm.live.pinning.memory)]
        after += [*becomes, *_memory_lines("running", _memory_after(vm.live, aim.live))]
        before += _policy_lines("running", vm.live.policy)
        after += _policy_lines("running", policy_after(vm.live, aim, task.apply_to))
    if vm.defined is not None and aim.defined is not None:
        before += [*_pin_lines(vm.defined.pinning), *_policy_lines("definition", vm.defined.policy)]
        policy = policy_after(vm.defined, aim, task.apply_to)
        after += [*_pin_lines(aim.defined), *_policy_lines("definition", policy)]
    return before, after


def _thread_lines(
    live: Domain, wanted: Pinning, found: Seen, changes: Container[Thread], online: FrozenSet[int]
) -> Tuple[List[str], List[str]]:
    """Return where threads run before and after; a pin is told from the same CPUs without one, and from a stray."""
    have, need = pinned(live.pinning), pinned(wanted)
    then = thread_sets(live, online, wanted)
    before: List[str] = []
    after: List[str] = []
    for thread, cpus in thread_sets(live, online).items():
        line = f"running: {words_of(thread)} on {have.get(thread) or format_cpuset(cpus) or 'auto'}"
        line += "" if thread in have else " (no pin)"
        stray = f"running: {words_of(thread)} on {format_cpuset(found.sets.get(thread, cpus))} (other than its pin)"
        before.append(stray if thread in found.strays else line)
        changed = f"running: {words_of(thread)} on {need.get(thread) or format_cpuset(then[thread])}"
        after.append(changed if thread in changes else line)
    return before, after


def _pin_lines(pins: Pinning) -> List[str]:
    lines = [f"definition: vCPU {pin.vcpu} on {pin.cpus}" for pin in pins.vcpus]
    lines += [f"definition: emulator on {pins.emulator}"] if pins.emulator else []
    lines += [f"definition: I/O thread {pin.iothread} on {pin.cpus}" for pin in pins.iothreads]
    lines += [f"definition: all other threads on {pins.cpuset}"] if pins.cpuset else []
    lines += _memory_lines("definition", pins.memory)
    return lines + [f"definition: memory of cell {each.id} {each.mode} on {each.node}" for each in pins.cells]


def _memory_lines(where: str, memory: Optional[NumaMemory]) -> List[str]:
    return [] if memory is None else [f"{where}: memory {memory.mode} on {memory.nodes}"]


def _policy_lines(where: str, policy: Optional[Policy]) -> List[str]:
    found = policy or Policy()
    lines = []
    if found.pinning is not None:
        options = [f"{name}={value}" for name, value in found.pinning.as_dict().items() if value is not None]
        lines.append(f"{where}: {' '.join(options)}")
    if found.following is not None:
        own = f", but for {', '.join(found.following.own)}" if found.following.own else ""
        was = f" instead of {' and '.join(found.following.was)}" if found.following.was else ""
        limit = found.following.limit or "none"
        lines.append(f"{where}: following {found.following.cpus}{was}{own}, limit {limit}")
    return lines


def host_record(state: HostState, goal: HostAim) -> Dict[str, str]:
    """Return how the host's CPUs are divided."""
    return {
        "shared_cpus": format_cpuset(goal.shared),
        "exclusive_cpus": format_cpuset(frozenset(cpu for claim in goal.claims for cpu in claim.all)),
        "isolated_cpus": format_cpuset(state.cpus.isolated & online_of(state)),
    }


def claim_records(claims: Sequence[Claim]) -> List[Dict[str, Any]]:
    """Return who has which CPUs for itself."""
    return [
        {
            "vm": claim.vm,
            "uuid": claim.uuid,
            "running": claim.running,
            "cpus": format_cpuset(claim.cpus),
            "blocked": format_cpuset(claim.blocked),
        }
        for claim in claims
    ]
