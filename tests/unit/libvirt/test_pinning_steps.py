# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done for the pins of a host, in which order, and what is noted so that it can be undone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Domain,
    Following,
    NumaMemory,
    Pinning,
    PinningPolicy,
    Policy,
    VcpuPin,
    parse_domain,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.seeing import Seen
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.steps import (
    BindMemory,
    NotePolicy,
    PinThread,
    Redefine,
    movable_memory,
    policy_put_back,
    steps_of,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import Aim
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import format_cpuset
from hypothesis import given
from hypothesis import strategies as st

ONLINE = frozenset(range(4))
VCPU, EMULATOR = ("vcpu", 0), ("emulator", None)
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


def steps(
    *aims: Aim, seen: dict[str, Seen] | None = None, apply_to: str = "both", **lives: Domain
) -> list[tuple[str, str]]:
    """The steps in short, for VMs that run and have no definition."""
    found = steps_of(aims, lives, {}, seen or {}, ONLINE, apply_to)
    return [(step.name, str(step)) for step in found]


def test_nothing_is_done_for_what_is_there() -> None:
    floating = frozenset({("vcpu", 0), ("emulator", None)})
    assert steps(goal("a", on("0-3"), floating=floating), a=domain("a")) == []


def test_floating_threads_leave_before_and_come_back_after_those_who_own_cpus() -> None:
    found = steps(
        goal("own", on("3", "0"), wished=True, cpus=frozenset({3}), policy=DEDICATED),
        goal("leaves", on("0-2")),
        goal("both", on("1-2"), following_live=Following("1-2")),
        goal("gains", on("0-2")),
        own=domain("own", vcpu="0", emulator="0"),
        leaves=domain("leaves", vcpu="0-3", emulator="0-3"),
        both=domain("both", vcpu="2-3", emulator="1-2"),
        gains=domain("gains", vcpu="0", emulator="0-2"),
    )
    assert found == [
        ("leaves", "vCPU 0 on CPU 0-2"),
        ("leaves", "emulator on CPU 0-2"),
        ("both", "policy of the running VM"),
        ("both", "vCPU 0 on CPU 2"),
        ("own", "policy of the running VM"),
        ("own", "vCPU 0 on CPU 3"),
        ("both", "vCPU 0 on CPU 1-2"),
        ("both", "policy of the running VM"),
        ("gains", "vCPU 0 on CPU 0-2"),
    ]


def test_whoever_gives_up_cpus_goes_before_whoever_gets_them() -> None:
    found = steps(
        goal("a", on("0"), wished=True, cpus=frozenset({0})),
        goal("b", on("1-3"), wished=True),
        a=domain("a", vcpu="0-3", emulator="0-3"),
        b=domain("b", vcpu="0", emulator="0"),
    )
    assert [name for name, _step in found] == ["b", "b", "a", "a"]


def test_definitions_are_written_last_and_only_where_they_differ() -> None:
    aims = [
        goal("same", None, Pinning(cpuset="0-1")),
        goal("pins", None, on("1")),
        goal("policy", on("0-2"), Pinning(), following_defined=Following("0-3")),
    ]
    definitions = {
        "same": domain("same", live=False, cpuset="0-1"),
        "pins": domain("pins", live=False),
        "policy": domain("policy", live=False),
    }
    found = steps_of(aims, {"policy": domain("policy")}, definitions, {}, ONLINE, "both")
    assert [(type(step), step.name) for step in found] == [
        (NotePolicy, "policy"),
        (PinThread, "policy"),
        (PinThread, "policy"),
        (Redefine, "pins"),
        (Redefine, "policy"),
    ]


def test_thread_that_runs_elsewhere_is_pinned_again() -> None:
    seen = Seen({VCPU: frozenset({2}), EMULATOR: frozenset({1})}, strays=(VCPU,))
    found = steps(goal("a", on("1")), seen={"a": seen}, a=domain("a", vcpu="1", emulator="1"))
    assert found == [("a", "vCPU 0 on CPU 1")]


@pytest.mark.parametrize(
    ("apply_to", "wished", "live", "defined"),
    [
        ("both", True, DEDICATED, DEDICATED),
        ("live", True, DEDICATED, None),
        ("definition", True, None, DEDICATED),
        ("both", False, None, None),
    ],
)
def test_policy_is_stored_where_it_is_applied(
    apply_to: str, wished: bool, live: PinningPolicy | None, defined: PinningPolicy | None
) -> None:
    aim = goal("a", on("1"), on("1"), wished=wished, policy=DEDICATED)
    found = steps_of((aim,), {"a": domain("a")}, {"a": domain("a", live=False)}, {}, ONLINE, apply_to)
    notes = [step.policy.pinning for step in found if isinstance(step, NotePolicy)]
    assert set(notes) <= {live}
    assert bool(live) <= bool(notes)
    assert [step.policy.pinning for step in found if isinstance(step, Redefine)] == [defined]


@pytest.mark.parametrize(
    ("live", "before", "expected"),
    [
        # Pins that were there are put back, and nothing else is left behind.
        (domain("a", vcpu="1", emulator="1"), {VCPU: {1}, EMULATOR: {1}}, None),
        (domain("a"), {}, None),
        (domain("a"), {VCPU: {0, 1, 2, 3}}, Following("0-3")),
        (domain("a", cpuset="1-2"), {VCPU: {1, 2}, EMULATOR: {1, 2}}, Following("1-2", "1-2")),
        (domain("a", emulator="0-3"), {VCPU: {0, 1, 2, 3}}, Following("0-3", None, ("emulator",))),
        # It cannot be said for two sets which is whose.
        (domain("a"), {VCPU: {0, 1, 2, 3}, EMULATOR: {1}}, None),
    ],
)
def test_pin_that_stays_behind_is_known_to_be_ours(
    live: Domain, before: dict[Any, set[int]], expected: Following | None
) -> None:
    found = policy_put_back(live, {thread: frozenset(cpus) for thread, cpus in before.items()})
    assert found == Policy(following=expected)


def test_thread_without_a_pin_is_put_back_to_where_it_counts_as_ours() -> None:
    """A vCPU that was plugged meanwhile, for one; libvirt cannot take its pin away any more."""
    plugged = replace(domain("a", emulator="0-2"), policy=Policy(following=Following("0-2")))
    found = steps_of((goal("a", on("0-1"), following_live=Following("0-1")),), {"a": plugged}, {}, {}, ONLINE, "both")
    pins = {step.thread: step for step in found if isinstance(step, PinThread)}
    assert {thread: (step.before, step.back) for thread, step in pins.items()} == {
        VCPU: (ONLINE, frozenset({0, 1, 2})),
        EMULATOR: (frozenset({0, 1, 2}), frozenset({0, 1, 2})),
    }
    # Not where that is impossible now, and not where a policy chose the pins.
    for stored in (Policy(following=Following("0-7")), Policy(pinning=DEDICATED, following=Following("0-2"))):
        again = steps_of((goal("a", on("1")),), {"a": replace(plugged, policy=stored)}, {}, {}, ONLINE, "both")
        assert [step.back for step in again if isinstance(step, PinThread) and step.thread == VCPU] == [ONLINE]


def test_what_is_stored_already_is_put_back() -> None:
    for stored in (Policy("manual", following=Following("1")), Policy(pinning=DEDICATED)):
        live = replace(domain("a"), policy=stored)
        assert policy_put_back(live, {VCPU: ONLINE}) == stored


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (("restrictive", "0"), ("restrictive", "1"), "1"),
        (("restrictive", "0"), ("restrictive", "0"), None),
        (("restrictive", "auto"), ("restrictive", "0"), None),
        (("restrictive", "0"), None, None),
        (None, ("restrictive", "0"), None),
        (("strict", "0"), ("strict", "1"), None),
        (("preferred", "0"), ("restrictive", "1"), None),
        (("restrictive", "0"), ("strict", "1"), None),
    ],
)
def test_memory_of_a_running_vm_moves_only_where_libvirt_can(
    before: tuple[str, str] | None, after: tuple[str, str] | None, expected: str | None
) -> None:
    live = replace(domain("a"), pinning=Pinning(memory=NumaMemory(*before) if before else None))
    wanted = on("0-3", memory=NumaMemory(*after) if after else None)
    assert movable_memory(live, wanted) == expected
    found = steps_of((goal("a", wanted),), {"a": live}, {}, {}, ONLINE, "both")
    assert [step.nodes for step in found if isinstance(step, BindMemory)] == ([expected] if expected else [])


SETS = st.frozensets(st.integers(0, 3), min_size=1)


@given(old=st.integers(0, 3), new=st.integers(0, 3), floating=st.lists(st.tuples(SETS, SETS), max_size=4))
def test_nobody_is_on_a_cpu_when_its_owner_gets_it(
    old: int, new: int, floating: list[tuple[frozenset[int], frozenset[int]]]
) -> None:
    """Neither on the old one, as long as its owner is there."""
    pairs = [(before - {old}, after - {new}) for before, after in floating if before - {old} and after - {new}]
    lives = {"own": domain("own", vcpu=str(old), emulator=str(old))}
    aims = [goal("own", on(str(new)), wished=True, cpus=frozenset({new}))]
    for number, (before, after) in enumerate(pairs):
        name = f"vm{number}"
        lives[name] = domain(name, vcpu=format_cpuset(before), emulator=format_cpuset(before))
        aims.append(goal(name, on(format_cpuset(after))))
    where = {(name, thread): frozenset(cpus) for name, cpus in _sets(old, pairs) for thread in (VCPU, EMULATOR)}
    for step in steps_of(aims, lives, {}, {}, ONLINE, "both"):
        assert isinstance(step, PinThread)
        where[step.name, step.thread] = step.cpus
        owned = where["own", VCPU] | where["own", EMULATOR]
        shared = frozenset().union(*(cpus for (name, _thread), cpus in where.items() if name != "own"))
        # Only where a thread has no CPU in common with its former ones must it go to its new ones at once.
        forced = frozenset().union(*(after for before, after in pairs if not before & after))
        assert not owned & shared - forced
    assert where == {
        (name, thread): cpus
        for name, cpus in _sets(new, [(after, after) for _before, after in pairs])
        for thread in (VCPU, EMULATOR)
    }


def _sets(owned: int, pairs: list[tuple[frozenset[int], frozenset[int]]]) -> list[tuple[str, frozenset[int]]]:
    return [("own", frozenset({owned})), *((f"vm{number}", before) for number, (before, _after) in enumerate(pairs))]
