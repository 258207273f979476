# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.virtops.kvm_fleet.plugins.filter import plan as filters
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._amount import amount
from ansible_collections.virtops.kvm_fleet.plugins.plugin_utils import _plan_text

from tests.unit.placement.fleet import ask, drain, fleet, host, vm


def test_a_move_shows_the_cpus_that_a_vm_gets_for_itself_but_not_where_threads_without_pins_run() -> None:
    moves = [
        {"vm": "db1", "source": "hv1", "destination": "hv2", "pins": {"vcpus": []}, "exclusive_cpus": "2-3"},
        {"vm": "web", "source": "hv1", "destination": "hv2", "pins": {"vcpus": []}, "following": {"cpus": "0-1"}},
    ]
    assert _plan_text.plan_lines({"waves": [{"hosts": [], "steps": [{"moves": moves}]}]}) == [
        "db1: hv1 -> hv2 (CPUs 2-3 for itself), ~1 s",
        "web: hv1 -> hv2, ~1 s",
    ]


def test_moves_are_one_line_each_with_new_pins_and_time() -> None:
    hosts = [host("hv1", cpu="c", link_mib_s=512), host("hv2", cpu="c", link_mib_s=512, cells=[{"cpus": "0-3"}])]
    pins = {"vcpus": [{"vcpu": 0, "cpus": "8"}, {"vcpu": 1, "cpus": "9"}]}
    vms = [vm("db1", "hv1", 2, cpu="c", pinning=pins), vm("web", "hv1", 0.1, cpu="c")]
    assert _plan_text.plan_lines(drain(fleet(hosts, vms, c={}), "hv1")) == [
        "db1: hv1 -> hv2 (new pins 0,1), ~4 s",
        "web: hv1 -> hv2, ~1 s",
        "in all 2 moves, ~4 s; no plan needs less",
        "warning: db1 may lose performance on hv2: its migration mode is manual.",
        "warning: db1 gets other pins on hv2.",
    ]


def test_vms_that_are_shut_down_and_hosts_that_are_skipped_say_why() -> None:
    hosts = [host(name, cpu="c", link_mib_s=1024) for name in ("hv1", "hv2")]
    policy = {"migration": "pinned"}
    vms = [
        vm("db", "hv1", cpu="c", policy=policy),
        vm("gpu", "hv1", cpu="c", policy=policy, blockers=["has a PCI device"]),
        vm("web", "hv1", cpu="c"),
    ]
    snapshot = fleet(hosts, vms, c={})
    assert _plan_text.plan_lines(drain(snapshot, "hv1", pinned="shutdown")) == [
        "web: hv1 -> hv2, ~1 s",
        "db: shut down on hv1 until the host is back (migration mode pinned)",
        "gpu: shut down on hv1 until the host is back (migration mode pinned; has a PCI device)",
        "in all 1 move, ~1 s; no plan needs less",
    ]
    assert _plan_text.plan_lines(drain(snapshot, "hv1", pinned="skip")) == [
        "no moves",
        "hv1 is skipped, for it has VMs that cannot move: db (migration mode pinned),"
        " gpu (migration mode pinned; has a PCI device)",
    ]


def test_steps_have_headings_where_there_are_several() -> None:
    vms = [
        vm("db1", "hv1", 8, policy={"home": "hv2"}, cpu="c"),
        vm("db2", "hv2", 8, policy={"home": "hv1"}, cpu="c"),
    ]
    hosts = [host("hv1", 8, cpu="c", link_mib_s=1024), host("hv2", 16, cpu="c", link_mib_s=1024)]
    answer = ask(fleet(hosts, vms, c={}), "refill", hosts=["hv1", "hv2"])
    assert _plan_text.plan_lines(answer) == [
        "step 1:",
        "db1: hv1 -> hv2, ~8 s",
        "step 2:",
        "db2: hv2 -> hv1, ~8 s",
        "in all 2 moves, ~16 s; any plan needs at least 2 moves, ~8 s",
    ]


def test_moves_that_nobody_asked_for_say_what_they_are_for() -> None:
    # a fits on neither host, unless the smaller b goes to the third.
    hosts = [host("hv1", cpu="c", link_mib_s=1024), *(host(f"hv{n}", 4, cpu="c", link_mib_s=1024) for n in (2, 3))]
    vms = [vm("a", "hv1", 4, cpu="c"), vm("b", "hv2", 1, cpu="c"), vm("c", "hv3", 2, cpu="c")]
    assert _plan_text.plan_lines(drain(fleet(hosts, vms, c={}), "hv1")) == [
        "step 1:",
        "b: hv2 -> hv3, ~1 s, makes room",
        "step 2:",
        "a: hv1 -> hv2, ~4 s",
        "in all 2 moves, ~5 s; any plan needs at least 1 move, ~4 s",
    ]


def test_a_vm_that_waits_on_a_third_host_is_told_so() -> None:
    vms = [vm("a", "hv1", 4, cpu="c", policy={"home": "hv2"}), vm("b", "hv2", 4, cpu="c", policy={"home": "hv1"})]
    hosts = [host(f"hv{number}", 4, cpu="c", link_mib_s=1024) for number in (1, 2, 3)]
    lines = _plan_text.plan_lines(ask(fleet(hosts, vms, c={}), "refill", hosts=["hv1", "hv2"]))
    assert [line for line in lines if "->" in line] == [
        "a: hv1 -> hv3, ~4 s, waits there",
        "b: hv2 -> hv1, ~4 s",
        "a: hv3 -> hv2, ~4 s",
    ]


def test_a_rollout_says_what_comes_back_and_what_all_of_it_needs() -> None:
    hosts = [host(f"hv{number}", 4, cpu="c", link_mib_s=1024) for number in (1, 2)]
    answer = ask(fleet(hosts, [vm("a", "hv1", 2, cpu="c")], c={}), "rollout", hosts=["hv1", "hv2"], refill="home")
    assert _plan_text.plan_lines(answer) == [
        "wave 1: hv2",
        "wave 2: hv1",
        "a: hv1 -> hv2, ~2 s",
        "back, when the hosts are ready:",
        "a: hv2 -> hv1, ~2 s",
        "in all 2 moves, 2 waves, ~4 s; no plan needs less",
    ]


def test_a_rebalance_says_what_it_is_good_for() -> None:
    hosts = [host(f"hv{number}", 4, cpu="c", link_mib_s=1024) for number in (1, 2)]
    vms = [vm("a", "hv1", 1, cpu="c"), vm("b", "hv1", 1, cpu="c")]
    lines = _plan_text.plan_lines(ask(fleet(hosts, vms, c={}), "rebalance", hosts=["hv1", "hv2"], max_moves=5))
    assert lines[-1] == "memory load 0 to 50 % before, 25 to 25 % after"


def test_of_very_many_reasons_some_are_shown() -> None:
    hosts = [host("hv1"), *(host(f"full{number:02}", 1) for number in range(30))]
    line = _plan_text.unplaced_lines(drain(fleet(hosts, [vm("a", "hv1", 4)]), "hv1"))[0]
    assert line.count("memory left") == 3
    assert line.endswith("; and 27 more like these")


def test_a_vm_without_destination_comes_with_every_reason() -> None:
    hosts = [host("hv1", cpu="c", link_mib_s=1), host("hv2", 4, cpu="c", link_mib_s=1), host("hv3", maintenance=True)]
    answer = drain(fleet(hosts, [vm("db1", "hv1", 4.5, cpu="c", blockers=["has a snapshot"])], c={}), "hv1")
    assert _plan_text.plan_lines(answer)[:2] == [
        "no moves",
        "db1 stays on hv1: has a snapshot; hv3 is in maintenance",
    ]


def test_a_vm_with_no_other_host_is_told_so() -> None:
    answer = drain(fleet([host("hv1")], [vm("db1", "hv1", 4)]), "hv1")
    assert _plan_text.unplaced_lines(answer)[0] == "db1 stays on hv1: the snapshot has no other host"


def test_a_shortage_is_one_line_of_numbers() -> None:
    answer = drain(fleet([host("hv1"), host("hv2", 5)], [vm("a", "hv1", 4), vm("b", "hv1", 3.5)]), "hv1")
    assert "a, b together need 7.5 GiB; hv2 has 5 GiB free" in _plan_text.plan_lines(answer)


def test_several_waves_are_numbered_with_their_hosts() -> None:
    step = {"moves": [{"vm": "a", "source": "hv1", "destination": "hv2", "pins": None, "estimated_s": 0.2}]}
    waves = [{"hosts": ["hv1"], "steps": [step]}, {"hosts": ["hv2", "hv3"], "steps": []}]
    assert _plan_text.plan_lines({"waves": waves}) == ["wave 1: hv1", "a: hv1 -> hv2, ~1 s", "wave 2: hv2, hv3"]


@pytest.mark.parametrize(
    ("kib", "text"),
    [(0, "0 KiB"), (12, "12 KiB"), (1024, "1 MiB"), (1536 * 1024, "1.5 GiB"), (10 << 20, "10 GiB"), (1 << 30, "1 TiB")],
)
def test_memory_is_shown_in_the_largest_unit(kib: int, text: str) -> None:
    assert amount(kib) == text


def test_a_table_aligns_texts_left_and_numbers_right() -> None:
    rows = [
        {"host": "hv1", "free_kib": 5, "vms": ["a", "b"], "ready": True},
        {"host": "hv10", "free_kib": 1000, "vms": [], "ready": False},
        {"host": "x"},
    ]
    columns = ["host", {"key": "free_kib", "title": "FREE"}, "vms", "ready"]
    assert _plan_text.table_lines(rows, columns) == [
        "HOST  FREE  VMS  READY",
        "hv1      5  a,b  yes",
        "hv10  1000  -    no",
        "x        -  -    -",
    ]


def test_a_table_without_rows_is_its_header() -> None:
    assert _plan_text.table_lines([], ["host"]) == ["HOST"]


@pytest.mark.parametrize("value", [None, 1, {"unplaced": [{}]}, {"waves": 3}])
def test_filters_refuse_what_is_no_plan(value: Any) -> None:
    with pytest.raises(AnsibleFilterError, match="placement_plan"):
        filters.plan_lines(value)


def test_filters_refuse_what_is_no_table() -> None:
    with pytest.raises(AnsibleFilterError, match="list of mappings"):
        filters.table_lines([1], ["host"])


def test_every_filter_has_its_name() -> None:
    assert sorted(filters.FilterModule().filters()) == ["plan_lines", "table_lines", "unplaced_lines"]
