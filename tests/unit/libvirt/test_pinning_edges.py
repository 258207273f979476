# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked for VMs, and what is seen of their threads."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Domain,
    Pinning,
    PinningPolicy,
    VcpuPin,
    parse_domain,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.threads import Process, Thread
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.seeing import see
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.wishes import state_asked, wish_of
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pin_rules import policy_of
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import Wish

ONLINE = frozenset(range(4))
VCPU, EMULATOR = ("vcpu", 0), ("emulator", None)


def vm(policy: str = "", pins: str = "", name: str = "web") -> Domain:
    metadata = (
        '<metadata><k:policy xmlns:k="urn:virtops:kvm_fleet:policy" version="1">'
        f"<k:pinning {policy}/></k:policy></metadata>"
        if policy
        else ""
    )
    return parse_domain(
        f"<domain id='3'><name>{name}</name><uuid>u-{name}</uuid>{metadata}<vcpu>1</vcpu>"
        f"<cputune>{pins}</cputune></domain>"
    )


STORED = vm("policy='dedicated' thread_policy='isolate'")
PINNED = vm(pins="<vcpupin vcpu='0' cpuset='1'/>")


@pytest.mark.parametrize(
    ("domain", "options", "expected"),
    [
        (vm(), {}, PinningPolicy("none")),
        (PINNED, {}, PinningPolicy("manual")),
        (STORED, {}, PinningPolicy("dedicated", "isolate")),
        (STORED, {"emulator_threads": "isolate"}, PinningPolicy("dedicated", "isolate", "isolate")),
        # A policy that is given is complete.
        (STORED, {"policy": "dedicated"}, PinningPolicy("dedicated")),
        (STORED, {"policy": "numa", "host_cells": "0-1"}, PinningPolicy("numa", host_cells=frozenset({0, 1}))),
        (STORED, {"policy": "none"}, PinningPolicy("none")),
    ],
)
def test_policy_that_is_given_is_complete_and_another_stays(
    domain: Domain, options: dict[str, Any], expected: PinningPolicy
) -> None:
    assert wish_of(options, domain, "live") == Wish("u-web", expected, None, "live")


NUMA = vm("policy='numa'")


@pytest.mark.parametrize(
    ("live", "defined", "apply_to", "expected"),
    [
        (STORED, NUMA, "live", STORED),
        (STORED, NUMA, "definition", NUMA),
        (STORED, None, "both", STORED),
        (None, NUMA, "both", NUMA),
        (STORED, STORED, "both", STORED),
        # What nobody stored, is by its pins.
        (PINNED, vm(), "both", PINNED),
        (vm("policy='none'"), vm(), "both", vm("policy='none'")),
    ],
)
def test_policy_that_stays_is_that_of_the_state_that_is_changed(
    live: Domain | None, defined: Domain | None, apply_to: str, expected: Domain
) -> None:
    assert state_asked({}, live, defined, apply_to) == expected


@pytest.mark.parametrize(("live", "defined"), [(STORED, NUMA), (vm(), NUMA), (STORED, vm())])
def test_policy_of_two_that_differ_must_be_said(live: Domain, defined: Domain) -> None:
    with pytest.raises(FleetError) as caught:
        state_asked({"host_cells": "0"}, live, defined, "both")
    assert (caught.value.code, caught.value.facts["vm"]) == ("bad_options", "web")
    assert all(policy_of(each).policy in caught.value.msg for each in (live, defined))
    assert state_asked({"policy": "numa"}, live, defined, "both") == live


def test_pins_are_taken_as_the_snapshot_has_them() -> None:
    data = {
        "policy": "dedicated",
        "vcpus": [{"vcpu": 0, "cpus": "1,2"}],
        "emulator": None,
        "iothreads": [],
        "cpuset": "0-2",
        "memory": None,
        "cells": [{"id": 0, "vcpus": "0", "memory_kib": 1}],
    }
    found = wish_of({"policy": "manual", "pins": data}, vm(), "both")
    assert found.pins == Pinning("manual", (VcpuPin(0, "1-2"),), cpuset="0-2")
    # What a policy chooses itself is no mistake as long as nothing is asked for.
    assert wish_of({"policy": "numa", "pins": {"policy": "numa", "vcpus": []}}, vm(), "both").pins is None


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ({"policy": "numa", "pins": {"emulator": "1"}}, "bad_options", "the policy 'numa' chooses emulator itself"),
        ({"policy": "none", "pins": {"cpuset": "1", "vcpus": [{}]}}, "bad_options", "Give only cpuset"),
        ({"policy": "manual", "pins": {"emulatorpin": "1"}}, "bad_options", "pins has no emulatorpin"),
        ({"policy": "manual", "pins": {"vcpus": [{"vcpu": 0}]}}, "bad_pins", "cpus"),
        ({"policy": "manual", "pins": {"vcpus": [{"vcpu": 0, "cpus": "1"}] * 2}}, "bad_options", "vCPU 0 twice"),
        ({"policy": "manual", "pins": {"cpuset": "x"}}, "bad_cpuset", "'x'"),
        ({"thread_policy": "isolate"}, "bad_options", "thread_policy"),
        ({"policy": "numa", "host_cells": ""}, "bad_options", "host_cells"),
    ],
)
def test_options_that_nobody_understands_are_refused_by_the_name_of_the_vm(
    options: dict[str, Any], code: str, words: str
) -> None:
    with pytest.raises(FleetError) as caught:
        wish_of(options, vm(), "both")
    assert (caught.value.code, caught.value.facts["vm"]) == (code, "web")
    assert caught.value.msg.startswith("VM web: ")
    assert words in caught.value.msg


def process(*threads: tuple[str, int | None, set[int]], allowed: set[int] | None = None) -> Process:
    found = tuple(Thread(kind, number, frozenset(cpus)) for kind, number, cpus in threads)
    return Process(7, found, None if allowed is None else frozenset(allowed))


@pytest.mark.parametrize(
    ("found", "strays", "unknown"),
    [
        (process(("vcpu", 0, {1}), ("emulator", None, {0, 2})), (), 0),
        (process(("vcpu", 0, {1, 2}), ("emulator", None, {0, 2})), (VCPU,), 0),
        (process(("vcpu", 0, {1}), ("emulator", None, {0})), (EMULATOR,), 0),
        # As far as the control group lets it.
        (process(("vcpu", 0, {1}), ("emulator", None, {0}), allowed={0, 1}), (), 0),
        (process(("vcpu", 0, {0}), ("emulator", None, {0}), allowed={0}), (), 1),
        (process(("emulator", None, {0, 2})), (), 1),
        (process(("vcpu", 0, {1}), ("emulator", None, {0, 2}), ("helper", None, {2})), (), 0),
        # Without control groups helpers stay where they are, and no pin can change that.
        (process(("vcpu", 0, {1}), ("emulator", None, {0, 2}), ("helper", None, {1, 2})), (), 1),
        (None, (), 1),
    ],
)
def test_thread_elsewhere_is_a_stray_and_what_is_not_found_is_not_known(
    found: Process | None, strays: tuple[Any, ...], unknown: int
) -> None:
    seen = see(found, {VCPU: frozenset({1}), EMULATOR: frozenset({0, 2})}, ONLINE)
    assert (seen.strays, len(seen.unknown)) == (strays, unknown)
