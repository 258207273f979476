# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.placement.fleet import codes, drain, fleet, host, vm, where

HOSTS = [host("hv1"), host("hv2")]
PINNED = {"vcpus": [{"vcpu": 0, "cpus": "0"}]}


@pytest.mark.parametrize("move_manual", [True, False])
def test_a_vm_that_is_pinned_to_its_host_never_moves(move_manual: bool) -> None:
    vms = [vm("db1", "hv1", policy={"migration": "pinned"}), vm("web", "hv1")]
    answer = drain(fleet(HOSTS, vms), "hv1", move_manual=move_manual)
    assert codes(answer, "db1") == {(None, "migration_pinned")}
    assert codes(answer, "web") == set()
    assert answer["waves"] == []


@pytest.mark.parametrize(
    ("fields", "manual"),
    [
        ({}, False),
        ({"pinning": PINNED}, True),
        ({"pinning": {"memory": {"mode": "strict", "nodes": "0"}}}, True),
        ({"cpu_mode": "host-passthrough"}, True),
        ({"pinning": PINNED, "policy": {"migration": "automatic"}}, False),
        ({"policy": {"migration": "manual"}}, True),
    ],
)
def test_a_manual_vm_moves_with_a_warning_or_not_at_all(fields: dict[str, Any], manual: bool) -> None:
    snapshot = fleet(HOSTS, [vm("db1", "hv1", **fields)])
    moved = drain(snapshot, "hv1")
    assert where(moved) == {"db1": "hv2"}
    assert ("manual" in {warning["code"] for warning in moved["warnings"]}) == manual
    expected = {(None, "migration_manual")} if manual else set()
    assert codes(drain(snapshot, "hv1", move_manual=False), "db1") == expected
