# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What is to be done for the pins of a host, as values, in the order that keeps CPUs from being shared meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import FrozenSet, List, Mapping, Optional, Sequence, Set, Tuple, Union

from ..._domain import PLACING, Domain, Following, Pinning, Policy, threads_on
from ..._pinning import Aim, Thread, live_changes, thread_sets
from ..._topology import format_cpuset
from .seeing import Seen, words_of
from .wishes import BOTH, DEFINITION, LIVE

RESTRICTIVE = "restrictive"


@dataclass(frozen=True)
class PinThread:
    """Let a thread of a running VM run on ``cpus``; ``before`` is where it could until now."""

    uuid: str
    name: str
    thread: Thread
    cpus: FrozenSet[int]
    before: FrozenSet[int]

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
        if aim.wished:
            wished += found
        else:
            first = [narrowed for step in found for narrowed in _narrowed(step)]
            note = [step for step in found if isinstance(step, NotePolicy)]
            leaving += [*note, *first] if first else []
            gaining += [step for step in found if step not in first and not (first and step in note)]
    return (*leaving, *wished, *gaining, *_definitions(aims, definitions, apply_to))


def _live_steps(
    aim: Aim, live: Domain, wanted: Pinning, seen: Seen, online: FrozenSet[int], apply_to: str
) -> List[Step]:
    now, then = thread_sets(live, online), thread_sets(live, online, wanted)
    changes = dict(live_changes(live, wanted, online))
    changes.update({thread: then[thread] for thread in seen.strays if then.get(thread)})
    before = {thread: now[thread] or seen.sets.get(thread, online) for thread in changes}
    pins = [PinThread(aim.uuid, aim.name, thread, cpus, before[thread]) for thread, cpus in changes.items()]
    policy = policy_after(live, aim, apply_to)
    steps: List[Step] = []
    # First of all: pins without this record would be taken for the user's own.
    if policy != (live.policy or Policy()):
        steps.append(NotePolicy(aim.uuid, aim.name, policy, policy_put_back(live, before)))
    elif pins:
        undone = policy_put_back(live, before)
        steps += [NotePolicy(aim.uuid, aim.name, policy, undone)] if undone != policy else []
    memory = movable_memory(live, wanted)
    if memory is not None and live.pinning.memory is not None:
        steps.append(BindMemory(aim.uuid, aim.name, memory, live.pinning.memory.nodes))
    return [*steps, *pins]


def _narrowed(step: Step) -> List[Step]:
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


def same_pins(one: Pinning, other: Pinning) -> bool:
    """Tell whether two pinnings are alike, whoever chose them."""
    return replace(one, policy="") == replace(other, policy="")


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
    pinned: Set[Thread] = {("vcpu", pin.vcpu) for pin in pins.vcpus}
    pinned |= {("iothread", pin.iothread) for pin in pins.iothreads}
    pinned |= {("emulator", None)} if pins.emulator is not None else set()
    bare = {format_cpuset(cpus) for thread, cpus in before.items() if thread not in pinned}
    placed = stored.pinning is not None and stored.pinning.policy in PLACING
    if len(bare) != 1 or placed or stored.following is not None:
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
