# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What the proofs mean for a draft: a decision about each pool, or somebody who is ruled out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Dict, FrozenSet, Mapping, Optional, Sequence, Tuple

from .._cpu import PoolCpu, is_default_name
from .agreement import Finding, Question, find
from .aims import falls
from .draft import Draft, PoolDraft, Verdicts
from .draft import draft as make_draft
from .guards import Terms, address_bits, has_cpu, lacks_features, running_vms
from .model import Fleet, Host, Refusal
from .pairs import admit, layouts_clash
from .policy import BASELINE
from .request import Request
from .target import Target, baseline_target


@dataclass(frozen=True)
class Decision:
    """What is known of a pool's CPU.

    Without ``cpu`` a baseline has to be computed, or nobody is in the pool. ``features`` are proven on all members;
    ``waiting`` are members whose proof of ``cpu`` is missing. ``drifted`` are members of a pool that is not changed
    which no longer give its CPU. ``unknown`` is as in ``agreement.Finding``.
    """

    cpu: Optional[PoolCpu] = None
    features: Optional[FrozenSet[str]] = None
    waiting: Tuple[str, ...] = ()
    drifted: Tuple[Refusal, ...] = ()
    unknown: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)


def decide(fleet: Fleet, request: Request) -> Tuple[Draft, Dict[str, Decision]]:
    """Return the draft that all proofs at hand allow, with a decision about every pool.

    Whoever is ruled out changes what the others can have, so the draft is made again from the start without them. Each
    round rules out a host in a pool or a change of a pool, so it ends.
    """
    verdicts = Verdicts()
    while True:
        drafted = make_draft(fleet, request, verdicts)
        found = {name: _judge(pool, fleet, request, verdicts) for name, pool in drafted.pools.items()}
        rejected = {
            (refusal.host or "", name): refusal for name, item in found.items() for refusal in item.rejected.values()
        }
        frozen = {name: item.frozen for name, item in found.items() if item.frozen is not None}
        if not rejected and not frozen:
            return drafted, {name: item.decision for name, item in found.items()}
        verdicts = Verdicts({**verdicts.rejected, **rejected}, {**verdicts.frozen, **frozen})


@dataclass(frozen=True)
class _Judgement:
    """A decision, or who cannot be in the pool, or why the pool cannot be changed."""

    decision: Decision = field(default_factory=Decision)
    rejected: Mapping[str, Refusal] = field(default_factory=dict)
    frozen: Optional[Refusal] = None


def _judge(pool: PoolDraft, fleet: Fleet, request: Request, verdicts: Verdicts) -> _Judgement:
    if pool.frozen is not None:
        return _Judgement(_as_it_was(pool, request))
    if not pool.members:
        return _Judgement()
    target = pool.target
    if target.cpu is None:
        target = baseline_target(target, pool.members, pool.policy, pool.standing, request.candidates)
    broken = _unfit(pool, target, fleet)
    if broken is not None or target.cpu is None:
        return _Judgement(frozen=broken)
    finding = find(_question(pool, target, target.cpu), request)
    return (
        _ruled_out(pool, target, finding, verdicts) if finding.bad else _agreed(pool, target, finding, fleet, request)
    )


def _agreed(pool: PoolDraft, target: Target, finding: Finding, fleet: Fleet, request: Request) -> _Judgement:
    """Return the decision of a pool whose members give the same CPU, as far as they have been asked."""
    decision = Decision(finding.cpu, finding.features, finding.waiting, unknown=finding.unknown)
    if finding.features is None:
        return _Judgement(decision)
    if layouts_clash(pool.old, finding.features, fleet):
        return _Judgement(frozen=_clash(pool))
    return _Judgement(decision, _late(pool, finding.cpu, finding.features, fleet, request))


def _question(pool: PoolDraft, target: Target, cpu: PoolCpu) -> Question:
    content = pool.standing.content
    return Question(
        pool=pool.name,
        cpu=cpu,
        members=tuple(host.name for host in pool.members),
        old=frozenset(host.name for host in pool.old),
        features=content.features if content is not None and target.kept else None,
        preset=target.kept and is_default_name(pool.name),
    )


def _as_it_was(pool: PoolDraft, request: Request) -> Decision:
    """Return the decision about a pool that is not changed; its members prove what they have, and that is all."""
    content = pool.standing.content
    if content is None:
        return Decision()
    asked = Question(
        pool.name,
        content.cpu,
        tuple(host.name for host in pool.old),
        frozenset(host.name for host in pool.old),
        content.features,
    )
    finding = find(asked, request)
    known = pool.frozen.host if pool.frozen else None
    drifted = tuple(_lost(refusal, pool) for name, refusal in sorted(finding.bad.items()) if name != known)
    return Decision(content.cpu, content.features, finding.waiting, drifted)


def _unfit(pool: PoolDraft, target: Target, fleet: Fleet) -> Optional[Refusal]:
    """Return why the members that a pool already has cannot have the CPU it is to get."""
    types = {host.traits.virt_type for host in pool.old if host.traits.virt_type is not None}
    if len(types) > 1:
        words = ", ".join(f"{host.name}: {host.traits.virt_type}" for host in pool.old)
        msg = (
            f"Members of pool {pool.name} run guests with KVM, and others emulate them ({words})."
            " Make KVM work on all, or take hosts out of the pool."
        )
        return Refusal("virt_type", msg, pool=pool.name)
    terms = Terms(
        pool.name, cpu=target.cpu, preset=None if target.kept else target.preset, address_bits=pool.policy.address_bits
    )
    guards = (
        (has_cpu, address_bits)
        if target.kept or target.definition == BASELINE
        else (has_cpu, address_bits, lacks_features)
    )
    for host in pool.old:
        for guard in guards:
            found = guard(host, terms, fleet)
            if found is not None:
                return found
    return None


def _ruled_out(pool: PoolDraft, target: Target, finding: Finding, verdicts: Verdicts) -> _Judgement:
    """Return who is ruled out: newcomers if any of them is bad, else the change of the pool.

    A member of a default pool that lacks something of its CPU tries the next weaker one first.
    """
    old = {host.name for host in pool.old}
    new = {name: refusal for name, refusal in finding.bad.items() if name not in old}
    if new:
        return _Judgement(rejected=new)
    if is_default_name(pool.name):
        known = verdicts.rejected
        falling = {name: why for name, why in finding.bad.items() if falls(why) and (name, pool.name) not in known}
        if falling:
            return _Judgement(rejected=falling)
    first = finding.bad[min(finding.bad)]
    return _Judgement(frozen=_lost(first, pool) if target.kept else first)


def _lost(refusal: Refusal, pool: PoolDraft) -> Refusal:
    """Return the refusal of a member that does not give what its pool is."""
    if not pool.standing.complete:
        msg = (
            f"Generation {pool.standing.highest} of pool {pool.name} was not written to all members, and cannot be"
            f" finished. {refusal.msg}"
        )
        return replace(refusal, code="incomplete_generation", msg=msg)
    msg = (
        f"Host {refusal.host} no longer gives the CPU of its pool {pool.name}. {refusal.msg}"
        " Undo the change of microcode, kernel, QEMU or libvirt if that is what took it away."
    )
    return replace(refusal, code="drift", msg=msg, facts={"because": refusal.code, **refusal.facts})


def _clash(pool: PoolDraft) -> Refusal:
    names = [host.name for host in pool.old]
    msg = (
        f"Members of pool {pool.name} lay out the state of the CPU of the pool in different ways"
        f" ({', '.join(names)}). Make a pool of each kind, or define a CPU without these features."
    )
    return Refusal("xsave", msg, pool=pool.name, facts={"hosts": names})


def _late(
    pool: PoolDraft, cpu: PoolCpu, features: FrozenSet[str], fleet: Fleet, request: Request
) -> Dict[str, Refusal]:
    """Return the newcomers that are refused now that it is known what guests see."""
    terms = Terms(pool.name, cpu=cpu, features=features, reporting=request.reporting)
    found: Dict[str, Refusal] = {}
    for host in pool.joined:
        refusal = running_vms(host, terms, fleet)
        if refusal is not None:
            found[host.name] = refusal
    fit: Sequence[Host] = [host for host in pool.joined if host.name not in found]
    return found or admit(pool.name, pool.old, fit, features, fleet)
