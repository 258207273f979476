# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.placement.fleet import ask, codes, drain, fleet, host, vm, where

HOSTS = [host("hv1"), host("hv2")]
WORDS = ["cannot migrate domain with 1 snapshots", "domain has an attached device"]


@pytest.mark.parametrize(
    ("code", "fields", "facts"),
    [
        ("blockers", {"blockers": WORDS}, {"blockers": WORDS}),
        ("state", {"state": "crashed"}, {"state": "crashed"}),
        ("state", {"state": "shutdown"}, {"state": "shutdown"}),
        ("in_transit", {"job": "migration_out"}, {"job": "migration_out"}),
        ("in_transit", {"job": "migration_in"}, {"job": "migration_in"}),
    ],
)
def test_a_vm_that_cannot_move_at_all_is_unplaced_before_anything_moves(
    code: str, fields: dict[str, Any], facts: dict[str, Any]
) -> None:
    answer = drain(fleet(HOSTS, [vm("db1", "hv1", **fields), vm("web", "hv1")]), "hv1")
    assert codes(answer, "db1") == {(None, code)}
    assert facts.items() <= answer["unplaced"][0]["reasons"][0].items()
    assert codes(answer, "web") == set()
    assert answer["waves"] == []


def test_blockers_keep_libvirts_words() -> None:
    answer = drain(fleet(HOSTS, [vm("db1", "hv1", blockers=WORDS)]), "hv1")
    assert answer["unplaced"][0]["reasons"][0]["text"] == "; ".join(WORDS)


def test_a_vm_that_is_on_two_hosts_waits_until_it_is_on_one() -> None:
    twins = [vm("db1", "hv1"), vm("db1", "hv2", state="paused")]
    answer = drain(fleet([*HOSTS, host("hv3")], twins), "hv1")
    [reason] = answer["unplaced"][0]["reasons"]
    assert (reason["code"], reason["twins"]) == ("in_transit", ["hv2"])


@pytest.mark.parametrize("job", [None, "none", "backup"])
def test_a_vm_with_another_job_moves(job: str | None) -> None:
    assert where(drain(fleet(HOSTS, [vm("db1", "hv1", job=job)]), "hv1")) == {"db1": "hv2"}


@pytest.mark.parametrize("state", ["running", "blocked", "paused", "pmsuspended", "idle", "nostate"])
def test_every_domain_with_memory_leaves(state: str) -> None:
    assert where(drain(fleet(HOSTS, [vm("db1", "hv1", state=state)]), "hv1")) == {"db1": "hv2"}


def test_a_stopped_vm_is_no_part_of_a_drain_and_takes_no_memory() -> None:
    vms = [vm("db1", "hv1", 16), vm("off1", "hv1", state="shutoff"), vm("off2", "hv2", 16, state="shutoff")]
    assert where(drain(fleet(HOSTS, vms), "hv1")) == {"db1": "hv2"}


def test_a_stopped_vm_cannot_be_placed() -> None:
    snapshot = fleet(HOSTS, [vm("db1", "hv1", state="shutoff")])
    assert codes(ask(snapshot, "place", vms=["db1"]), "db1") == {(None, "not_running")}
