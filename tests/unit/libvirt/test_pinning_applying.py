# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All or nothing: what becomes of VMs that are changed, when something fails or goes."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Domain,
    parse_domain,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.threads import Process, Thread
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import api
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning import applying
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.applying import (
    Work,
    carry_out,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.reading import Vm
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.steps import (
    PinThread,
)

from tests.unit.libvirt.binding import Libvirt, LibvirtError

ONLINE = frozenset(range(4))
VCPU = ("vcpu", 0)


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


class Pins:
    """Two VMs, `a` asked for and `b` following, whose pins may be refused: by their VM and CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refused: set[tuple[str, int]], gone: set[str]) -> None:
        self.on = {"a": frozenset({0}), "b": frozenset({0})}
        self.refused, self.gone = refused, gone
        self.vms = {name: self.read(name) for name in self.on}
        libvirt = Libvirt()
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
    here = Process(7, (Thread("vcpu", 0, frozenset({0})), Thread("emulator", None, frozenset({0}))))
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


@pytest.mark.parametrize("refused", ["a", "b"])
def test_lost_connection_leaves_nobody_uncertain_of_what_is_put_back(
    monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    def lost(handle: Any) -> None:
        raise FleetError(f"Reading VM {handle}: Cannot recv data", "libvirt")

    pins = Pins(monkeypatch, {(refused, 1)}, set())
    monkeypatch.setattr(applying, "reread", lost)
    with pytest.raises(FleetError, match=r"VM b \(it could not be read again: Reading VM b") as caught:
        pins.run()
    assert (caught.value.code, caught.value.facts["libvirt_message"]) == ("pin_failed", f"no 1 for {refused}")
    assert [each["vm"] for each in caught.value.facts["not_rolled_back"]] == ["b", "a"]


def test_thread_may_be_put_back_to_where_it_counts_as_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = Pins(monkeypatch, {("a", 1)}, set())
    step = PinThread("u-b", "b", VCPU, frozenset({1}), frozenset({0}), undone=frozenset({2}))
    refused = PinThread("u-a", "a", VCPU, frozenset({1}), frozenset({0}))
    vms = {f"u-{name}": replace(found, live=vm(name=name)) for name, found in pins.vms.items()}
    monkeypatch.setattr(applying, "reread", lambda name: Vm(name, vm(name=name, pins=pinned_to(pins.on[name])), None))
    with pytest.raises(FleetError, match="Everything was put back"):
        carry_out(None, Work((step, refused), vms, frozenset(), frozenset({0})), lambda gone: None)
    assert pins.on["b"] == {2}


def pinned_to(cpus: frozenset[int]) -> str:
    return f"<vcpupin vcpu='0' cpuset='{min(cpus)}'/>"


def test_signal_puts_everything_back(monkeypatch: pytest.MonkeyPatch) -> None:
    pins = Pins(monkeypatch, set(), set())
    truly = pins.pin

    def interrupted(name: str, thread: Any, cpus: frozenset[int]) -> None:
        truly(name, thread, cpus)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(applying, "pin", interrupted)
    with pytest.raises(FleetError, match=r"SIGTERM\. Everything was put back") as caught:
        pins.run()
    facts = caught.value.facts
    assert (caught.value.code, facts["vm"], facts["step"]) == ("interrupted", "a", "vCPU 0 on CPU 1")
    assert pins.on == {"a": {0}, "b": {0}}
