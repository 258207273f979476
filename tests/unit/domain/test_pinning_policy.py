# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a VM says that its pins are to be chosen."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import (
    PinningPolicy,
    Policy,
    policy_from_xml,
    policy_to_xml,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError

FULL = PinningPolicy("dedicated", "isolate", "isolate", "preferred", frozenset({0, 1, 70}))


@pytest.mark.parametrize("policy", [PinningPolicy(), PinningPolicy("manual"), PinningPolicy("numa"), FULL])
def test_data_and_xml_give_the_same_policy_back(policy: PinningPolicy) -> None:
    assert PinningPolicy.from_dict(policy.as_dict()) == policy
    assert policy_from_xml(policy_to_xml(Policy(pinning=policy))).pinning == policy


def test_every_option_is_in_the_data_and_those_that_differ_in_the_xml() -> None:
    assert FULL.as_dict() == {
        "policy": "dedicated",
        "thread_policy": "isolate",
        "emulator": "isolate",
        "memory_mode": "preferred",
        "host_cells": "0-1,70",
    }
    assert policy_to_xml(Policy(pinning=FULL)) == (
        '<policy version="1"><pinning policy="dedicated" thread_policy="isolate" emulator="isolate" '
        'memory_mode="preferred" host_cells="0-1,70"/></policy>'
    )
    assert policy_to_xml(Policy(pinning=PinningPolicy())) == '<policy version="1"><pinning policy="none"/></policy>'


def test_nothing_asked_for_is_not_the_policy_none() -> None:
    assert policy_from_xml('<policy version="1"/>').pinning is None
    assert "pinning" not in Policy().as_dict()
    assert Policy(pinning=PinningPolicy()).as_dict()["pinning"]["policy"] == "none"


def test_what_a_later_release_adds_is_left_alone() -> None:
    later = '<policy version="1"><pinning policy="numa" balance="daily"><new/></pinning></policy>'

    assert policy_from_xml(later).pinning == PinningPolicy("numa")
    assert PinningPolicy.from_dict({"policy": "numa", "balance": "daily"}) == PinningPolicy("numa")


@pytest.mark.parametrize(
    ("data", "option", "words"),
    [
        ({"policy": "auto"}, "policy", "is 'auto'. Use one of: none, manual, numa, dedicated."),
        ({"policy": "dedicated", "thread_policy": "avoid"}, "thread_policy", "Use one of: prefer, isolate, require."),
        ({"policy": "dedicated", "emulator": "pin"}, "emulator", "Use one of: share, isolate."),
        ({"policy": "numa", "memory_mode": "local"}, "memory_mode", "strict, preferred, interleave, restrictive."),
        ({"policy": "numa", "host_cells": ""}, "host_cells", "names no cell. Name at least one, or leave it out."),
        ({"policy": "numa", "host_cells": "1-0"}, "host_cells", "the range '1-0' runs backwards."),
        ({"policy": "numa", "thread_policy": "require"}, "thread_policy", "use the policy dedicated."),
        ({"policy": "numa", "emulator": "isolate"}, "emulator", "has no effect with the policy 'numa'."),
        ({"memory_mode": "preferred"}, "memory_mode", "use the policy numa or dedicated."),
        ({"policy": "manual", "host_cells": "0"}, "host_cells", "has no effect with the policy 'manual'."),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(data: dict[str, Any], option: str, words: str) -> None:
    with pytest.raises(FleetError) as caught:
        PinningPolicy.from_dict(data)

    assert caught.value.code == "bad_options"
    assert caught.value.facts == {"option": option}
    assert caught.value.msg.startswith(f"The pinning option {option} ")
    assert words in caught.value.msg
