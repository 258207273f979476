# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is asked for VMs, what is seen of their threads, and what becomes of VMs that go while they are changed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Domain,
    Pinning,
    PinningPolicy,
    Policy,
    VcpuPin,
    parse_domain,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.threads import Process, Thread
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import api
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning import applying
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.applying import (
    Work,
    carry_out,
    redefined,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.reading import Vm
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.seeing import see
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.steps import PinThread, Redefine
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.wishes import wish_of
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


class LibvirtError(Exception):
    def get_error_code(self) -> int:
        return 38

    def get_error_message(self) -> str:
        return str(self)


class Pins:
    """Two VMs, `a` asked for and `b` following, whose pins may be refused: by their VM and CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refused: set[tuple[str, int]], gone: set[str]) -> None:
        self.on = {"a": frozenset({0}), "b": frozenset({0})}
        self.refused, self.gone = refused, gone
        self.vms = {name: self.read(name) for name in self.on}
        libvirt = SimpleNamespace(libvirtError=LibvirtError, VIR_ERR_NO_DOMAIN=42)
        monkeypatch.setattr(api, "libvirt", libvirt)
        monkeypatch.setattr(applying, "libvirt", libvirt)
        monkeypatch.setattr(applying, "pin", self.pin)
        monkeypatch.setattr(applying, "reread", lambda handle: None if handle in self.gone else self.read(handle))

    def read(self, name: str) -> Vm:
        cpus = min(self.on[name])
        return Vm(name, vm(name=name, pins=f"<vcpupin vcpu='0' cpuset='{cpus}'/><emulatorpin cpuset='{cpus}'/>"), None)

    def pin(self, name: str, thread: Any, cpus: frozenset[int]) -> None:
        if name in self.gone or (name, min(cpus)) in self.refused:
            raise LibvirtError(f"no {min(cpus)} for {name}")
        self.on[name] = cpus

    def run(self, verify: Any = lambda gone: None) -> None:
        steps = tuple(PinThread(f"u-{name}", name, VCPU, frozenset({1}), frozenset({0})) for name in ("b", "a"))
        vms = {f"u-{name}": found for name, found in self.vms.items()}
        carry_out(None, Work(steps, vms, frozenset({"u-b"}), ONLINE), verify)


def test_everything_is_done_and_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    pins, seen = Pins(monkeypatch, set(), set()), []
    pins.run(seen.append)
    assert (pins.on, seen) == ({"a": {1}, "b": {1}}, [frozenset()])


def test_refusal_puts_back_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = Pins(monkeypatch, {("a", 1)}, set())
    with pytest.raises(FleetError, match="Everything was put back") as caught:
        pins.run()
    facts = caught.value.facts
    assert pins.on == {"a": {0}, "b": {0}}
    assert (caught.value.code, facts["vm"], facts["step"]) == ("pin_failed", "a", "vCPU 0 on CPU 1")
    assert (facts["rolled_back"], facts["not_rolled_back"], facts["libvirt_message"]) == (True, [], "no 1 for a")


def test_what_cannot_be_put_back_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = Pins(monkeypatch, {("a", 1), ("b", 0)}, set())
    with pytest.raises(FleetError, match="Not put back as it was: VM b") as caught:
        pins.run()
    assert caught.value.facts["rolled_back"] is False
    assert [each["vm"] for each in caught.value.facts["not_rolled_back"]] == ["b"]


def test_difference_that_is_found_at_the_end_puts_everything_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def differs(gone: frozenset[str]) -> None:
        raise FleetError("VM a differs.", "not_applied", vm="a")

    pins = Pins(monkeypatch, set(), set())
    with pytest.raises(FleetError, match=r"VM a differs\. Everything was put back") as caught:
        pins.run(differs)
    assert (caught.value.code, pins.on) == ("not_applied", {"a": {0}, "b": {0}})


def test_unexpected_error_puts_everything_back_and_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(gone: frozenset[str]) -> None:
        raise ZeroDivisionError

    pins = Pins(monkeypatch, set(), set())
    with pytest.raises(ZeroDivisionError):
        pins.run(breaks)
    assert pins.on == {"a": {0}, "b": {0}}


def test_follower_that_has_gone_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pins, seen = Pins(monkeypatch, set(), {"b"}), []
    pins.run(seen.append)
    assert (pins.on["a"], seen) == ({1}, [frozenset({"u-b"})])


def test_vm_asked_for_must_not_go(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = Pins(monkeypatch, set(), {"a"})
    with pytest.raises(FleetError, match="Everything was put back") as caught:
        pins.run()
    assert (caught.value.facts["vm"], pins.on["b"]) == ("a", {0})


def test_pin_that_failed_may_be_in_force_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """libvirt shows what was before; whether the kernel has it, too, cannot be found out here."""
    pins = Pins(monkeypatch, {("a", 1), ("a", 0)}, set())
    with pytest.raises(FleetError, match="Not put back as it was: VM a"):
        pins.run()
    here = process(("vcpu", 0, {0}), ("emulator", None, {0}))
    monkeypatch.setattr(Vm, "process", lambda self: here)
    with pytest.raises(FleetError, match="Everything was put back"):
        pins.run()


def test_what_libvirt_does_not_put_back_in_truth_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = Pins(monkeypatch, {("a", 1)}, set())
    truly = pins.pin

    def forgets(name: str, thread: Any, cpus: frozenset[int]) -> None:
        if (name, min(cpus)) != ("b", 0):
            truly(name, thread, cpus)

    monkeypatch.setattr(applying, "pin", forgets)
    with pytest.raises(FleetError, match=r"VM b \(it has other pins than before: vCPU 0") as caught:
        pins.run()
    assert [each["vm"] for each in caught.value.facts["not_rolled_back"]] == ["b"]


def written(found: Domain, **more: Any) -> Redefine:
    return Redefine("u-web", "web", Pinning(cpuset="1"), Policy(pinning=PinningPolicy("none"), **more), found)


def test_definition_gets_pins_and_policy_at_once_and_only_once() -> None:
    before = "<domain><name>web</name><uuid>u</uuid><vcpu>1</vcpu></domain>"
    step = written(parse_domain(before))
    after = redefined(before, step)
    parsed = parse_domain(after)
    assert (parsed.pinning.cpuset, parsed.policy) == ("1", step.policy)
    assert redefined(after, step) == after


@pytest.mark.parametrize(
    "meanwhile",
    [
        "<domain><name>web</name><uuid>u</uuid><vcpu cpuset='0'>1</vcpu></domain>",
        "<domain><name>web</name><uuid>u</uuid><metadata><k:policy xmlns:k='urn:virtops:kvm_fleet:policy' version='1'>"
        "<k:migration>pinned</k:migration></k:policy></metadata><vcpu>1</vcpu></domain>",
    ],
)
def test_definition_that_others_changed_meanwhile_is_not_overwritten(meanwhile: str) -> None:
    step = written(parse_domain("<domain><name>web</name><uuid>u</uuid><vcpu>1</vcpu></domain>"))
    with pytest.raises(FleetError) as caught:
        redefined(meanwhile, step)
    assert caught.value.code == "changed_meanwhile"


def test_definition_that_was_removed_meanwhile_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    Pins(monkeypatch, set(), set())
    handle = SimpleNamespace(isPersistent=lambda: 0)
    step = written(vm())
    monkeypatch.setattr(applying, "reread", lambda handle: Vm(handle, vm(), vm()))
    with pytest.raises(FleetError) as caught:
        carry_out(None, Work((step,), {"u-web": Vm(handle, None, vm())}, frozenset(), ONLINE), lambda gone: None)
    assert caught.value.code == "changed_meanwhile"
