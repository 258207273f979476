# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a run has its pools, and what it does if not."""

from __future__ import annotations

from typing import Any, Optional

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.virtops.kvm_fleet.plugins.filter.pool_leases import FilterModule
from ansible_collections.virtops.kvm_fleet.plugins.plugin_utils._pool_leases import COLLISION_S, Terms, verdict

NOW = 1000.0
OWN, OTHER = "ctl1-2-b", "ctl2-1-c"
SMALLER = "ctl0-1-a"
SILENT: dict[str, Any] = {"unreachable": True, "msg": "no route"}
NEVER: dict[str, Any] = {}


def granted(pool: Optional[str] = "gold", renewed: bool = False, members: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"granted": True, "pool": pool, "renewed": renewed, "members": list(members), "lease": {"run": OWN}}


def refused(run: str = OTHER, age_s: int = 2, pool: Optional[str] = "gold") -> dict[str, Any]:
    holder = {"run": run, "pool": pool, "owner": f"owner of {run}", "purpose": "New kernel", "age_s": age_s}
    times = {"since": "2026-01-31T12:00:00Z", "expires": "2026-01-31T13:00:00Z"}
    return {"granted": False, "pool": pool, "renewed": False, "members": [], "holder": {**holder, **times}}


def elsewhere(pool: str = "silver") -> dict[str, Any]:
    """What a host answers that is in none of the pools that are asked for."""
    return {"granted": None, "pool": pool, "renewed": False, "members": []}


def decide(*answers: dict[str, Any], asked: Optional[list[str]] = None, **terms: Any) -> dict[str, Any]:
    previous = terms.pop("previous", None)
    named = {f"hv{number}": answer for number, answer in enumerate(answers, 1)}
    return verdict(
        named,
        [host for host in named if named[host]] if asked is None else asked,
        Terms(**{"now": NOW, **terms}),
        previous,
    )


GRANTED = granted()


@pytest.mark.parametrize(
    ("answers", "hosts"),
    [
        ([GRANTED], ["hv1"]),
        ([GRANTED, GRANTED, GRANTED], ["hv1", "hv2", "hv3"]),
        # More than half
        ([GRANTED, SILENT, {**GRANTED}], ["hv1", "hv3"]),
        # Half, with the first by name
        ([granted(members=("hv1", "hv2")), SILENT], ["hv1"]),
        # Who is in another pool, on record or in the inventory, is no member.
        ([GRANTED, {**SILENT, "pool": "silver"}, {**SILENT, "pool": "silver"}], ["hv1"]),
        ([granted(None), *[{**SILENT, "pool": "gold"}] * 2], ["hv1"]),
        ([GRANTED, *[granted("silver", members=("hv2", "hv3"))] * 2, *[SILENT] * 2], ["hv1", "hv2", "hv3"]),
        ([GRANTED, elsewhere(), elsewhere()], ["hv1"]),
        # A pool of which nobody answers is left alone.
        ([GRANTED, {**SILENT, "pool": "silver"}], ["hv1"]),
        # Those without a pool are one.
        ([granted(None), granted(None), NEVER], ["hv1", "hv2"]),
    ],
)
def test_a_run_has_a_pool_if_all_who_answer_and_enough_of_them_grant_it(
    answers: list[dict[str, Any]], hosts: list[str]
) -> None:
    found = decide(*answers)
    assert (found["state"], found["give_back"], found["hosts"]) == ("held", False, hosts), found
    assert set(found["silent"]) == {f"hv{n}" for n, answer in enumerate(answers, 1) if "granted" not in answer}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        (
            [GRANTED, {**SILENT, "pool": "gold"}, {**SILENT, "pool": "gold"}],
            "Of the hosts of pool gold only 1 of 3",
        ),
        ([{**SILENT, "pool": "gold"}, GRANTED], "Of the hosts of pool gold only 1 of 2"),
        # The record of another member counts more than what the inventory says of a silent host.
        ([{**SILENT, "pool": "silver"}, granted(members=("hv1", "hv2"))], "hv1 did not answer"),
        ([NEVER, granted(None)], "Of the hosts without a pool only 1 of 2 in this play"),
        ([SILENT, SILENT], "No host could be asked for the lease of its pool; hv1, hv2 did not answer"),
        ([GRANTED, {"msg": "lease.json cannot be used."}], "lease.json cannot be used."),
        ([refused(), {"msg": "lease.json cannot be used."}], "lease.json cannot be used."),
    ],
)
def test_a_run_stops_and_gives_back_where_it_cannot_have_the_pool(answers: list[dict[str, Any]], words: str) -> None:
    found = decide(*answers, wait_s=600)
    assert (found["state"], found["give_back"]) == ("stopped", True)
    assert words in found["message"]


def test_whoever_knows_that_nobody_else_works_with_a_pool_may_go_on_with_few_hosts() -> None:
    found = decide(GRANTED, *[{**SILENT, "pool": "gold"}] * 4, majority=False)
    assert (found["state"], found["hosts"]) == ("held", ["hv1"])
    assert decide(refused(), *[SILENT] * 4, majority=False)["state"] == "stopped"


def test_what_a_host_granted_in_a_round_before_is_no_lease() -> None:
    found = decide(GRANTED, GRANTED, GRANTED, asked=["hv3"])
    assert (found["state"], found["hosts"], found["silent"]) == ("stopped", ["hv3"], ["hv1", "hv2"])
    assert decide(refused(), GRANTED, GRANTED, asked=["hv2", "hv3"])["state"] == "held", "nor a refusal"


def test_who_has_the_pool_is_named_with_what_can_be_done() -> None:
    found = decide(refused(), refused(), refused(SMALLER, pool=None))
    assert (found["state"], found["give_back"], found["hosts"]) == ("stopped", True, [])
    assert found["message"] == (
        "owner of ctl0-1-a (New kernel) has been at work on the hosts without a pool since 2026-01-31T12:00:00Z, as "
        "told by hv3. The lease ends at 2026-01-31T13:00:00Z unless it is renewed. Wait until that run has ended, or "
        "let this one wait with pool_lease_wait_s. If it is certain that it is dead, release its lease: ansible hv3 -b "
        "-m virtops.kvm_fleet.pool_lease -a 'state=released run=ctl0-1-a' "
        "owner of ctl2-1-c (New kernel) has been at work on the hosts of pool gold since 2026-01-31T12:00:00Z, as "
        "told by hv1, hv2. The lease ends at 2026-01-31T13:00:00Z unless it is renewed. Wait until that run has ended, "
        "or let this one wait with pool_lease_wait_s. If it is certain that it is dead, release its lease: ansible "
        "hv1,hv2 -b -m virtops.kvm_fleet.pool_lease -a 'state=released run=ctl2-1-c'"
    )
    many = decide(*[refused()] * 7)["message"]
    assert "as told by hv1, hv2, hv3, hv4, hv5 and 2 more." in many
    assert "ansible all -b" in many


def test_a_run_that_may_wait_gives_back_and_waits_as_long_as_is_left() -> None:
    first = decide(GRANTED, refused(SMALLER), wait_s=30)
    assert [first[key] for key in ("state", "give_back", "wait_at", "wait_s")] == ["waiting", True, "hv2", 30]
    again = decide(refused(), GRANTED, wait_s=30, now=NOW + 20.5, previous=decide(refused(), refused(), wait_s=30))
    assert [again[key] for key in ("state", "give_back", "wait_at", "wait_s")] == ["waiting", False, "hv1", 10]
    later = decide(refused(), refused(), wait_s=30, now=NOW + 20.5, previous=first)
    assert [later[key] for key in ("state", "give_back", "wait_at", "wait_s")] == ["waiting", True, "hv1", 10]
    assert decide(refused(), refused(), wait_s=30, now=NOW + 30, previous=later)["state"] == "stopped"


@pytest.mark.parametrize(
    ("answers", "insists"),
    [
        # Of two that meet at their beginning, one stays, and both know which.
        ([GRANTED, refused(OTHER)], True),
        ([GRANTED, refused(SMALLER)], False),
        ([GRANTED, refused(OTHER), refused(SMALLER)], False),
        # The other is at work, and some hosts could not be reached from there.
        ([GRANTED, refused(OTHER, age_s=60)], False),
        # This one is at work, and the other has found a host that could not be reached from here.
        ([granted(renewed=True), refused(SMALLER)], True),
        ([granted(renewed=True), refused(OTHER, age_s=60)], True),
        # Nothing to insist on
        ([refused(OTHER)], False),
        ([elsewhere(), refused(OTHER)], False),
    ],
)
def test_of_two_runs_that_meet_one_insists(answers: list[dict[str, Any]], insists: bool) -> None:
    found = decide(*answers)
    assert (found["state"], found["give_back"]) == (("waiting", False) if insists else ("stopped", True))


def test_a_run_insists_for_a_minute_at_a_time() -> None:
    first = decide(GRANTED, refused(), wait_s=600)
    last = decide(GRANTED, refused(), wait_s=600, now=NOW + COLLISION_S - 1, previous=first)
    over = decide(granted(renewed=True), refused(), wait_s=600, now=NOW + COLLISION_S, previous=last)
    anew = decide(granted(renewed=True), refused(), wait_s=600, now=NOW + 500, previous=over)
    assert [found["give_back"] for found in (first, last, over, anew)] == [False, False, True, False]
    stood_back = decide(granted(renewed=True), refused(SMALLER), wait_s=600, now=NOW + 9, previous=first)
    assert stood_back["give_back"], "what it got while it waited makes it no run that is at work"


def test_a_run_that_had_the_pool_is_like_any_other_once_it_gave_back() -> None:
    first = decide(granted(renewed=True), refused(SMALLER), wait_s=600)
    over = decide(granted(renewed=True), refused(SMALLER), wait_s=600, now=NOW + COLLISION_S, previous=first)
    anew = decide(granted(renewed=True), refused(SMALLER), wait_s=600, now=NOW + 500, previous=over)
    assert [found["give_back"] for found in (first, over, anew)] == [False, True, True]


def test_the_filter_takes_what_ansible_gives() -> None:
    ask = FilterModule().filters()["lease_verdict"]
    first = ask({"hv1": GRANTED, "hv2": SILENT, "hv3": SILENT}, ["hv1", "hv2", "hv3"], "0", False)
    assert (first["state"], ask({"hv1": refused()}, ["hv1"], "5", True, first)["state"]) == ("held", "waiting")
    with pytest.raises(AnsibleFilterError, match="lease_verdict needs what pool_lease returned"):
        ask({"hv1": {"granted": False}}, ["hv1"])
