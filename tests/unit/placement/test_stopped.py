# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError

from tests.unit.placement.fleet import ask, codes, drain, fleet, host, vm, where

Json = dict[str, Any]

TWO = [host("hv1"), host("hv2")]
AT_HOME = {"policy": {"home": {"name": "hv1"}}}


def off(name: str, on: str, gib: float = 1, **fields: Any) -> Json:
    return vm(name, on, gib, state="shutoff", **fields)


@pytest.mark.parametrize(
    ("stopped", "moved"),
    [("leave", {"web": "hv2"}), ("move", {"web": "hv2", "db": "hv2"}), ("only", {"db": "hv2"})],
)
def test_vms_that_are_off_are_drained_if_asked_for(stopped: str, moved: dict[str, str]) -> None:
    answer = drain(fleet(TWO, [off("db", "hv1"), vm("web", "hv1")]), "hv1", stopped=stopped)
    assert (answer["feasible"], where(answer)) == (True, moved)


@pytest.mark.parametrize("stopped", ["leave", "move", "only"])
def test_they_come_home_if_asked_for(stopped: str) -> None:
    snapshot = fleet(TWO, [off("db", "hv2", **AT_HOME), vm("web", "hv2", **AT_HOME)])
    answer = ask(snapshot, "refill", hosts=["hv1"], options={"stopped": stopped})
    expected = {"leave": {"web"}, "move": {"db", "web"}, "only": {"db"}}[stopped]
    assert where(answer) == dict.fromkeys(expected, "hv1")


def test_they_can_be_placed_and_cost_no_time() -> None:
    snapshot = fleet(TWO, [off("db", "hv1", 8)])
    answer = ask(snapshot, "place", vms=["db"], options={"stopped": "move"})
    assert where(answer) == {"db": "hv2"}
    assert (answer["totals"]["seconds"], answer["bounds"]["seconds"]) == (0, 0)


def test_they_need_room_to_start_where_they_go() -> None:
    answer = drain(fleet(TWO, [off("db", "hv1", 9), vm("web", "hv2", 9)]), "hv1", stopped="move")
    assert not answer["feasible"]
    assert ("hv2", "memory") in codes(answer, "db")


@pytest.mark.parametrize("why", [{"policy": {"migration": "pinned"}}, {"blockers": ["its memory is saved"]}])
def test_one_that_cannot_move_stays_and_is_told(why: Json) -> None:
    answer = drain(fleet(TWO, [off("db", "hv1", **why), vm("web", "hv1")]), "hv1", stopped="move")
    assert (answer["feasible"], where(answer)) == (True, {"web": "hv2"})
    (warning,) = (item for item in answer["warnings"] if item["code"] == "stays_off")
    assert (warning["vm"], warning["host"]) == ("db", "hv1")
    quiet = drain(fleet(TWO, [off("db", "hv1", **why)]), "hv1")
    assert all(item["code"] != "stays_off" for item in quiet["warnings"])


@pytest.mark.parametrize("request_", [{"question": "rollout"}, {"question": "rebalance", "max_moves": 1}])
def test_other_questions_refuse_the_option(request_: Json) -> None:
    with pytest.raises(FleetError, match="stopped is for the question drain, place or refill only") as caught:
        ask(fleet(TWO, []), **request_, hosts=["hv1"], options={"stopped": "move"})
    assert caught.value.code == "bad_request"
