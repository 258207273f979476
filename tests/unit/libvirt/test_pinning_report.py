# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module tells about pins: whether something changes, and what."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Domain,
    Following,
    Pinning,
    PinningPolicy,
    Policy,
    VcpuPin,
    parse_domain,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.reading import Vm
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.report import Task, host_record, texts
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.seeing import Seen
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.steps import steps_of
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import Aim
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.pinning.residents import aimed, host, pins, vm
from tests.unit.pinning.small import cells

ONLINE = frozenset(range(4))
VCPU, EMULATOR = ("vcpu", 0), ("emulator", None)
DEDICATED = PinningPolicy("dedicated")


def domain(live: bool, pinning: Pinning, policy: Policy | None = None) -> Domain:
    running = " id='7'" if live else ""
    text = f"<domain type='kvm'{running}><name>web</name><uuid>u-web</uuid><memory>1</memory><vcpu>1</vcpu></domain>"
    return replace(parse_domain(text), pinning=pinning, policy=policy)


def told(aim: Aim, live: Domain | None, defined: Domain | None = None, seen: Seen | None = None) -> tuple[str, str]:
    """The texts before and after, which must differ if, and only if, something is done."""
    lives, definitions = ({"u-web": each} if each else {} for each in (live, defined))
    found = seen or Seen()
    steps = steps_of((aim,), lives, definitions, {"u-web": found}, ONLINE, "both")
    texted = texts((Task(aim, Vm(None, live, defined), "both", bool(steps), found, None),), ONLINE)
    assert (texted[0] != texted[1]) == bool(steps), (steps, *texted)
    return texted


def aim(live: Pinning | None, defined: Pinning | None = None, **more: object) -> Aim:
    return replace(Aim("u-web", "web", False, False, None, defined, live), **more)


def on(vcpu: str | None, emulator: str | None = None, cpuset: str | None = None, policy: str = "") -> Pinning:
    return Pinning(policy, (VcpuPin(0, vcpu),) if vcpu else (), emulator, cpuset=cpuset)


@pytest.mark.parametrize(
    ("live", "wanted", "before", "after"),
    [
        # A pin on the CPUs where a thread runs anyway tells others that they are taken.
        (on(None, "1", "0"), on("0", "1", "0", "dedicated"), "vCPU 0 on 0 (no pin)", "vCPU 0 on 0"),
        (on("0", "1-2"), on("0", "1"), "emulator on 1-2", "emulator on 1"),
        # A CPU that is offline is no place, but it is in the pin.
        (on("0", "1-5"), on("0", "1-3"), "emulator on 1-5", "emulator on 1-3"),
        (on("0", "0-3"), on("1", "0-3"), "vCPU 0 on 0", "vCPU 0 on 1"),
    ],
)
def test_pin_is_told_from_the_same_cpus_without_one(live: Pinning, wanted: Pinning, before: str, after: str) -> None:
    was, becomes = (text.splitlines() for text in told(aim(wanted), domain(True, live)))
    assert [line for line in was if line not in becomes] == [f"running: {before}"]
    assert [line for line in becomes if line not in was] == [f"running: {after}"]


def test_threads_that_are_the_users_own_are_told() -> None:
    live = domain(True, on("0-3", "0-3"), Policy(following=Following("0-3")))
    before, after = told(aim(on("0-3", "0-3"), following_live=Following("0-3", None, ("emulator",))), live)
    assert "following 0-3, limit none" in before
    assert "following 0-3, but for emulator, limit none" in after


def test_thread_that_was_moved_is_told_even_where_it_may_be_by_its_pin() -> None:
    """A control group can leave it less than its pin, and the kernel more."""
    seen = Seen({VCPU: frozenset({0, 1})}, strays=(VCPU,))
    before, after = told(aim(on("0-1", "0")), domain(True, on("0-1", "0")), seen=seen)
    assert "vCPU 0 on 0-1 (other than its pin)" in before
    assert "vCPU 0 on 0-1\n" in after


@pytest.mark.parametrize(
    ("isolated", "keep_free", "shared"),
    [("", (), "1-7"), ("4-7", (), "1-3"), ("", (6, 7), "1-5"), ("0-7", (), "1-7")],
)
def test_shared_are_the_cpus_that_threads_without_pins_get(
    isolated: str, keep_free: tuple[int, ...], shared: str
) -> None:
    """Where all CPUs are isolated, none of them is taken from these threads."""
    state = host(cells("0 1 2 3|4 5 6 7"), isolated=isolated)
    owner = vm("own", pins("0 | 1"), PinningPolicy("dedicated"), vcpus=1)
    goal = aimed(state, [owner, vm("rest", vcpus=1)], keep_free=frozenset(keep_free))
    record = host_record(state, goal)
    assert record == {"shared_cpus": shared, "exclusive_cpus": "0", "isolated_cpus": isolated}
    sets = {each.live.emulator for each in goal.aims if each.name == "rest" and each.live}
    assert sets == {shared}


SETS = st.sampled_from([None, "0", "1-2", "0-3", "0-5"])
PINS = st.builds(on, SETS, SETS, SETS)
WANTED = st.builds(on, SETS.filter(bool), SETS.filter(bool), SETS, st.sampled_from(["none", "dedicated"]))
FOLLOWING = st.one_of(
    st.none(),
    st.builds(
        Following, st.sampled_from(["0", "0-3"]), SETS, st.sampled_from([(), ("vcpu0",)]), st.sampled_from([(), ("1",)])
    ),
)
POLICIES = st.one_of(st.none(), st.builds(Policy, pinning=st.sampled_from([None, DEDICATED]), following=FOLLOWING))


@given(
    present=st.tuples(PINS, PINS), policies=st.tuples(POLICIES, POLICIES), wanted=st.tuples(WANTED, PINS),
    followings=st.tuples(FOLLOWING, FOLLOWING), wished=st.booleans(),
    strays=st.sampled_from([(), (VCPU,), (EMULATOR,)]),
)  # fmt: skip
def test_something_changes_exactly_if_something_is_done(
    present: tuple[Pinning, Pinning],
    policies: tuple[Policy | None, Policy | None],
    wanted: tuple[Pinning, Pinning],
    followings: tuple[Following | None, Following | None],
    wished: bool,
    strays: tuple[tuple[str, int | None], ...],
) -> None:
    each = aim(*wanted, following_live=followings[0], following_defined=followings[1], wished=wished)
    each = replace(each, policy=DEDICATED if wished else None)
    seen = Seen({thread: frozenset({3}) for thread in strays}, strays)
    live, defined = (domain(state, *found) for state, *found in zip((True, False), present, policies, strict=True))
    told(each, live, defined, seen)
