# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Progress of migrations as a person sees it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.action.host_info import with_uri
from ansible_collections.virtops.kvm_fleet.plugins.action.vm_migrate import ended, limit_s, shows
from ansible_collections.virtops.kvm_fleet.plugins.plugin_utils._progress import news


def progress(**more: object) -> dict[str, object]:
    """What is told of a VM on its way."""
    figures = {"percent": 40, "speed_mib_s": 100.0, "remaining_kib": 300 * 1024, "eta_s": 3, **more}
    return {"destination": "hv2", "state": "stayed", **figures}


def test_only_news_is_shown() -> None:
    shown: dict[str, str] = {}
    vms = {"db1": progress()}
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
        "hv1: 2 of 3 VMs done",
    ]


def test_the_total_counts_what_waits() -> None:
    vms = {
        "db1": {"destination": "hv2", "state": "moved", "downtime_ms": 12},
        "web1": progress(speed_mib_s=60.0, remaining_kib=60 * 1024),
        "web2": progress(speed_mib_s=40.0, remaining_kib=40 * 1024),
    }
    *_vms, total = news("hv1", vms, {}, {"web3": 300 * 1024})
    assert total == "hv1: 1 of 4 VMs done, 100.0 MiB/s, about 4 s left"


def test_one_vm_needs_no_total_unless_another_waits() -> None:
    assert len(list(news("hv1", {"db1": progress()}, {}))) == 1
    assert list(news("hv1", {"db1": progress()}, {}, {"db2": 1024}))[1].startswith("hv1: 0 of 2 VMs done")


def test_a_vm_that_writes_fast_is_told_with_what_is_done_about_it() -> None:
    busy = progress(iteration=3, throttle_percent=40, expected_downtime_ms=700)
    (line,) = news("hv1", {"db1": busy}, {})
    assert line.endswith("3 s left, round 3, 700 ms of downtime expected, VM slowed down by 40 %")


@pytest.mark.parametrize(("wanted", "expected"), [(True, True), ("no", False), ("yes", True), (False, False)])
def test_a_task_may_say_whether_progress_is_shown(wanted: object, expected: bool) -> None:
    assert shows(wanted) is expected


def test_what_no_terminal_shows_is_not_told() -> None:
    ask = "from ansible_collections.virtops.kvm_fleet.plugins.action.vm_migrate import shows; import os, sys\n"
    ask += "pid = os.fork()\nsys.exit(shows(None) if pid == 0 else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))"
    command = [sys.executable, "-c", ask]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
    controller, terminal = os.openpty()
    try:
        assert subprocess.run(command, env=environment, stdout=terminal, check=False).returncode == 1
    finally:
        os.close(controller)
        os.close(terminal)


def test_results_are_shown_like_progress() -> None:
    result = {"migrations": [{"vm": "db1", "destination": "hv2", "outcome": "moved", "downtime_ms": 7}]}
    assert list(news("hv1", ended(result), {})) == ["hv1: db1 -> hv2: moved, downtime 7 ms"]


def test_the_module_is_killed_only_after_all_its_own_bounds() -> None:
    one = 100 + 120
    assert limit_s({"moves": [], "wait_timeout": 100}) == one
    assert limit_s({"moves": [{}] * 5, "wait_timeout": 100, "concurrency": 2}) == 4 * one
    assert limit_s({"moves": [{}] * 5, "wait_timeout": 100, "concurrency": 4, "concurrency_per_link": 1}) == 6 * one


def test_other_hypervisors_reach_a_host_by_its_inventory_address() -> None:
    variables = {"inventory_hostname": "hv1", "ansible_host": "10.0.0.1"}
    assert with_uri({}, variables)["migration"] == {"uri": "qemu+ssh://root@10.0.0.1/system"}
    assert with_uri({}, {"inventory_hostname": "hv1"})["migration"] == {"uri": "qemu+ssh://root@hv1/system"}
    given = {"pool": "gold", "migration": {"uri": "qemu+tls://hv1/system", "address": "10.9.0.1"}}
    assert with_uri(given, variables) == given
