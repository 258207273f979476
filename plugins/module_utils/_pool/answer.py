# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The answer: decisions about pools as JSON, and what every host has to hold."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Dict, FrozenSet, List, Mapping, Optional, Sequence

from .._cpu import PoolCpu, hideable
from .draft import Draft, PoolDraft
from .drift import drift
from .guards import running_beyond
from .judge import Decision
from .model import Content, Fleet, Host, Member, Refusal
from .notes import notes_of
from .policy import unanswered
from .request import Request
from .settle import Standing
from .target import compute_id, compute_on, different_cpus, shared_data

VERSION = 1

BASELINE_NEEDED, PROOF_NEEDED, DECIDED = "baseline", "proof", "decided"


def cpu_data(cpu: Optional[PoolCpu], features: Optional[FrozenSet[str]]) -> Optional[Dict[str, Any]]:
    """Return a CPU as JSON: its parts, ``xml``, ``digest``, and ``features`` if they are known."""
    if cpu is None:
        return None
    listed = None if features is None else sorted(features)
    return {**cpu.as_data(), "xml": cpu.xml(), "digest": cpu.digest(), "features": listed}


def answer(fleet: Fleet, request: Request, drafted: Draft, decisions: Mapping[str, Decision]) -> Dict[str, Any]:
    """Return the answer (JSON) to the question converge."""
    results = {name: Result(pool, decisions[name]) for name, pool in drafted.pools.items()}
    stage = _stage(results)
    refusals = _refusals(request, drafted, results)
    return {
        "version": VERSION,
        "question": request.question,
        "stage": stage,
        "feasible": not refusals,
        "current": request.current,
        "hosts": [_host(name, drafted, results, stage == DECIDED) for name in sorted(drafted.aims)],
        "pools": [_pool(item) for name, item in sorted(results.items())],
        "refusals": [refusal.as_data() for refusal in refusals],
        "notes": notes_of(fleet, request, drafted, decisions),
        "restart_required": restart_required(
            [item.placed(host) for item in results.values() for host in item.members], fleet
        ),
    }


class Result:
    """A pool with its decision, and what follows from both."""

    def __init__(self, pool: PoolDraft, decision: Decision) -> None:
        self.pool, self.decision = pool, decision
        self.name, self.standing, self.members = pool.name, pool.standing, pool.members
        self.features = decision.features
        self.before: Optional[Content] = pool.standing.content
        self.changes = pool.frozen is None
        made = self.before if not self.changes else self._content()
        # Records share their content with what was read, so that comparing them ends at its identity.
        self.after = self.before if made == self.before else made
        self.names = frozenset(host.name for host in self.members)

    def _content(self) -> Optional[Content]:
        """Return what all members are to hold, as far as it is decided; features are empty until they are proven."""
        if not self.members or self.decision.cpu is None or self.pool.vendor is None:
            return None
        members = tuple(sorted((host.member for host in self.members), key=lambda member: member.uuid))
        features = self.features or frozenset()
        return Content(self.pool.vendor, self.pool.target.definition, members, self.decision.cpu, features)

    def placed(self, host: Host) -> Placed:
        cpu = self.decision.cpu
        return Placed(host, self.name, self.features, cpu.address_bits if cpu else None)

    @cached_property
    def data(self) -> Optional[Dict[str, Any]]:
        """What the members are to hold in common, once it is proven: made once, for a large pool has a long list."""
        known = self.after if self.features is not None else None
        return None if known is None else _data(self.name, self.generation, known)

    @cached_property
    def same(self) -> bool:
        """Whether the pool stays what it is, proofs permitting."""
        if self.before is None or self.after is None:
            return self.before is self.after
        known = self.after.features if self.features is not None else self.before.features
        settled = not self.standing.torn
        return settled and self.before == Content(
            self.after.vendor, self.after.definition, self.after.members, self.after.cpu, known
        )

    @cached_property
    def generation(self) -> int:
        """The generation after the plan, 0 for none; an unfinished one that is what is wanted keeps its number."""
        if not self.members and self.changes:
            return 0
        if self.same or not self.changes:
            return self.standing.basis.generation if self.standing.basis else 0
        return self.standing.highest + 1

    @property
    def status(self) -> str:
        frozen = self.pool.frozen is not None and (self.before is None or reported(self.pool))
        if self.pool.policy.refusal is not None or frozen:
            return "refused"
        if not self.members and self.changes:
            return "removed" if self.pool.left else "refused"
        if self.decision.cpu is None:
            return "baseline"
        if self.same:
            return "unchanged"
        return "new" if self.before is None else "changed"


def reported(pool: PoolDraft) -> bool:
    """Whether it has to be said that a pool is not changed: not if nobody asked for a change."""
    if pool.frozen is None:
        return False
    asked = pool.policy.asks_for_change(pool.standing) or not pool.standing.complete
    return asked or pool.frozen.code != "member_unavailable"


def _stage(results: Mapping[str, Result]) -> str:
    if any(item.status == BASELINE_NEEDED for item in results.values()):
        return BASELINE_NEEDED
    if any(item.changes and item.members and item.decision.cpu is None for item in results.values()):
        return BASELINE_NEEDED
    return PROOF_NEEDED if any(item.decision.waiting for item in results.values()) else DECIDED


def _refusals(request: Request, drafted: Draft, results: Mapping[str, Result]) -> List[Refusal]:
    found = list(drafted.refused.values())
    for item in results.values():
        if item.pool.policy.refusal is not None:
            found.append(item.pool.policy.refusal)
        if item.pool.frozen is not None and reported(item.pool):
            found.append(item.pool.frozen)
        found.extend(item.decision.drifted)
    found.extend(unanswered(drafted.policies, set(results)))
    return sorted(found, key=lambda refusal: (refusal.host or "", refusal.pool or "", refusal.code))


def _host(name: str, drafted: Draft, results: Mapping[str, Result], decided: bool) -> Dict[str, Any]:
    aim, place = drafted.aims[name], drafted.places[name]
    host = aim.host
    result = results.get(place or "")
    result = result if result is not None and name in result.names else None
    found = drift(host)
    record = _record(host, result) if result is not None and decided and result.changes else None
    right = found is None and result is not None and _holds(host, result)
    beyond = _beyond(host, result.features) if result is not None else None
    return {
        "name": name,
        "action": _action(host, place, record is None or right, name in drafted.refused),
        "pool": place,
        "wanted_pool": aim.pool,
        "previous_pool": host.pool,
        "prove": cpu_data(result.decision.cpu, None) if result is not None else None,
        "record": record,
        "generation": result.generation if result is not None else _own_generation(host, place),
        "host_mask": [] if beyond is None else list(hideable(beyond)),
        "drift": found,
    }


def _own_generation(host: Host, place: Optional[str]) -> Optional[int]:
    return host.record.generation if host.record is not None and place is not None else None


def _action(host: Host, place: Optional[str], right: bool, refused: bool) -> str:
    if not right:
        return "write"
    if refused:
        return "refused"
    return "remove" if place is None and host.record is not None else "none"


def _record(host: Host, result: Result) -> Optional[Dict[str, Any]]:
    """Return what a member has to hold, without what it proves itself."""
    return None if result.data is None else {**result.data, "host": _member(host.member)}


def _data(pool: str, generation: int, content: Content) -> Dict[str, Any]:
    return {
        "version": VERSION,
        "pool": pool,
        "vendor": content.vendor,
        "definition": content.definition,
        "generation": generation,
        "members": [_member(member) for member in content.members],
        "cpu": {**content.cpu.as_data(), "xml": content.cpu.xml(), "features": sorted(content.features)},
    }


def _member(member: Member) -> Dict[str, str]:
    return {"name": member.name, "uuid": member.uuid}


def _holds(host: Host, result: Result) -> bool:
    own = host.record
    wanted = (result.name, result.generation, result.after, host.member)
    return own is not None and (own.pool, own.generation, own.content, own.host) == wanted


def _beyond(host: Host, features: Optional[FrozenSet[str]]) -> Optional[List[str]]:
    """Return what a host has beyond a pool's CPU."""
    return None if features is None or host.traits.features is None else sorted(host.traits.features - features)


def _pool(item: Result) -> Dict[str, Any]:
    pool = item.pool
    computing = pool.members if item.changes and item.members and item.decision.cpu is None else ()
    frozen = item.before if not item.changes else None
    return {
        "name": item.name,
        "vendor": pool.vendor,
        "definition": frozen.definition if frozen else pool.target.definition,
        "status": item.status,
        "compute_on": compute_on(computing),
        "compute_of": different_cpus(computing),
        "compute_id": compute_id(computing) if computing else None,
        "members": sorted({host.name for host in item.members} | set(pool.unseen)),
        "unavailable": list(pool.unseen),
        "joined": [host.name for host in pool.joined],
        "left": [host.name for host in pool.left],
        "generation": item.generation,
        **_cpus(item.before, item.decision.cpu, item.features),
        **shared_data(item.members, item.features),
    }


def _cpus(before: Optional[Content], cpu: Optional[PoolCpu], features: Optional[FrozenSet[str]]) -> Dict[str, Any]:
    old = before.features if before is not None else frozenset()
    both = features is not None and before is not None
    return {
        "cpu": cpu_data(cpu, features),
        "previous_cpu": cpu_data(before.cpu, before.features) if before is not None else None,
        "gained": sorted((features or frozenset()) - old) if both else [],
        "lost": sorted(old - (features or frozenset())) if both else [],
    }


@dataclass(frozen=True)
class Placed:
    """A host with the pool it is in, if any, and what VMs may have there.

    That is ``features``, if they are known, without those ``lost`` by the host, and ``address_bits``.
    """

    host: Host
    pool: Optional[str]
    features: Optional[FrozenSet[str]]
    address_bits: Optional[int] = None
    lost: FrozenSet[str] = frozenset()


def restart_required(placed: Sequence[Placed], fleet: Fleet) -> List[Dict[str, Any]]:
    """Return the VMs that run with more than they may have where they are."""
    found: List[Dict[str, Any]] = []
    for item in placed:
        if item.features is None:
            continue
        for beyond in running_beyond(item.host, item.features - item.lost, item.address_bits, fleet):
            lost = sorted(item.features & item.lost & set(beyond.features))
            where = {"uuid": beyond.vm.uuid, "host": item.host.name, "pool": item.pool, "lost": lost}
            found.append({**beyond.as_data(), **where})
    return sorted(found, key=lambda item: (item["host"], item["vm"]))


def pool_data(standing: Standing) -> Dict[str, Any]:
    """Return the parts of a pool that its records tell."""
    content = standing.content
    return {
        "name": standing.pool,
        "vendor": content.vendor if content else None,
        "definition": content.definition if content else None,
        "generation": standing.basis.generation if standing.basis else 0,
    }
