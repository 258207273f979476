# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    METADATA_KEY,
    METADATA_URI,
    Home,
    IothreadPin,
    MemNode,
    NumaMemory,
    Pinning,
    PinningPolicy,
    Policy,
    VcpuPin,
    is_group_name,
    parse_domain,
    policy_from_xml,
    policy_of_domain,
    policy_to_xml,
    with_policy,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from hypothesis import given
from hypothesis import strategies as st

PINS = Pinning(
    policy="dedicated",
    vcpus=(VcpuPin(0, "2"), VcpuPin(1, "3")),
    emulator="0-1",
    iothreads=(IothreadPin(1, "0"),),
    cpuset="auto",
    memory=NumaMemory("strict", "0"),
    cells=(MemNode(0, "strict", "0"),),
)
FULL = Policy(
    "manual",
    ("hv1", "hv2"),
    Home("2c1f6a0e-6c0d-4f0f-9d5b-52d1e1f6a001", "hv1", autostart=True, pins=PINS),
    keep_apart=frozenset({"rack1", "db"}),
    keep_together=frozenset({"app"}),
    priority=-5,
    hot_unplug="refused",
)

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8)
GROUPS = st.text(min_size=1, max_size=8).filter(is_group_name)
HOMES = st.builds(
    Home,
    NAMES,
    NAMES,
    autostart=st.sampled_from([None, True, False]),
    pins=st.sampled_from([None, Pinning(), PINS]),
)
POLICIES = st.builds(
    Policy,
    migration=st.sampled_from([None, "automatic", "manual", "pinned"]),
    hosts=st.lists(NAMES, max_size=3).map(tuple),
    home=st.none() | HOMES,
    pinning=st.sampled_from([None, PinningPolicy(), PinningPolicy("numa", host_cells=frozenset({1}))]),
    keep_apart=st.frozensets(GROUPS, max_size=3),
    keep_together=st.frozensets(GROUPS, max_size=3),
    priority=st.integers(),
    hot_unplug=st.sampled_from([None, "allowed", "refused"]),
)


@given(POLICIES)
def test_xml_and_back_gives_the_same_policy(policy: Policy) -> None:
    assert policy_from_xml(policy_to_xml(policy)) == policy


@given(POLICIES)
def test_data_and_back_gives_the_same_policy(policy: Policy) -> None:
    assert Policy.from_dict(policy.as_dict()) == policy


@given(policy=POLICIES)
def test_a_domain_carries_the_policy_and_all_else_stays(
    live: str, plain: str, nodes: Callable[..., Any], policy: Policy
) -> None:
    ours = f"metadata/{{{METADATA_URI}}}policy"
    for xml in (live, plain):
        written = with_policy(xml, policy)

        assert policy_of_domain(written) == policy
        assert parse_domain(written).policy == policy
        assert with_policy(written, policy) == written
        made = ("metadata",) if xml is plain else ()
        assert nodes(written, ours, *made) == nodes(xml, ours, *made)


def test_the_element_for_libvirt_has_no_namespace() -> None:
    assert policy_to_xml(FULL) == (
        '<policy version="1"><migration>manual</migration><hosts><host>hv1</host><host>hv2</host></hosts>'
        '<home uuid="2c1f6a0e-6c0d-4f0f-9d5b-52d1e1f6a001" name="hv1" autostart="yes">'
        '<pins policy="dedicated" cpuset="auto"><vcpupin vcpu="0" cpuset="2"/><vcpupin vcpu="1" cpuset="3"/>'
        '<emulatorpin cpuset="0-1"/><iothreadpin iothread="1" cpuset="0"/><memory mode="strict" nodeset="0"/>'
        '<memnode cellid="0" mode="strict" nodeset="0"/></pins></home>'
        "<keep_apart><group>db</group><group>rack1</group></keep_apart>"
        "<keep_together><group>app</group></keep_together><priority>-5</priority><hot_unplug>refused</hot_unplug></policy>"
    )


def test_in_a_domain_it_looks_as_libvirt_stores_it(live: str) -> None:
    written = with_policy(live, Policy("pinned"))

    assert (
        """    </libosinfo:libosinfo>
    <kvm_fleet:policy xmlns:kvm_fleet="urn:virtops:kvm_fleet:policy" version="1">
      <kvm_fleet:migration>pinned</kvm_fleet:migration>
    </kvm_fleet:policy>
  </metadata>"""
        in written
    )


def test_what_libvirt_returns_is_read_with_and_without_namespace() -> None:
    bare = policy_to_xml(FULL)
    bound = bare.replace("</", f"</{METADATA_KEY}:")
    names = ("policy", "migration", "hosts", "host", "home", "pins", "vcpupin", "emulatorpin", "iothreadpin")
    for name in (*names, "keep_apart", "keep_together", "group", "priority", "hot_unplug"):
        bound = bound.replace(f"<{name} ", f"<{METADATA_KEY}:{name} ").replace(f"<{name}>", f"<{METADATA_KEY}:{name}>")
    for name in ("memory", "memnode"):
        bound = bound.replace(f"<{name} ", f"<{METADATA_KEY}:{name} ")
    bound = bound.replace(" version=", f' xmlns:{METADATA_KEY}="{METADATA_URI}" version=')

    assert policy_from_xml(bare) == policy_from_xml(bound) == FULL


def test_no_policy_is_not_an_empty_policy(live: str, plain: str) -> None:
    assert policy_of_domain(live) is None
    assert policy_of_domain(with_policy(live, Policy())) == Policy()


def test_taking_the_policy_away_gives_the_text_before(live: str, plain: str) -> None:
    assert with_policy(with_policy(plain, FULL), None).replace('"', "'") == plain.rstrip()
    removed = with_policy(with_policy(live, FULL), None)
    # The first line differs in the order of the root's attributes.
    assert removed.replace('"', "'").split("\n")[1:] == live.rstrip().replace('"', "'").split("\n")[1:]
    assert with_policy(live, None) == live


def test_a_policy_of_a_newer_release_is_not_guessed_nor_overwritten(live: str) -> None:
    newer = with_policy(live, FULL).replace('policy" version="1"', 'policy" version="2"')

    for use in (lambda: policy_of_domain(newer), lambda: parse_domain(newer), lambda: with_policy(newer, FULL)):
        with pytest.raises(FleetError, match=r"VM db1 has version 2.*Upgrade") as caught:
            use()
        assert caught.value.code == "policy_version"
        assert caught.value.facts == {"vm": "db1", "version": "2"}


def test_a_policy_without_the_newer_parts_is_read_as_it_was_meant() -> None:
    found = policy_from_xml('<policy version="1"><migration>manual</migration><hosts><host>hv1</host></hosts></policy>')

    assert found == Policy("manual", ("hv1",))
    assert Policy.from_dict({"migration": "manual", "hosts": ["hv1"], "home": None}) == found
    assert found.as_dict() == {
        "migration": "manual",
        "hosts": ["hv1"],
        "home": None,
        "keep_apart": [],
        "keep_together": [],
        "priority": 0,
        "hot_unplug": None,
    }


def test_what_a_vm_has_anyway_is_not_stored() -> None:
    assert policy_to_xml(Policy(priority=0, keep_apart=frozenset(), keep_together=frozenset())) == (
        '<policy version="1"/>'
    )


def test_groups_have_no_order() -> None:
    one, other = ({"keep_apart": names, "keep_together": names} for names in (["b", "a", "b"], ["a", "b"]))

    assert Policy.from_dict(one) == Policy.from_dict(other)
    assert Policy.from_dict(one).as_dict() == Policy.from_dict(other).as_dict()
    assert Policy.from_dict(one).as_dict()["keep_apart"] == ["a", "b"]
    assert policy_to_xml(Policy.from_dict(one)) == policy_to_xml(Policy.from_dict(other))


@pytest.mark.parametrize("option", ["keep_apart", "keep_together"])
@pytest.mark.parametrize(
    "name", ["", " ", "db,web", ",", " db", "db\u00a0", "d\nb", "d\x00b", "d\x7fb", "\ud800", "\uffff"]
)
def test_a_group_name_that_cannot_be_is_refused(option: str, name: str) -> None:
    with pytest.raises(FleetError, match=f"^{option} has the group name .* an empty list for no group") as caught:
        Policy.from_dict({option: ["db", name]})

    assert repr(name) in caught.value.msg
    assert (caught.value.code, caught.value.facts) == ("bad_policy", {"option": option})


@pytest.mark.parametrize("name", ["db", "10", "a b", "Datenbank äö", "<&>\"'", "a/b:c.d_e-f", "数据库", "🦆"])
def test_any_other_name_is_one_of_a_group(name: str) -> None:
    policy = Policy(keep_apart=frozenset({name}))

    assert policy_from_xml(policy_to_xml(policy)) == policy


@pytest.mark.parametrize("priority", ["high", 1.5, True, float("nan")])
def test_a_priority_that_is_no_whole_number_is_refused(priority: Any) -> None:
    with pytest.raises(FleetError, match=f"priority {priority!r} is no whole number") as caught:
        Policy(priority=priority)

    assert (caught.value.code, caught.value.facts) == ("bad_policy", {"option": "priority"})


@pytest.mark.parametrize(("stored", "may"), [(None, True), ("allowed", True), ("refused", False)])
def test_vcpus_may_be_unplugged_unless_that_is_refused(stored: str | None, may: bool) -> None:
    assert Policy(hot_unplug=stored).may_unplug is may


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("<migration>sometimes</migration>", "The migration mode 'sometimes' is unknown"),
        (
            "<hot_unplug>perhaps</hot_unplug>",
            "The word for hot unplug 'perhaps' is unknown. Use one of: allowed, refused",
        ),
        ("<priority>high</priority>", "The priority 'high' is no whole number"),
        ("<keep_apart><group/></keep_apart>", "keep_apart has the group name ''"),
        ("<keep_together><group>a,b</group></keep_together>", "keep_together has the group name 'a,b'"),
    ],
)
def test_a_stored_policy_that_cannot_be_is_refused_with_its_vm(plain: str, part: str, words: str) -> None:
    written = with_policy(plain, Policy("pinned"))
    broken = written.replace("<kvm_fleet:migration>pinned</kvm_fleet:migration>", part)

    with pytest.raises(FleetError, match=f"^The policy stored with VM web1 cannot be used: {words}") as caught:
        parse_domain(broken)
    assert (caught.value.code, caught.value.facts["vm"]) == ("bad_policy", "web1")


def test_a_migration_mode_nobody_knows_is_refused() -> None:
    for use in (
        lambda: Policy("sometimes"),
        lambda: Policy.from_dict({"migration": "sometimes"}),
        lambda: policy_from_xml("<policy version='1'><migration>sometimes</migration></policy>"),
    ):
        with pytest.raises(FleetError, match=r"'sometimes'.*automatic, manual, pinned") as caught:
            use()
        assert caught.value.code == "bad_policy"


def test_a_home_needs_uuid_and_name() -> None:
    with pytest.raises(FleetError, match="UUID and the name") as caught:
        Policy.from_dict({"home": {"name": "hv1"}})

    assert caught.value.code == "bad_policy"
