# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _placement
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError

from tests.unit.placement.fleet import ask, fleet, host, vm, where

FLEET = fleet([host("hv1"), host("hv2")], [vm("db1", "hv1"), vm("web", "hv1"), vm("web", "hv2", uuid="uuid-web2")])


@pytest.mark.parametrize(
    ("request_data", "code", "words"),
    [
        ([], "bad_request", "must be a mapping"),
        ({}, "bad_request", "question must be one of drain, place, refill, rollout, rebalance, not None"),
        ({"question": "dance"}, "bad_request", "not 'dance'"),
        ({"question": "rebalance", "hosts": ["hv1"]}, "bad_request", "max_moves must be a whole number"),
        ({"question": "rollout"}, "bad_request", "hosts must be a list with at least one entry"),
        ({"question": "refill", "hosts": ["hv1"], "refill": "leapfrog"}, "bad_request", "for the question rollout"),
        ({"question": "refill", "hosts": ["hv1"], "refill": "away"}, "bad_request", "one of home, leapfrog, none"),
        ({"question": "drain"}, "bad_request", "hosts must be a list with at least one entry"),
        ({"question": "drain", "hosts": []}, "bad_request", "hosts must be a list with at least one entry"),
        ({"question": "place", "hosts": ["hv1"]}, "bad_request", "vms must be a list with at least one entry"),
        ({"question": "drain", "hosts": ["hv1"], "vms": ["db1"]}, "bad_request", "vms is for the question place"),
        ({"question": "drain", "hosts": ["hv1"], "max_moves": 3}, "bad_request", "for the question rebalance"),
        ({"question": "drain", "hosts": ["hv1"], "options": {"concurrency": 0}}, "bad_request", "at least 1, not 0"),
        ({"question": "drain", "hosts": ["hv1"], "options": {"weights": {"luck": 1}}}, "bad_request", "luck not known"),
        (
            {"question": "drain", "hosts": ["hv1"], "options": {"weights": {"spread": -1}}},
            "bad_request",
            "spread must be a whole number that is not negative, not -1",
        ),
        (
            {"question": "drain", "hosts": ["hv1"], "options": {"pinned": "destroy"}},
            "bad_request",
            "pinned must be one of fail, shutdown, skip, not 'destroy'",
        ),
        ({"question": "drain", "hosts": ["hv9"]}, "unknown_host", "hosts names hv9"),
        ({"question": "place", "vms": ["db9"]}, "unknown_vm", "vms names db9"),
        ({"question": "place", "vms": ["web"]}, "ambiguous_vm", "hv1 and hv2"),
        ({"question": "drain", "host": ["hv1"]}, "bad_request", "host not known here"),
        ({"question": "drain", "hosts": ["hv1"], "options": {"stay": True}}, "bad_request", "stay not known here"),
        (
            {"question": "drain", "hosts": ["hv1"], "options": {"exclude_hosts": ["hv9"]}},
            "unknown_host",
            "exclude_hosts names hv9",
        ),
        (
            {"question": "drain", "hosts": ["hv1"], "options": {"node_limit": "many"}},
            "bad_request",
            "node_limit must be a whole number, not 'many'",
        ),
    ],
)
def test_a_request_that_cannot_be_answered_says_why(request_data: Any, code: str, words: str) -> None:
    with pytest.raises(FleetError) as caught:
        _placement.plan(request_data, FLEET)
    assert caught.value.code == code
    assert words in caught.value.msg


@pytest.mark.parametrize("reference", ["db1", "uuid-db1"])
def test_vms_are_meant_by_name_or_uuid(reference: str) -> None:
    assert where(ask(FLEET, "place", vms=[reference])) == {"db1": "hv2"}


def test_the_uuid_tells_vms_of_one_name_apart() -> None:
    snapshot = fleet([host("hv1"), host("hv2"), host("hv3")], FLEET["vms"])
    assert where(ask(snapshot, "place", vms=["uuid-web2"])) == {"web": "hv3"}


def test_hosts_are_meant_by_name_or_uuid_and_once() -> None:
    answer = ask(fleet([host("hv1"), host("hv2")], []), "drain", hosts=["uuid-hv1", "hv1"])
    assert [wave["hosts"] for wave in answer["waves"]] == [["hv1"]]
