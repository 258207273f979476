# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was written for threads without pins is told from what the user wrote."""

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    Following,
    Pinning,
    PinningPolicy,
    Policy,
    migration_mode,
    own_pins,
    parse_domain,
    policy_from_xml,
    policy_to_xml,
    with_pinning,
    with_policy,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pin_rules import policy_of

from tests.unit.pinning.residents import pins

PLAIN = "<domain><name>web</name><uuid>u</uuid><memory>4</memory><vcpu>2</vcpu></domain>"
LIVE = PLAIN.replace("<domain>", "<domain id='3'>")
NARROWED = Following("0-3", "0-5", ("emulator",))
BROKEN_OFF = Following("0-3", None, ("vcpu1",), ("0-2", "4"))


@pytest.mark.parametrize("following", [Following("0-3"), Following("0-3", "0-5"), NARROWED, BROKEN_OFF])
def test_data_and_xml_give_the_same_record_back(following: Following) -> None:
    policy = Policy(following=following)
    assert Following.from_dict(following.as_dict()) == following
    assert Policy.from_dict(policy.as_dict()) == policy
    assert policy_from_xml(policy_to_xml(policy)) == policy


def test_it_is_an_element_of_its_own() -> None:
    assert policy_to_xml(Policy(following=NARROWED)) == (
        '<policy version="1"><following cpus="0-3" limit="0-5" own="emulator"/></policy>'
    )
    assert Policy(following=Following("0-3")).as_dict()["following"] == {"cpus": "0-3", "limit": None}
    assert "following" not in Policy().as_dict()


def test_sets_are_read_in_any_spelling_and_what_a_later_release_adds_is_left_alone() -> None:
    later = '<policy version="1"><following cpus="3,0-2" limit="5,4" since="today"><new/></following></policy>'
    assert policy_from_xml(later).following == Following("0-3", "4-5")
    assert Following.from_dict({"cpus": "3,0-2", "since": "today"}) == Following("0-3")


def test_a_record_without_cpus_is_refused() -> None:
    with pytest.raises(FleetError, match=r"names none\. Remove it") as caught:
        policy_from_xml('<policy version="1"><following/></policy>')
    assert caught.value.code == "bad_policy"


@pytest.mark.parametrize(
    ("present", "following", "own"),
    [
        (pins("2 3 | 0-3", cpuset="0-3"), None, pins("2 3 | 0-3", cpuset="0-3")),
        (pins("0-3 0-3 | 0-3 | 0-3", cpuset="0-3"), Following("0-3"), pins()),
        (pins("2 0-3 | 1 | 0-3"), Following("0-3", "0-5"), pins("2 | 1", cpuset="0-5", policy="manual")),
        (pins("0-3 2 | 0-3"), NARROWED, Pinning("manual", pins("0 2").vcpus[1:], "0-3", cpuset="0-5")),
        (pins("0-3", "strict 1"), Following("0-3"), pins("", "strict 1", policy="manual")),
        (pins("0-3 0-2"), Following("0-2", own=("vcpu1",)), pins("0-3 0-2", policy="manual")),
        (pins("0-2 4 | 4"), BROKEN_OFF, Pinning("manual", pins("0 4").vcpus[1:])),
    ],
)
def test_what_equals_the_record_is_ours(present: Pinning, following: Following | None, own: Pinning) -> None:
    assert own_pins(present, following, live=True) == own


@pytest.mark.parametrize(
    ("live", "cpuset", "own"),
    [(True, "0-3", "0-5"), (True, "0-1", "0-5"), (False, "0-3", "0-5"), (False, "0-1", "0-1"), (False, None, None)],
)
def test_only_in_a_definition_another_cpuset_is_the_users(live: bool, cpuset: str | None, own: str | None) -> None:
    xml = with_policy(with_pinning(LIVE if live else PLAIN, Pinning(cpuset=cpuset)), Policy(following=NARROWED))
    assert parse_domain(xml).own_pinning.cpuset == own


@pytest.mark.parametrize(
    ("policy", "mode", "pinning"),
    [
        (Policy(following=Following("0-3")), "automatic", "none"),
        (Policy(), "manual", "manual"),
        (Policy(following=Following("0-2")), "manual", "manual"),
        # A policy's pins are all its own, whatever they happen to equal.
        (Policy(pinning=PinningPolicy("numa"), following=Following("0-3", "0-5")), "manual", "numa"),
    ],
)
def test_our_pins_tie_a_vm_to_nothing(policy: Policy, mode: str, pinning: str) -> None:
    domain = parse_domain(with_policy(with_pinning(LIVE, pins("0-3 0-3 | 0-3")), policy))
    assert migration_mode(domain) == mode
    assert policy_of(domain).policy == pinning
