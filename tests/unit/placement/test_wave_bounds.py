# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement import wave_bounds
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.request import parse
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.snapshot import load
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.wave_bounds import WaveBound

from tests.unit.placement.fleet import fleet, host, vm

Json = dict[str, Any]


def case(hosts: list[Json], vms: list[Json], *names: str, **options: Any) -> tuple[Any, Any, Any]:
    """Return the only pool, the options and all hosts by name; all hosts are serviced by default."""
    snapshot = load(fleet(hosts, vms))
    asked = list(names) or [item["name"] for item in hosts]
    request = parse({"question": "rollout", "hosts": asked, "options": options}, snapshot)
    (pool,) = wave_bounds.pools(request.hosts, snapshot, request.options)
    return pool, request.options, {each.name: each for each in snapshot.hosts}


def bound(hosts: list[Json], vms: list[Json], *names: str, **options: Any) -> WaveBound:
    pool, settings, _hosts = case(hosts, vms, *names, **options)
    return wave_bounds.wave_bound(pool, settings)


def equal(*loads: float, gib: float = 4) -> tuple[list[Json], list[Json]]:
    """Return hosts of one size, with one VM of each size that is not 0."""
    hosts = [host(f"hv{number}", gib, link_mib_s=1024) for number in range(1, len(loads) + 1)]
    return hosts, [vm(f"vm{number}", f"hv{number}", size) for number, size in enumerate(loads, 1) if size]


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        ((0, 0, 0), WaveBound(1, "hosts", 3)),
        ((2, 2, 2, 2), WaveBound(2, "memory_kib", 2)),
        ((3, 3, 3, 3), WaveBound(4, "memory_kib", 1)),
        # 7 of 20 GiB are left: a whole host and a part, and a part cannot be down.
        ((3, 3, 3, 3, 1), WaveBound(5, "memory_kib", 1)),
        ((4, 4, 4), WaveBound(0, "memory_kib", 0)),
        ((3, 3), WaveBound(0, "memory_kib", 0)),
    ],
)
def test_as_many_hosts_are_down_as_the_others_have_room_for(loads: tuple[float, ...], expected: WaveBound) -> None:
    assert bound(*equal(*loads)) == expected


def test_the_smallest_hosts_say_how_many_can_be_down_and_the_sum_how_many_waves() -> None:
    hosts = [host(f"hv{number}", gib) for number, gib in enumerate((2, 2, 2, 6, 6))]
    # 6 of 18 GiB are left: three small ones at once, but 18 GiB take three times.
    assert bound(hosts, [vm("db", "hv4", 6), vm("db2", "hv3", 6)]) == WaveBound(3, "memory_kib", 3)


def test_a_host_that_is_too_large_to_be_down_does_not_hide_how_many_others_can() -> None:
    hosts = [host("giant", 20), *(host(f"hv{number}", 2) for number in range(5))]
    assert bound(hosts, [vm("db", "giant", 20), vm("web", "hv1", 2)]) == WaveBound(0, "memory_kib", 4)


def test_vcpus_count_as_memory_does() -> None:
    cells = [{"id": 0, "cpus": "0-3"}]
    hosts = [host(f"hv{number}", None, cells=cells, cpu_overcommit=1) for number in range(4)]
    vms = [vm(f"vm{number}", f"hv{number}", vcpus={"current": 2}) for number in range(4)]
    assert bound(hosts, vms) == WaveBound(2, "vcpus", 2)


def test_a_limit_of_the_request_counts_as_well() -> None:
    hosts, vms = equal(1, 1, 1, 1, 1)
    assert bound(hosts, vms, max_hosts_down=2) == WaveBound(3, "max_hosts_down", 2)
    assert bound(hosts, vms, "hv1", max_hosts_down=2) == WaveBound(1, "hosts", 1)


def apart(*on: str) -> list[Json]:
    return [vm(f"db{number}", name, 0.1, policy={"keep_apart": ["db"]}) for number, name in enumerate(on)]


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ((), WaveBound(1, "hosts", 4)),
        (("hv1",), WaveBound(2, "hosts", 3)),
        (("hv1", "hv2"), WaveBound(2, "keep_apart db", 2)),
        (("hv1", "hv2", "hv3"), WaveBound(4, "keep_apart db", 1)),
        (("hv1", "hv2", "hv3", "hv4"), WaveBound(0, "keep_apart db", 0)),
        # Two that are on one host already need two hosts only when they have to leave it.
        (("hv1", "hv1", "hv2"), WaveBound(2, "keep_apart db", 2)),
    ],
)
def test_each_vm_of_a_group_that_is_kept_apart_needs_a_host(on: tuple[str, ...], expected: WaveBound) -> None:
    assert bound([host(f"hv{number}", None) for number in range(1, 5)], apart(*on)) == expected


def test_a_host_in_maintenance_counts_if_it_is_serviced() -> None:
    hosts, vms = equal(0, 4, 4)
    hosts[0]["maintenance"] = True
    assert bound(hosts, vms) == WaveBound(3, "memory_kib", 1)
    assert bound(hosts, vms, "hv2", "hv3") == WaveBound(0, "memory_kib", 0)


def test_an_excluded_host_is_no_loss_and_no_help() -> None:
    hosts, vms = equal(0, 2, 2)
    assert bound(hosts, vms, exclude_hosts=["hv1"]) == WaveBound(2, "memory_kib", 2)
    of_any_size = [host(f"hv{number}", None) for number in range(1, 4)]
    assert bound(of_any_size, apart("hv1", "hv2"), exclude_hosts=["hv1"]) == WaveBound(2, "hosts", 2)


def test_what_a_host_has_too_little_of_now_is_not_asked_of_the_others() -> None:
    # hv3 stays as it is, and hv1 and hv2 have room for each other's VMs.
    hosts, vms = equal(2, 2, 9)
    assert bound(hosts, vms, "hv1", "hv2") == WaveBound(2, "memory_kib", 1)


def test_a_host_of_unknown_size_has_room_for_all() -> None:
    hosts, vms = equal(4, 4, 4)
    assert bound([*hosts, host("hv9", None)], vms, "hv1", "hv2", "hv3") == WaveBound(1, "hosts", 3)


def fewest_moves(
    hosts: list[Json], vms: list[Json], *names: str, waves: int, home: bool = False, **options: Any
) -> int:
    pool, settings, _hosts = case(hosts, vms, *names, **options)
    return wave_bounds.moves_bound(pool, wave_bounds.wave_bound(pool, settings), waves, home, settings)


def test_every_vm_moves_once_and_those_of_the_first_wave_twice() -> None:
    hosts, vms = equal(2, 2, 2, 2)
    assert fewest_moves(hosts, vms, waves=2) == 4 + 2
    # With more waves the first one may be smaller.
    assert fewest_moves(hosts, vms, waves=3) == 4 + 1
    assert fewest_moves(hosts, vms, waves=2, home=True) == 8


def test_an_empty_host_saves_the_moves_of_a_first_wave() -> None:
    assert fewest_moves(*equal(0, 4, 4, 4), waves=4) == 3


@pytest.mark.parametrize(("gib", "expected"), [(0, 3), (1, 3), (2, 2), (4, 2)])
def test_vms_that_find_room_on_a_spare_host_move_once(gib: float, expected: int) -> None:
    hosts, vms = equal(2, 2)
    assert fewest_moves([*hosts, host("spare", gib)], vms, "hv1", "hv2", waves=2) == expected


def test_a_vm_of_a_spare_host_may_make_room_for_several() -> None:
    hosts = [host(f"hv{number}", 16) for number in range(1, 4)]
    vms = [vm(f"hv{number}-vm{count}", f"hv{number}", 2) for number in range(1, 4) for count in range(4)]
    snapshot = [*hosts, host("spare", 8)], [*vms, vm("large", "spare", 8)]
    names = ("hv1", "hv2", "hv3")
    # Instead of four VMs that move again, one that nobody asked to move does.
    assert fewest_moves(*snapshot, *names, waves=3) == 12 + 1
    assert fewest_moves(*snapshot, *names, waves=3, max_extra_moves=0) == 12 + 4


@pytest.mark.parametrize(("at_once", "expected"), [(1, 10.0), (2, 6.0), (3, 5.0), (4, 4.0), (9, 4.0)])
def test_the_slowest_hosts_are_down_together_at_best(at_once: int, expected: float) -> None:
    pool, _options, hosts = case(*equal(1, 3, 2, 4))
    assert wave_bounds.seconds_bound(pool, at_once, hosts) == expected


def test_a_host_sends_over_its_own_link() -> None:
    hosts = [host("hv1", 8, link_mib_s=512), host("hv2", 8, link_mib_s=2048)]
    pool, _options, by_name = case(hosts, [vm("db1", "hv1", 4), vm("db2", "hv2", 4)])
    assert wave_bounds.seconds_bound(pool, 1, by_name) == 8.0 + 2.0


def test_hosts_without_vms_take_no_time() -> None:
    pool, _options, hosts = case(*equal(0, 0))
    assert wave_bounds.seconds_bound(pool, 1, hosts) == 0.0
