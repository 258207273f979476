# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What others do to VMs while their pins are changed, and VMs that cannot be read."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Domain,
    Following,
    Home,
    Pinning,
    PinningPolicy,
    Policy,
    parse_domain,
    policy_from_xml,
    policy_to_xml,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import api, domains, metadata
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning import applying, reading
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.applying import (
    Work,
    carry_out,
    redefined,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.reading import Vm
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt._pinning.steps import (
    NotePolicy,
    Redefine,
)

from tests.unit.libvirt.binding import Libvirt, LibvirtError

ONLINE = frozenset(range(4))
VCPU = ("vcpu", 0)


def vm(policy: str = "", pins: str = "", name: str = "web") -> Domain:
    element = (
        '<metadata><k:policy xmlns:k="urn:virtops:kvm_fleet:policy" version="1">'
        f"<k:pinning {policy}/></k:policy></metadata>"
        if policy
        else ""
    )
    return parse_domain(
        f"<domain id='3'><name>{name}</name><uuid>u-{name}</uuid>{element}<vcpu>1</vcpu>"
        f"<cputune>{pins}</cputune></domain>"
    )


def fake(monkeypatch: pytest.MonkeyPatch, live: Policy | None, defined: str | None = None) -> SimpleNamespace:
    """A VM as libvirt has it, with a live policy or a definition."""
    libvirt = Libvirt()
    for module in (api, applying, reading, domains, metadata):
        monkeypatch.setattr(module, "libvirt", libvirt)
    handle = SimpleNamespace(policy=live, name=lambda: "web", XMLDesc=lambda flags: defined)
    handle.metadata = lambda *args: policy_to_xml(handle.policy)
    handle.setMetadata = lambda kind, text, *args: vars(handle).update(policy=policy_from_xml(text))
    return handle


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
    found = "<domain><name>web</name><uuid>u-web</uuid><vcpu>1</vcpu></domain>"
    handle = fake(monkeypatch, live=None, defined=found)
    handle.isPersistent = lambda: 0
    monkeypatch.setattr(applying, "reread", lambda handle: Vm(handle, vm(), vm()))
    work = Work((written(parse_domain(found)),), {"u-web": Vm(handle, None, vm())}, frozenset(), ONLINE)
    with pytest.raises(FleetError) as caught:
        carry_out(None, work, lambda gone: None)
    assert (caught.value.code, caught.value.facts["rolled_back"]) == ("changed_meanwhile", True)


def test_record_of_pins_leaves_what_others_store_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The home that a maintenance stores, for one."""
    handle = fake(monkeypatch, live=Policy())
    pinning, following = PinningPolicy("none"), Following("0-2")
    step = NotePolicy("u-web", "web", Policy(pinning=pinning, following=following), Policy())
    others = Policy("manual", home=Home("u-1", "hv1"))
    work = Work((step,), {"u-web": Vm(handle, vm(), None)}, frozenset(), ONLINE)
    handle.policy = others
    carry_out(None, work, lambda gone: None)
    assert handle.policy == replace(others, pinning=pinning, following=following)

    def fails(gone: frozenset[str]) -> None:
        handle.policy = replace(handle.policy, hosts=("hv2",))
        raise FleetError("No.")

    monkeypatch.setattr(applying, "reread", lambda handle: None)
    with pytest.raises(FleetError):
        carry_out(None, work, fails)
    assert handle.policy == replace(others, hosts=("hv2",))


def test_what_others_store_meanwhile_is_no_difference_that_stays_behind() -> None:
    one, other = (replace(vm(), policy=policy) for policy in (Policy("manual"), Policy(home=Home("u-1", "hv1"))))
    pinned = replace(vm(), policy=Policy(pinning=PinningPolicy("none")))
    assert applying.differences(Vm(None, None, one), Vm(None, None, other), ONLINE) == []
    assert applying.differences(Vm(None, None, one), Vm(None, None, pinned), ONLINE) == ["definition"]


def test_lost_connection_is_an_error_that_names_the_vm(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(flags: int) -> str:
        raise LibvirtError("Cannot recv data")

    handle = fake(monkeypatch, live=None)
    handle.XMLDesc = lost
    with pytest.raises(FleetError, match="Reading VM web: Cannot recv data") as caught:
        reading.reread(handle)
    assert (caught.value.code, caught.value.facts["vm"]) == ("libvirt", "web")


@pytest.mark.parametrize(
    ("xml", "code"),
    [
        ("<domain><name>web</name><vcpu cpuset='x'>1</vcpu></domain>", "bad_cpuset"),
        (
            "<domain><name>web</name><metadata><k:policy xmlns:k='urn:virtops:kvm_fleet:policy' version='9'/>"
            "</metadata></domain>",
            "policy_version",
        ),
    ],
)
def test_vm_that_nobody_understands_is_named_once(monkeypatch: pytest.MonkeyPatch, xml: str, code: str) -> None:
    with pytest.raises(FleetError) as caught:
        reading.reread(fake(monkeypatch, live=None, defined=xml))
    assert (caught.value.code, caught.value.facts["vm"], caught.value.msg.count("VM web")) == (code, "web", 1)
