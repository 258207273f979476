# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Policies that others change at the same moment, which no real daemon can be made to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import Following, PinningPolicy, Policy
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._libvirt import vm_policy

XML = "<domain type='kvm' id='3'><name>db1</name><uuid>u</uuid><memory>4</memory><vcpu>1</vcpu></domain>"


class Domain:
    """A running VM with one policy, which somebody changes after it was read ``at`` so many times."""

    def __init__(self, stored: Policy, meanwhile: Policy, at: int) -> None:
        self.stored, self.meanwhile, self.at = stored, meanwhile, at

    def name(self) -> str:
        return "db1"

    def read(self) -> Policy:
        found = self.stored
        self.at -= 1
        if self.at == 0:
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


def test_what_others_store_meanwhile_is_kept(libvirt: Any) -> None:
    pinned = Policy(pinning=PinningPolicy("dedicated"), following=Following("0-1", None))
    domain = Domain(Policy(hosts=("hv1",)), pinned, at=1)
    vm_policy.set_policies(domain, [{"name": "db1", "migration": "manual", "hosts": ["hv1", "hv2"]}], "hv1", False)
    assert domain.stored == replace(pinned, migration="manual", hosts=("hv1", "hv2"))


def test_nothing_is_written_where_nothing_changes(libvirt: Any) -> None:
    domain = Domain(Policy("manual"), Policy("manual", ("hv9",)), at=1)
    vm_policy.set_policies(domain, [{"name": "db1", "migration": "manual"}], "hv1", False)
    assert domain.stored == Policy("manual", ("hv9",))
