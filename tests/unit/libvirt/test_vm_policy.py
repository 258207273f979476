# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of each option, and of policies that others change at the same moment.

No real daemon can be made to do the latter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import Following, Home, PinningPolicy, Policy
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import vm_policy
from ansible_collections.virtops.kvm_fleet.plugins.modules import vm_policy as vm_policy_module

FULL = Policy(
    "manual",
    ("hv1",),
    Home("4c4c4544", "hv1"),
    PinningPolicy("dedicated"),
    Following("0-1"),
    frozenset({"db"}),
    frozenset({"app"}),
    10,
    "refused",
)
XML = "<domain type='kvm' id='3'><name>db1</name><uuid>u</uuid><memory>4</memory><vcpu>1</vcpu></domain>"


class Domain:
    """A running VM with one policy, which somebody changes after it was read ``at`` so many times."""

    def __init__(self, stored: Policy, meanwhile: Policy | None = None, at: int = 0) -> None:
        self.stored, self.meanwhile, self.at = stored, meanwhile, at

    def name(self) -> str:
        return "db1"

    def read(self) -> Policy:
        found = self.stored
        self.at -= 1
        if self.at == 0 and self.meanwhile is not None:
            self.stored = self.meanwhile
        return found


@pytest.fixture
def libvirt(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    def write(domain: Domain, policy: Policy, flags: int) -> None:
        domain.stored = policy

    monkeypatch.setattr(vm_policy, "get_each", lambda conn, names: [conn])
    monkeypatch.setattr(vm_policy, "states_of", lambda domain: (1,))
    monkeypatch.setattr(vm_policy, "live_xml", lambda domain: XML)
    monkeypatch.setattr(vm_policy, "read_policy", lambda domain, flags: domain.read())
    monkeypatch.setattr(vm_policy, "write_policy", write)
    return monkeypatch


@pytest.mark.parametrize("before", [Policy(), FULL])
@pytest.mark.parametrize(
    ("option", "given", "stored"),
    [
        ("migration", "pinned", "pinned"),
        ("migration", "default", None),
        ("hosts", ["hv2", "hv1"], ("hv2", "hv1")),
        ("hosts", [], ()),
        ("home", "none", None),
        ("keep_apart", ["web", "rack1"], frozenset({"web", "rack1"})),
        ("keep_apart", ["web", "web"], frozenset({"web"})),
        ("keep_apart", [], frozenset()),
        ("keep_together", ["shop"], frozenset({"shop"})),
        ("keep_together", [], frozenset()),
        ("priority", -3, -3),
        ("priority", 0, 0),
        ("hot_unplug", "allowed", "allowed"),
        ("hot_unplug", "default", None),
    ],
)
def test_an_option_that_is_given_replaces_its_part_and_no_other(
    libvirt: Any, before: Policy, option: str, given: Any, stored: object
) -> None:
    domain = Domain(before)
    nothing = dict.fromkeys(vm_policy_module.OPTIONS)
    for check_mode in (True, False):
        (change,) = vm_policy.set_policies(domain, [{"name": "db1", **nothing, option: given}], "hv1", check_mode)
        assert (change.before, change.after) == (before, replace(before, **{option: stored}))
        assert domain.stored == (before if check_mode else change.after)


def test_every_option_is_stored(libvirt: Any) -> None:
    assert set(vm_policy_module.OPTIONS) == set(Policy().as_dict())


def test_groups_in_another_order_are_no_change(libvirt: Any) -> None:
    domain = Domain(Policy(keep_apart=frozenset({"a", "b"})))
    (change,) = vm_policy.set_policies(domain, [{"name": "db1", "keep_apart": ["b", "a"]}], "hv1", False)
    assert not change.changed


@pytest.mark.parametrize(
    ("option", "given", "words"),
    [
        ("keep_apart", ["db", ""], "VM db1 .*keep_apart has the group name '', but .*empty list"),
        ("keep_together", ["db,web"], "VM db1 .*keep_together has the group name 'db,web', but .*commas"),
        ("priority", True, "VM db1 .*The priority True is no whole number"),
    ],
)
def test_what_cannot_be_is_refused_with_the_vm_and_the_option(
    libvirt: Any, option: str, given: Any, words: str
) -> None:
    domain = Domain(FULL)
    with pytest.raises(FleetError, match=words) as caught:
        vm_policy.set_policies(domain, [{"name": "db1", "migration": "automatic", option: given}], "hv1", False)
    assert (caught.value.code, caught.value.facts) == ("bad_policy", {"vm": "db1", "option": option})
    assert domain.stored == FULL


def test_what_others_store_meanwhile_is_kept(libvirt: Any) -> None:
    pinned = Policy(pinning=PinningPolicy("dedicated"), following=Following("0-1", None))
    domain = Domain(Policy(hosts=("hv1",)), pinned, at=1)
    vm_policy.set_policies(domain, [{"name": "db1", "migration": "manual", "hosts": ["hv1", "hv2"]}], "hv1", False)
    assert domain.stored == replace(pinned, migration="manual", hosts=("hv1", "hv2"))


def test_nothing_is_written_where_nothing_changes(libvirt: Any) -> None:
    domain = Domain(Policy("manual"), Policy("manual", ("hv9",)), at=1)
    vm_policy.set_policies(domain, [{"name": "db1", "migration": "manual"}], "hv1", False)
    assert domain.stored == Policy("manual", ("hv9",))
