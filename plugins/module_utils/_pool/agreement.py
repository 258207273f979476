# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Whether all members give guests the same CPU, by their proofs.

Arithmetic with features only says what is worth trying. A pool's CPU is decided when libvirt of every member takes it
and QEMU of every member has made the same guest of it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Dict, FrozenSet, List, Mapping, Optional, Tuple

from .._cpu import PoolCpu
from .guards import lacking_refusal
from .model import Refusal
from .request import Probe, Proof, Request


@dataclass(frozen=True)
class Question:
    """What the members of a pool have to prove.

    ``old`` are those of ``members`` that are in the pool already. ``features`` are what guests of the pool see so far,
    where that has to stay. With ``preset``, not even the words of the CPU may change.
    """

    pool: str
    cpu: PoolCpu
    members: Tuple[str, ...]
    old: FrozenSet[str]
    features: Optional[FrozenSet[str]] = None
    preset: bool = False


@dataclass(frozen=True)
class Finding:
    """What the proofs say.

    ``waiting`` are members without a proof of ``cpu``. ``bad`` are members that do not give it, each with the refusal
    of a newcomer. ``features`` are what guests see, once all agree. ``unknown`` are features that ``cpu`` no longer
    disables by name, since some libvirt does not know them, with the hosts.
    """

    cpu: PoolCpu
    waiting: Tuple[str, ...] = ()
    bad: Mapping[str, Refusal] = field(default_factory=dict)
    features: Optional[FrozenSet[str]] = None
    unknown: Mapping[str, Tuple[str, ...]] = field(default_factory=dict)


def find(question: Question, request: Request) -> Finding:
    """Return what the proofs say; features that some libvirt does not know are dropped until all know the rest."""
    cpu = question.cpu
    dropped: Dict[str, Tuple[str, ...]] = {}
    while True:
        proofs = {name: request.proof(name, cpu.digest()) for name in question.members}
        waiting = tuple(name for name, proof in proofs.items() if proof is None)
        given = {name: proof for name, proof in proofs.items() if proof is not None}
        bad = _bad(question, cpu, given)
        unknown = _unknown(cpu, given)
        if bad or waiting or not unknown:
            break
        dropped.update(unknown)
        cpu = cpu.without(unknown)
    if bad or waiting:
        return Finding(cpu, waiting, bad, unknown=dropped)
    return replace(
        _compared(question, cpu, {name: _signature(proof) for name, proof in given.items()}), unknown=dropped
    )


def _unknown(cpu: PoolCpu, proofs: Mapping[str, Proof]) -> Dict[str, Tuple[str, ...]]:
    """Return which disabled features are not known to which hosts."""
    features = sorted({name for proof in proofs.values() for name in proof.unknown}.intersection(cpu.disable))
    return {name: tuple(sorted(host for host, proof in proofs.items() if name in proof.unknown)) for name in features}


def _bad(question: Question, cpu: PoolCpu, proofs: Mapping[str, Proof]) -> Dict[str, Refusal]:
    found = {name: _why_bad(question, cpu, proof) for name, proof in proofs.items()}
    return {name: refusal for name, refusal in found.items() if refusal is not None}


def _why_bad(question: Question, cpu: PoolCpu, proof: Proof) -> Optional[Refusal]:
    required = sorted(proof.unknown.intersection(cpu.require))
    fixed = sorted(proof.unknown.intersection(cpu.disable)) if question.preset else []
    if proof.unknown_model is not None or required or fixed:
        return _not_known(question.pool, proof, required or fixed)
    if not proof.compatible:
        if proof.missing:
            return lacking_refusal(proof.host, question.pool, list(proof.missing), proof.reason)
        return _unproven(question.pool, proof, f"libvirt refuses the CPU: {proof.reason or 'without a reason'}")
    if proof.probe is None:
        return _unproven(question.pool, proof, "it was compared, but not probed")
    if proof.probe.error is not None:
        return _unproven(question.pool, proof, f"the probe domain did not start: {proof.probe.error}")
    return None


def _not_known(pool: str, proof: Proof, features: List[str]) -> Refusal:
    what = f"the CPU model {proof.unknown_model}" if proof.unknown_model is not None else ", ".join(features)
    msg = (
        f"Libvirt on host {proof.host} does not know {what}, which belongs to the CPU of pool {pool}."
        " Update libvirt there, or recalculate the pool without hosts that are newer."
    )
    facts = {"features": features, "model": proof.unknown_model}
    return Refusal("unknown_feature", msg, proof.host, pool, facts)


def _unproven(pool: str, proof: Proof, words: str) -> Refusal:
    msg = (
        f"Host {proof.host} could not prove the CPU of pool {pool}: {words.rstrip('.')}."
        " Mend that, recalculate the pool, or put the host into another one."
    )
    return Refusal("proof", msg, proof.host, pool, {"reason": words})


# What QEMU made: model, vendor, address bits, features.
Signature = Tuple[Optional[str], Optional[str], Optional[int], FrozenSet[str]]


def _signature(proof: Proof) -> Signature:
    probe = proof.probe or Probe()
    return (probe.model, probe.vendor, probe.address_bits, probe.features)


def _compared(question: Question, cpu: PoolCpu, made: Mapping[str, Signature]) -> Finding:
    """Return whether hosts that all can start a guest with the CPU make the same one."""
    reference = _reference(question, made)
    if reference is None:
        return Finding(cpu)
    bad = {
        name: _differs(question, name, signature, reference, made)
        for name, signature in made.items()
        if signature != reference
    }
    return Finding(cpu, bad=bad, features=None if bad else reference[3])


def _reference(question: Question, made: Mapping[str, Signature]) -> Optional[Signature]:
    """Return what all have to equal: what guests see so far, else what most old members make, else most hosts.

    Once all old members give more than guests see so far, that is what guests get: nobody has to lose anything.
    """
    everyone = [made[name] for name in sorted(made)]
    votes = [made[name] for name in sorted(made) if name in question.old] or everyone
    more = question.features is not None and len(set(votes)) == 1 and votes[0][3] > question.features
    if question.features is not None and not more:
        same = [item for item in votes if item[3] == question.features]
        votes = same or [item for item in everyone if item[3] == question.features]
        if not votes:
            return (question.cpu.model, question.cpu.vendor, question.cpu.address_bits, question.features)
    # The first of those with most votes, so by name: every run has to choose the same.
    return Counter(votes).most_common(1)[0][0] if votes else None


def _differs(
    question: Question, name: str, own: Signature, reference: Signature, made: Mapping[str, Signature]
) -> Refusal:
    other = next((host for host in sorted(made) if made[host] == reference), None)
    words = differences(own, reference)
    than = f"than on {other}" if other else "than it was proven with"
    msg = (
        f"QEMU on host {name} gives guests of pool {question.pool} another CPU {than}: {words}."
        " Bring QEMU, libvirt and microcode of all members to one version, or recalculate the pool."
    )
    facts = {"beyond": sorted(own[3] - reference[3]), "missing": sorted(reference[3] - own[3])}
    return Refusal("proof", msg, name, question.pool, facts)


def differences(own: Signature, reference: Signature) -> str:
    """Return in words what one guest has otherwise than another."""
    words = []
    for title, mine, others in zip(("model", "vendor", "address bits"), own[:3], reference[:3]):
        if mine != others:
            words.append(f"{title} {mine or 'unknown'} instead of {others or 'unknown'}")
    for title, features in (("with", own[3] - reference[3]), ("without", reference[3] - own[3])):
        if features:
            words.append(f"{title} {', '.join(sorted(features))}")
    return "; ".join(words)
