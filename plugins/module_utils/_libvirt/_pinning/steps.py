# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What is to be done for the pins of a host, as values, in the order that keeps CPUs from being shared meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import FrozenSet, List, Mapping, Optional, Sequence, Tuple, Union

from ..._domain import Domain, Following, Pinning, Policy, is_placing, same_pins, threads_on
from ..._pinning import BOTH, DEFINITION, LIVE, Aim, Thread, live_changes, pinned, thread_sets
from ..._topology import format_cpuset, parse_cpuset
from .seeing import Seen, words_of

RESTRICTIVE = "restrictive"


@dataclass(frozen=True)
class PinThread:
    """Let a thread of a running VM run on ``cpus``; ``before`` is where it could until now.

    ``undone`` is where it is put back to, if not there.
    """

    uuid: str
    name: str
    thread: Thread
    cpus: FrozenSet[int]
    before: FrozenSet[int]
    undone: Optional[FrozenSet[int]] = None

    @property
    def back(self) -> FrozenSet[int]:
        """Where the thread is put back to."""
        return self.undone or self.before

    def __str__(self) -> str:
        """Return the words for a message."""
        return f"{words_of(self.thread)} on CPU {format_cpuset(self.cpus)}"


@dataclass(frozen=True)
class BindMemory:
    """Bind the memory of a running VM to other nodes; the kernel moves what is there."""

    uuid: str
    name: str
    nodes: str
    before: str

    def __str__(self) -> str:
        """Return the words for a message."""
        return f"memory on NUMA node {self.nodes}"


@dataclass(frozen=True)
class NotePolicy:
    """Store what a running VM follows. ``undone`` is what is to be stored if its threads are put back."""

    uuid: str
    name: str
    policy: Policy
    undone: Policy

    def __str__(self) -> str:
        """Return the words for a message."""
        return "policy of the running VM"


@dataclass(frozen=True)
class Redefine:
    """Write pins and policy into a definition, which until now has those of ``found``."""

    uuid: str
    name: str
    pinning: Pinning
    policy: Policy
    found: Domain

    def __str__(self) -> str:
        """Return the words for a message."""
        return "definition"


Step = Union[PinThread, BindMemory, NotePolicy, Redefine]


def steps_of(
    aims: Sequence[Aim],
    lives: Mapping[str, Domain],
    definitions: Mapping[str, Domain],
    seen: Mapping[str, Seen],
    online: FrozenSet[int],
    apply_to: str,
) -> Tuple[Step, ...]:
    """Return the steps from what the VMs have to what they are to have; none if that is the same.

    ``lives`` and ``definitions`` are the VMs by UUID, ``seen`` where their threads really run; ``apply_to`` is as in
    ``Wish``. Floating threads first leave the CPUs that somebody is to own, and get those that become free last.
    Definitions have no effect before the next start, so they are written when all else has succeeded.
    """
    leaving: List[Step] = []
    wished: List[Step] = []
    gaining: List[Step] = []
    # Whoever gives up CPUs of its own goes before those that are to own them.
    for aim in sorted(aims, key=lambda each: bool(each.cpus)):
        live = lives.get(aim.uuid)
        if live is None or aim.live is None:
            continue
        found = _live_steps(aim, live, aim.live, seen.get(aim.uuid, Seen()), online, apply_to)
        first = [] if aim.wished else [narrowed for step in found.changes for narrowed in _narrowed(step)]
        rest = [*(step for step in found.changes if step not in first), *found.closing]
        if aim.wished:
            wished += [*found.opening, *rest]
        elif first:
            leaving += [*found.opening, *first]
            gaining += rest
        else:
            gaining += [*found.opening, *rest]
    return (*leaving, *wished, *gaining, *_definitions(aims, definitions, apply_to))


@dataclass(frozen=True)
class _LiveSteps:
    """What is noted before a running VM is changed, the changes, and what is noted when all of them are done."""

    opening: Sequence[Step]
    changes: Sequence[Step]
    closing: Sequence[Step]


def _live_steps(
    aim: Aim, live: Domain, wanted: Pinning, seen: Seen, online: FrozenSet[int], apply_to: str
) -> _LiveSteps:
    now, then = thread_sets(live, online), thread_sets(live, online, wanted)
    changes = dict(live_changes(live, wanted, online, aim.floating))
    changes.update({thread: then[thread] for thread in seen.strays if then.get(thread)})
    before = {thread: now[thread] or seen.sets.get(thread, online) for thread in changes}
    undone = _undone(live, online)
    pins = [
        PinThread(aim.uuid, aim.name, thread, cpus, before[thread], undone.get(thread))
        for thread, cpus in changes.items()
    ]
    memory = movable_memory(live, wanted)
    moved: List[Step] = []
    if memory is not None and live.pinning.memory is not None:
        moved.append(BindMemory(aim.uuid, aim.name, memory, live.pinning.memory.nodes))
    opening, closing = _notes(aim, live, pins, policy_after(live, aim, apply_to), policy_put_back(live, before))
    return _LiveSteps(opening, [*moved, *pins], closing)


def _notes(
    aim: Aim, live: Domain, pins: Sequence[PinThread], policy: Policy, undone: Policy
) -> Tuple[List[Step], List[Step]]:
    """Return what is noted before and after threads are pinned: pins that no record calls ours would be the user's."""
    meanwhile = policy
    if policy.following is not None and not is_placing(policy.pinning):
        meanwhile = replace(policy, following=_meanwhile(policy.following, live, pins, aim.live or Pinning()))
    needed = policy != (live.policy or Policy()) or (pins and undone != policy) or meanwhile != policy
    opening: List[Step] = [NotePolicy(aim.uuid, aim.name, meanwhile, undone)] if needed else []
    closing: List[Step] = [NotePolicy(aim.uuid, aim.name, policy, meanwhile)] if meanwhile != policy else []
    return opening, closing


def _meanwhile(following: Following, live: Domain, pins: Sequence[PinThread], wanted: Pinning) -> Following:
    """Return the record that is right whichever of the threads that follow are pinned already."""
    had, becomes = pinned(live.pinning), pinned(wanted)
    ours = [each for each in pins if becomes.get(each.thread) == following.cpus]
    found = {had[each.thread] for each in ours if each.thread in had}
    found |= {format_cpuset(step.cpus) for each in ours for step in _narrowed(each)}
    was = tuple(sorted(found - {following.cpus}))
    own = dict.fromkeys([*following.own, *(thread for cpus in was for thread in threads_on(wanted, cpus))])
    return replace(following, was=was, own=tuple(own))


def _undone(live: Domain, online: FrozenSet[int]) -> Mapping[Thread, FrozenSet[int]]:
    """Return where threads without a pin are put back to, that libvirt cannot take away: there it counts as ours."""
    stored = live.policy or Policy()
    if stored.following is None or is_placing(stored.pinning):
        return {}
    cpus, own = parse_cpuset(stored.following.cpus), pinned(live.pinning)
    return {thread: cpus for thread in thread_sets(live, online) if thread not in own} if cpus <= online else {}


def _narrowed(step: Step) -> List[PinThread]:
    """Return the step with which a thread only leaves CPUs, if it has to leave any."""
    if not isinstance(step, PinThread) or step.before <= step.cpus:
        return []
    return [replace(step, cpus=step.before & step.cpus or step.cpus)]


def _definitions(aims: Sequence[Aim], definitions: Mapping[str, Domain], apply_to: str) -> List[Step]:
    steps: List[Step] = []
    for aim in aims:
        found = definitions.get(aim.uuid)
        if found is None or aim.defined is None:
            continue
        policy = policy_after(found, aim, apply_to)
        if not same_pins(found.pinning, aim.defined) or policy != (found.policy or Policy()):
            steps.append(Redefine(aim.uuid, aim.name, aim.defined, policy, found))
    return steps


def policy_after(domain: Domain, aim: Aim, apply_to: str) -> Policy:
    """Return what is to be stored with a VM in the state that ``domain`` is of; what is not about pins stays."""
    before, live = domain.policy or Policy(), domain.runtime_id is not None
    following = aim.following_live if live else aim.following_defined
    asked = aim.wished and apply_to in (BOTH, LIVE if live else DEFINITION)
    return replace(before, pinning=aim.policy if asked else before.pinning, following=following)


def policy_put_back(live: Domain, before: Mapping[Thread, FrozenSet[int]]) -> Policy:
    """Return what is to be stored with a running VM whose threads have been pinned and put back to where they were.

    libvirt cannot take a pin away, so a thread that had none has one with the same CPUs then, and that one is ours.
    """
    stored, pins = live.policy or Policy(), live.pinning
    own = pinned(pins)
    bare = {format_cpuset(cpus) for thread, cpus in before.items() if thread not in own}
    if len(bare) != 1 or is_placing(stored.pinning) or stored.following is not None:
        return stored
    (cpus,) = bare
    return replace(stored, following=Following(cpus, pins.cpuset, threads_on(pins, cpus)))


def movable_memory(live: Domain, wanted: Pinning) -> Optional[str]:
    """Return the nodes to which the memory of a running VM can be moved, if it is to be and libvirt can do it.

    It can where the mode is ``restrictive`` before and after. It lets a VM without any mode have one, but neither take
    it back nor change it, and what QEMU has bound itself (``strict``, cells of the guest) stays where it is.
    """
    before, after = live.pinning.memory, wanted.memory
    if before is None or after is None or before.nodes == after.nodes or live.pinning.cells or wanted.cells:
        return None
    modes = {before.mode, after.mode}
    return after.nodes if modes == {RESTRICTIVE} and "auto" not in (before.nodes, after.nodes) else None
