# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.virtops.kvm_fleet.plugins.filter.tuning import FilterModule
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._tuning import tuning_report

DONE: dict[str, Any] = {
    "resources": [
        {"name": "db1", "changed": True, "difference": {"maximum": {}, "current": {}, "cells": {}}},
        {"name": "db2", "changed": False, "difference": None},
    ],
    "cpu": [{"name": "db1", "changed": True, "restart_required": True}],
    "pinning": [
        {"name": "db1", "changed": True, "policy": "dedicated", "cpus": "2-5", "floating": False},
        {
            "name": "db2",
            "changed": True,
            "policy": "numa",
            "cpus": "",
            "floating": False,
            "restart_or_migrate_required": True,
            "pending": [{"kind": "memory"}],
        },
        {"name": "web1", "changed": True, "policy": "none", "cpus": "", "floating": True},
        {"name": "web2", "changed": False, "policy": "none", "cpus": "", "floating": True},
    ],
    "policy": [{"name": "db2", "changed": True}],
}


def test_what_changed_and_what_is_to_be_done() -> None:
    assert tuning_report(DONE) == {
        "lines": [
            "db1: changed definition, CPU, pins (dedicated on 2-5)",
            "db2: changed pins (numa), migration policy",
            "web1: changed shared CPUs",
            "db1: restart it for its vCPUs, NUMA cells, CPU",
            "db2: restart or migrate it for its memory (memory)",
        ],
        "changed": ["db1", "db2", "web1"],
        "restart_required": ["db1"],
        "restart_or_migrate_required": ["db2"],
    }


def test_a_vm_that_was_asked_something_else_and_follows() -> None:
    pinning = [{"name": "web1", "changed": True, "policy": "none", "cpus": "", "floating": True}]
    cpu = [{"name": "web1", "changed": True, "restart_required": False}]

    assert tuning_report({"cpu": cpu, "pinning": pinning})["lines"] == ["web1: changed CPU, shared CPUs"]


def test_vcpus_are_told_by_the_vm_and_by_its_guest() -> None:
    def plugged(name: str, guest: int | None, running: bool = True) -> dict[str, object]:
        return {
            "name": name,
            "changed": True,
            "running": {"count": 3} if running else None,
            "defined": {"count": 4},
            "guest_online": guest,
        }

    hot_plug = [plugged("a", 3), plugged("b", None), plugged("c", 2), plugged("d", None, running=False)]
    assert tuning_report({"hot_plug": hot_plug})["lines"] == [
        "a: changed vCPUs (3)",
        "b: changed vCPUs (3)",
        "c: changed vCPUs (3, of which its guest uses 2)",
        "d: changed vCPUs (4)",
    ]


def test_pins_that_cannot_be_planned_yet() -> None:
    resources = [{"name": "db1", "changed": True, "difference": None}]

    report = tuning_report({"resources": resources, "postponed": ["db1"]}, planned=True)

    assert report["lines"] == ["db1: would change definition, pins"]


def test_in_check_mode_it_is_a_plan() -> None:
    assert tuning_report(DONE, planned=True)["lines"][0].startswith("db1: would change definition")


def test_where_nothing_was_asked_there_is_nothing_to_tell() -> None:
    assert tuning_report({}) == {
        "lines": [],
        "changed": [],
        "restart_required": [],
        "restart_or_migrate_required": [],
    }


def test_the_filter_tells_a_person() -> None:
    with pytest.raises(AnsibleFilterError, match="tuning_report needs"):
        FilterModule().filters()["tuning_report"]({"cpu": [1]})
