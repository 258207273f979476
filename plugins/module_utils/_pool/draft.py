# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Who is in which pool after the plan, before anything is proven.

A host that is refused stays in the pool it is in, which may matter to those that join there; so places are found again
until nobody else has to stay.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Dict, FrozenSet, List, Mapping, Optional, Sequence, Tuple

from .._cpu import PRESETS
from .aims import Aim, Rejected, aims
from .founding import mixed, no_presets, vendor_of, virt_type_of
from .guards import Terms, refuse
from .model import Fleet, Host, Refusal
from .pairs import admit
from .policy import BASELINE, Policy, policies
from .request import Request
from .settle import Standing, standings
from .target import Target, terms_target


@dataclass(frozen=True)
class PoolDraft:
    """A pool after the plan: its old members that stay, and those that join or leave, all ordered by name.

    A pool with ``frozen`` is not changed; ``unseen`` are members that cannot be looked at.
    """

    name: str
    standing: Standing
    policy: Policy
    target: Target
    vendor: Optional[str] = None
    virt_type: Optional[str] = None
    old: Tuple[Host, ...] = ()
    joined: Tuple[Host, ...] = ()
    left: Tuple[Host, ...] = ()
    unseen: Tuple[str, ...] = ()
    frozen: Optional[Refusal] = None

    @property
    def members(self) -> Tuple[Host, ...]:
        return tuple(sorted((*self.old, *self.joined), key=lambda host: host.name))


@dataclass(frozen=True)
class Draft:
    """The pools by name; where every host of the run wants to be and is after the plan; and who is refused, and why."""

    pools: Mapping[str, PoolDraft]
    policies: Mapping[str, Policy]
    aims: Mapping[str, Aim]
    places: Mapping[str, Optional[str]]
    refused: Mapping[str, Refusal]


@dataclass(frozen=True)
class Verdicts:
    """What proofs have ruled out so far: hosts in pools, and changes of pools."""

    rejected: Rejected = field(default_factory=dict)
    frozen: Mapping[str, Refusal] = field(default_factory=dict)


@dataclass(frozen=True)
class _Sketch:
    """What the rules of placing need to know."""

    fleet: Fleet
    request: Request
    standings: Mapping[str, Standing]
    policies: Mapping[str, Policy]
    frozen: Mapping[str, Refusal]
    unseen: Mapping[str, Tuple[str, ...]]
    hosts: Mapping[str, Host]

    def standing(self, pool: str) -> Standing:
        return self.standings.get(pool) or Standing(pool)

    def is_home(self, host: Host) -> bool:
        """Whether the pool of the host's record counts it as a member."""
        return host.pool is not None and self.standing(host.pool).is_member(host)


def draft(fleet: Fleet, request: Request, verdicts: Verdicts) -> Draft:
    """Return the places of all hosts of the run."""
    sketch = _sketch(fleet, request, verdicts)
    found = aims(request.wishes, fleet.hosts, sketch.standings, verdicts.rejected)
    staying = {name: item.refusal for name, item in found.items() if item.refusal is not None}
    staying.update(_held(found, staying, sketch))
    while True:
        pools, refused = _placed(found, staying, sketch)
        stuck = {name: why for name, why in refused.items() if sketch.is_home(sketch.hosts[name])}
        if not stuck:
            break
        # Who cannot found a pool with others does not found it alone because these stay where they are.
        unfounded = {found[name].pool for name in stuck if pools[found[name].pool or ""].standing.content is None}
        staying.update({name: why for name, why in refused.items() if name in stuck or found[name].pool in unfounded})
    refused.update(staying)
    places = {name: item.host.pool if name in refused else item.pool for name, item in found.items()}
    return Draft(pools, sketch.policies, found, places, refused)


def _sketch(fleet: Fleet, request: Request, verdicts: Verdicts) -> _Sketch:
    hosts = {wish.name: fleet.hosts[wish.name] for wish in request.wishes}
    known = standings(fleet)
    wanted = policies(request, known)
    unseen = {pool: _unseen(item, fleet, frozenset(hosts), request.unavailable) for pool, item in known.items()}
    frozen: Dict[str, Refusal] = {}
    for pool, item in known.items():
        policy = wanted.get(pool, Policy())
        why = _frozen(item, unseen[pool], Policy() if policy.refusal else policy) or verdicts.frozen.get(pool)
        if why is not None:
            frozen[pool] = why
    frozen.update(_unknowable(request, known, hosts))
    return _Sketch(fleet, request, known, wanted, frozen, unseen, hosts)


def _fitting(policy: Policy, standing: Standing) -> Policy:
    """Return the policy with a refusal if its tier is of another vendor than the pool."""
    preset = PRESETS.get(policy.definition or "")
    content = standing.content
    if policy.refusal is not None or content is None or preset is None or preset.vendor == content.vendor:
        return policy
    msg = (
        f"Pool {standing.pool} has hosts of vendor {content.vendor}, and its definition {preset.name} is for"
        f" {preset.vendor}. Choose a tier of the right vendor."
    )
    facts = {"definition": preset.name, "vendor": content.vendor, "needed_vendor": preset.vendor}
    return replace(policy, refusal=Refusal("definition", msg, pool=standing.pool, facts=facts))


def _unseen(standing: Standing, fleet: Fleet, hosts: FrozenSet[str], unavailable: FrozenSet[str]) -> Tuple[str, ...]:
    """Return the members that cannot be looked at or written to; one that is in no inventory list is not missed."""
    seen, found = fleet.seen, []
    for member in standing.content.members if standing.content else ():
        host = seen.get(member.uuid)
        if host is None:
            gone = member.name not in unavailable or member.name in fleet.hosts
        else:
            gone = host.record_error is None and (host.pool != standing.pool or host.name in hosts)
        if not gone:
            found.append(host.name if host else member.name)
    return tuple(sorted(found))


def _frozen(standing: Standing, unseen: Tuple[str, ...], policy: Policy) -> Optional[Refusal]:
    """Return why a pool cannot be changed, as far as its records tell."""
    if unseen:
        msg = (
            f"Pool {standing.pool} cannot be changed without its members {', '.join(unseen)}, which do not answer, are"
            " not in this run or have a record that cannot be read. Bring them back, or take them out of the inventory."
        )
        return Refusal("member_unavailable", msg, pool=standing.pool, facts={"members": list(unseen)})
    keeps = not policy.recalc and policy.definition != BASELINE and not policy.asks_for_change(standing)
    if standing.torn and keeps:
        holders = [host.name for host in standing.holders]
        others = ", ".join(host.name for host in standing.holders if not standing.is_member(host))
        leaving = f", or take {others} out of it in one run and in again in the next" if others else ""
        msg = (
            f"The records of pool {standing.pool} on {', '.join(holders)} disagree about generation {standing.highest},"
            f" as after two runs at once. Recalculate the pool{leaving}."
        )
        return Refusal("incomplete_generation", msg, pool=standing.pool, facts={"hosts": holders})
    return None


def _unknowable(request: Request, known: Mapping[str, Standing], hosts: Mapping[str, Host]) -> Dict[str, Refusal]:
    """Return why pools that no record names cannot be created: a host that wants to be in one may have its record."""
    silent: Dict[str, List[str]] = {}
    for wish in request.wishes:
        if wish.present and wish.pool is not None and wish.pool not in known and hosts[wish.name].record_error:
            silent.setdefault(wish.pool, []).append(wish.name)
    return {pool: _cannot_be_new(pool, names) for pool, names in silent.items()}


def _cannot_be_new(pool: str, names: List[str]) -> Refusal:
    msg = (
        f"Pool {pool} is not created, for the records of {', '.join(names)} cannot be read and may be of it"
        " already. Mend these records first, or take the hosts out of the pool."
    )
    return Refusal("member_unavailable", msg, pool=pool, facts={"members": names})


def _held(found: Mapping[str, Aim], staying: Mapping[str, Refusal], sketch: _Sketch) -> Dict[str, Refusal]:
    """Return the hosts that want to leave a pool that cannot be changed."""
    held: Dict[str, Refusal] = {}
    for name, item in found.items():
        pool = item.host.pool
        if name in staying or pool is None or pool == item.pool or pool not in sketch.frozen:
            continue
        if sketch.is_home(item.host):
            why = sketch.frozen[pool]
            held[name] = Refusal(why.code, f"Host {name} cannot leave pool {pool}. {why.msg}", name, pool, why.facts)
    return held


def _placed(
    found: Mapping[str, Aim], staying: Mapping[str, Refusal], sketch: _Sketch
) -> Tuple[Dict[str, PoolDraft], Dict[str, Refusal]]:
    """Return the pools, and which hosts are refused besides those that stay anyway."""
    going = {name: item.pool for name, item in found.items() if name not in staying}
    comers: Dict[str, List[str]] = {}
    for name, aimed in going.items():
        if aimed is not None:
            comers.setdefault(aimed, []).append(name)
    names = sorted({*comers, *sketch.standings})
    pools: Dict[str, PoolDraft] = {}
    refused: Dict[str, Refusal] = {}
    for pool in names:
        standing = sketch.standing(pool)
        home = [host for host in standing.members if host.name in sketch.hosts]
        old = [host for host in home if going.get(host.name, pool) == pool]
        staying_here = {host.name for host in old}
        joining = [sketch.hosts[name] for name in comers.get(pool, ()) if name not in staying_here]
        if joining and not old and pool not in sketch.frozen:
            # Nobody stays, so nothing of it is kept: a run that is cut off here could not know it any more.
            standing = Standing(pool, highest=standing.highest, holders=standing.holders)
        pools[pool], why = _filled(pool, standing, old, joining, sketch)
        refused.update(why)
        left = [host for host in home if host.name not in staying_here]
        pools[pool] = replace(pools[pool], left=_ordered(left))
    return pools, refused


def _ordered(hosts: Sequence[Host]) -> Tuple[Host, ...]:
    return tuple(sorted(hosts, key=lambda host: host.name))


def _filled(
    pool: str, standing: Standing, old: List[Host], joining: List[Host], sketch: _Sketch
) -> Tuple[PoolDraft, Dict[str, Refusal]]:
    """Return a pool with those that may join it, and why the others may not."""
    policy = sketch.policies.get(pool, Policy())
    policy = _fitting(policy, standing) if old else policy
    frozen = sketch.frozen.get(pool)
    effective = Policy() if policy.refusal or frozen else policy
    vendor = vendor_of(pool, standing, effective, joining)
    target = terms_target(pool, vendor, effective, standing)
    virt_type = virt_type_of(standing, old, joining)
    made = PoolDraft(
        pool,
        standing,
        policy,
        target,
        vendor,
        virt_type,
        _ordered(old),
        unseen=sketch.unseen.get(pool, ()),
        frozen=frozen,
    )
    closed = frozen or policy.refusal
    if closed is not None:
        return made, {host.name: _closed(host, pool, closed) for host in joining}
    refused = mixed(pool, standing, vendor, joining)
    terms = _terms(made, sketch.request)
    for host in joining:
        why = refused.get(host.name) or refuse(host, terms, sketch.fleet)
        if why is not None:
            refused[host.name] = why
    fit = [host for host in joining if host.name not in refused]
    if fit and target.cpu is None and target.definition != BASELINE:
        return made, {**refused, **{host.name: no_presets(host, pool) for host in fit}}
    refused.update(admit(pool, old, fit, _features(made, fit), sketch.fleet))
    return replace(made, joined=_ordered([host for host in fit if host.name not in refused])), refused


def _closed(host: Host, pool: str, why: Refusal) -> Refusal:
    return Refusal(why.code, f"Host {host.name} cannot join pool {pool}. {why.msg}", host.name, pool, why.facts)


def _terms(made: PoolDraft, request: Request) -> Terms:
    target, content = made.target, made.standing.content
    return Terms(
        pool=made.name,
        vendor=made.vendor,
        virt_type=made.virt_type,
        cpu=target.cpu,
        features=content.features if content is not None and target.kept else None,
        preset=target.preset if _is_preset(target) else None,
        address_bits=made.policy.address_bits,
        reporting=request.reporting,
    )


def _is_preset(target: Target) -> bool:
    """Whether a host that can give the preset can give this CPU; a pool keeps the preset of an older release."""
    preset = PRESETS.get(target.preset or "")
    if preset is None or target.cpu is None:
        return False
    return (preset.cpu.model, preset.cpu.require) == (target.cpu.model, target.cpu.require)


def _features(made: PoolDraft, joining: Sequence[Host]) -> FrozenSet[str]:
    """Return which features guests will see, as far as it can be told now; proofs tell it exactly."""
    if made.target.kept and made.standing.content is not None:
        return made.standing.content.features
    if made.target.cpu is not None:
        return frozenset(made.target.cpu.require)
    known = [host.traits.features for host in (*made.old, *joining) if host.traits.features is not None]
    return frozenset.intersection(*known) if known else frozenset()
