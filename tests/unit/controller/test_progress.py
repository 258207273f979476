# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Progress of migrations as a person sees it."""

from __future__ import annotations

from ansible_collections.virtops.kvm_fleet.plugins.action.host_info import with_uri
from ansible_collections.virtops.kvm_fleet.plugins.action.vm_migrate import ended, limit_s
from ansible_collections.virtops.kvm_fleet.plugins.plugin_utils._progress import news


def test_only_news_is_shown() -> None:
    shown: dict[str, str] = {}
    vms = {"db1": {"destination": "hv2", "state": "stayed", "percent": 40, "speed_mib_s": 100.0, "eta_s": 3}}
    assert list(news("hv1", vms, shown)) == ["hv1: db1 -> hv2: 40 % at 100.0 MiB/s, about 3 s left"]
    assert list(news("hv1", vms, shown)) == []


def test_the_total_follows_the_vms() -> None:
    vms = {
        "db1": {"destination": "hv2", "state": "moved", "downtime_ms": 12},
        "web1": {"destination": "hv3", "state": "failed", "msg": "no route"},
        "web2": {"destination": "hv3", "state": "stayed"},
    }
    assert list(news("hv1", vms, {})) == [
        "hv1: db1 -> hv2: moved, downtime 12 ms",
        "hv1: web1 -> hv3: FAILED: no route",
        "hv1: web2 -> hv3: starting",
        "hv1: 2 of 3 begun migrations done",
    ]


def test_results_are_shown_like_progress() -> None:
    result = {"migrations": [{"vm": "db1", "destination": "hv2", "outcome": "moved", "downtime_ms": 7}]}
    assert list(news("hv1", ended(result), {})) == ["hv1: db1 -> hv2: moved, downtime 7 ms"]


def test_the_module_is_killed_only_after_all_its_own_bounds() -> None:
    one = 100 + 120
    assert limit_s({"moves": [], "wait_timeout": 100}) == one
    assert limit_s({"moves": [{}] * 5, "wait_timeout": 100, "concurrency": 2}) == 4 * one


def test_other_hypervisors_reach_a_host_by_its_inventory_address() -> None:
    variables = {"inventory_hostname": "hv1", "ansible_host": "10.0.0.1"}
    assert with_uri({}, variables)["migration"] == {"uri": "qemu+ssh://root@10.0.0.1/system"}
    assert with_uri({}, {"inventory_hostname": "hv1"})["migration"] == {"uri": "qemu+ssh://root@hv1/system"}
    given = {"pool": "gold", "migration": {"uri": "qemu+tls://hv1/system", "address": "10.9.0.1"}}
    assert with_uri(given, variables) == given
