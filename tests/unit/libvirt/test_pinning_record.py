# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose a pin is, at any moment of a change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Domain,
    Following,
    Pinning,
    PinningPolicy,
    Policy,
    VcpuPin,
    parse_domain,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.seeing import Seen
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.steps import (
    NotePolicy,
    steps_of,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import Aim
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import format_cpuset
from hypothesis import given
from hypothesis import strategies as st

ONLINE = frozenset(range(4))
VCPU = ("vcpu", 0)
DEDICATED = PinningPolicy("dedicated")


def domain(name: str, live: bool = True, vcpu: str = "", emulator: str = "", cpuset: str = "") -> Domain:
    """A VM with one vCPU."""
    pins = (f"<vcpupin vcpu='0' cpuset='{vcpu}'/>" if vcpu else "") + (
        f"<emulatorpin cpuset='{emulator}'/>" if emulator else ""
    )
    limit, running = f" cpuset='{cpuset}'" if cpuset else "", " id='7'" if live else ""
    return parse_domain(
        f"<domain type='kvm'{running}><name>{name}</name><uuid>{name}</uuid><memory>1</memory>"
        f"<vcpu{limit}>1</vcpu><cputune>{pins}</cputune></domain>"
    )


def on(vcpu: str, emulator: str = "", **more: Any) -> Pinning:
    return Pinning(vcpus=(VcpuPin(0, vcpu),), emulator=emulator or vcpu, **more)


def goal(name: str, live: Pinning | None = None, defined: Pinning | None = None, **more: Any) -> Aim:
    fields = {"wished": False, "kept": False, "policy": None, **more}
    return Aim(name, name, live=live, defined=defined, **fields)


SETS = st.frozensets(st.integers(0, 3), min_size=1)


@given(
    old=SETS,
    new=SETS,
    mine=st.one_of(st.none(), SETS),
    stored=st.sampled_from([None, DEDICATED]),
    wished=st.booleans(),
    strayed=st.booleans(),
)
def test_pins_of_the_user_are_told_from_ours_whenever_it_is_broken_off(
    old: frozenset[int], new: frozenset[int], mine: frozenset[int] | None, stored: PinningPolicy | None,
    wished: bool, strayed: bool,
) -> None:  # fmt: skip
    """Killed between any two steps, and between any two of undoing them."""
    before, after, own = format_cpuset(old), format_cpuset(new), format_cpuset(mine or ())
    user = Pinning(emulator=own or None) if stored is None else Pinning()
    pins = on(before, (own if stored is None else "") or before)
    policy = Policy(pinning=stored, following=None if stored else Following(before, None, _own(user, before)))
    live = replace(domain("a"), pinning=pins, policy=policy)
    wanted = on(after, user.emulator or after)
    aim = goal("a", wanted, following_live=Following(after, None, _own(user, after)), wished=wished or bool(stored))
    aim = replace(aim, policy=PinningPolicy("none") if aim.wished else None)
    seen = Seen({VCPU: new}, (VCPU,)) if strayed else Seen()
    found = steps_of((aim,), {"a": live}, {}, {"a": seen}, ONLINE, "live")
    states = [live]
    for step in found:
        states.append(_taken(states[-1], step, undone=False))
    assert (states[-1].pinning, (states[-1].policy or Policy()).following) == (wanted, aim.following_live)
    for step in reversed(found):
        states.append(_taken(states[-1], step, undone=True))
    assert (states[-1].pinning, states[-1].policy) == (pins, policy)
    for state in states:
        if state.policy != policy or stored is None:
            assert state.own_pinning.vcpus == ()
            assert state.own_pinning.emulator == user.emulator


def _own(user: Pinning, cpus: str) -> tuple[str, ...]:
    return ("emulator",) if user.emulator == cpus else ()


def _taken(live: Domain, step: Any, undone: bool) -> Domain:
    if isinstance(step, NotePolicy):
        return replace(live, policy=step.undone if undone else step.policy)
    cpus = format_cpuset(step.back if undone else step.cpus)
    if step.thread == VCPU:
        return replace(live, pinning=replace(live.pinning, vcpus=(VcpuPin(0, cpus),)))
    return replace(live, pinning=replace(live.pinning, emulator=cpus))
