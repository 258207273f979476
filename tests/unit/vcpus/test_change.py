# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._vcpus import (
    Change,
    Limits,
    Slot,
    Support,
    change_of,
    count_of,
    online_of,
    slots_of,
)
from hypothesis import given
from hypothesis import strategies as st

LISTED = """<domain type='kvm'><name>a</name><vcpu current='3'>5</vcpu><vcpus>
<vcpu id='0' enabled='yes' hotpluggable='no' order='1'/>
<vcpu id='1' enabled='no' hotpluggable='yes'/>
<vcpu id='2' enabled='yes' hotpluggable='yes' order='3'/>
<vcpu id='3' enabled='yes' hotpluggable='yes' order='2'/>
</vcpus></domain>"""


def slots(current: int, maximum: int, fixed: int = 1) -> tuple[Slot, ...]:
    """The first ones have been there since the start, the others came one after the other."""
    return tuple(
        Slot(number, number < current, number >= fixed, number + 1 if number < current else None)
        for number in range(maximum)
    )


def test_vcpus_are_read_one_by_one() -> None:
    found = slots_of(LISTED)
    assert found == (
        Slot(0, True, False, 1),
        Slot(1, False, True),
        Slot(2, True, True, 3),
        Slot(3, True, True, 2),
        Slot(4, False, True),
    )
    assert (online_of(found), count_of(found)) == ((0, 2, 3), 3)


def test_those_that_are_not_listed_are_there_from_the_start() -> None:
    assert slots_of("<domain type='kvm'><name>a</name><vcpu current='1'>2</vcpu></domain>") == (
        Slot(0, True, False),
        Slot(1, False, True),
    )


@pytest.mark.parametrize(
    ("current", "count", "change"),
    [
        (2, 2, Change()),
        (2, 4, Change(plug=(2, 3))),
        (4, 2, Change(unplug=(3, 2))),
        (4, 3, Change(unplug=(3,))),
        (1, 2, Change(plug=(1,))),
    ],
)
def test_the_lowest_come_and_the_last_that_came_go(current: int, count: int, change: Change) -> None:
    assert change_of("a", slots(current, 4), count, Limits()) == change


def test_gaps_are_filled_and_the_order_of_coming_counts() -> None:
    found = slots_of(LISTED)
    assert change_of("a", found, 4, Limits()) == Change(plug=(1,))
    assert change_of("a", found, 2, Limits()) == Change(unplug=(2,))


@pytest.mark.parametrize(
    ("code", "count", "fixed", "limits"),
    [
        ("too_few", 0, 1, {}),
        ("too_few", -1, 1, {}),
        ("above_maximum", 9, 1, {}),
        ("above_host", 7, 1, {"host_cpus": 6}),
        ("threads_split", 5, 1, {"threads": 2}),
        ("not_hotpluggable", 2, 3, {}),
        ("plug_unsupported", 5, 1, {"support": Support(plug=False)}),
        ("unplug_unsupported", 3, 1, {"support": Support(unplug=False)}),
        ("unplug_forbidden", 3, 1, {"unplug_allowed": False}),
        ("pinned_vcpus", 3, 1, {"pinned": frozenset({3})}),
    ],
)
def test_what_cannot_be_is_refused_with_what_there_is(
    code: str, count: int, fixed: int, limits: dict[str, Any]
) -> None:
    with pytest.raises(FleetError, match=r"^VM a .* It has 4 now \(0-3\)\. ") as caught:
        change_of("a", slots(4, 8, fixed), count, Limits(**limits))
    assert (caught.value.code, caught.value.facts) == (code, {"vm": "a", "count": count, "current": 4})


@pytest.mark.parametrize(
    ("pinned", "current", "count", "refused"),
    [
        ({0, 1, 2}, 4, 2, True),
        ({0, 1, 2}, 4, 3, False),
        ({2, 3}, 4, 2, True),
        ({2, 3}, 2, 4, False),
        ({0, 1}, 4, 2, False),
    ],
)
def test_a_vcpu_with_a_pin_of_its_own_goes_only_if_the_pin_may_wait(
    pinned: set[int], current: int, count: int, refused: bool
) -> None:
    limits = Limits(pinned=frozenset(pinned))
    if refused:
        with pytest.raises(FleetError) as caught:
            change_of("a", slots(current, 4), count, limits)
        assert caught.value.code == "pinned_vcpus"
    else:
        assert change_of("a", slots(current, 4), count, limits)
    kept = Limits(pinned=frozenset(pinned), unplug_pinned="keep")
    change = change_of("a", slots(current, 4), count, kept)
    assert len(change.plug) - len(change.unplug) == count - current


def test_a_vm_that_has_more_than_its_host_may_keep_and_lose_vcpus() -> None:
    assert change_of("a", slots(4, 8), 4, Limits(host_cpus=2)) == Change()
    assert change_of("a", slots(4, 8), 3, Limits(host_cpus=2)) == Change(unplug=(3,))


@given(data=st.data(), maximum=st.integers(1, 12))
def test_what_is_done_gives_the_number_and_touches_no_fixed_one(data: st.DataObject, maximum: int) -> None:
    plugged = data.draw(st.lists(st.booleans(), min_size=maximum, max_size=maximum))
    fixed = data.draw(st.lists(st.booleans(), min_size=maximum, max_size=maximum))
    found = (Slot(0, True, False), *(Slot(n, plugged[n], not (fixed[n] and plugged[n])) for n in range(1, maximum)))
    count = data.draw(st.integers(1, maximum))
    before = set(online_of(found))
    if sum(slot.plugged and not slot.hotpluggable for slot in found) > count:
        with pytest.raises(FleetError, match="cannot be unplugged"):
            change_of("a", found, count, Limits())
        return
    change = change_of("a", found, count, Limits())
    assert len((before | set(change.plug)) - set(change.unplug)) == count
    assert not before & set(change.plug)
    assert all(found[number].hotpluggable and found[number].plugged for number in change.unplug)
