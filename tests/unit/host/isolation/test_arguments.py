# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which kernel arguments a request leads to, and what of them a running kernel does not do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._boot import format_line, parse
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._isolation.arguments import (
    kernel_feature,
    wanted_arguments,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._isolation.effect import (
    Running,
    ineffective,
    read_running,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host._isolation.settings import (
    CpuSettings,
    HugePages,
    Settings,
    format_size,
    parse_huge_pages,
    parse_size_kib,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import Isolation

ISOLATION = Isolation(frozenset((2, 3, 6, 7)), frozenset((0, 1, 4, 5)))


def cpus(**more: Any) -> CpuSettings:
    return CpuSettings(ISOLATION, **more)


EVERYTHING = {"isolcpus_flags": ("managed_irq",), "nohz_full": True, "rcu_nocbs": True, "irqaffinity": True}
ALL = "isolcpus=domain,managed_irq,2-3,6-7 nohz_full=2-3,6-7 rcu_nocbs=2-3,6-7 irqaffinity=0-1,4-5"


@pytest.mark.parametrize(
    ("before", "settings", "after"),
    [
        ("", Settings(cpus=cpus()), "isolcpus=2-3,6-7"),
        ("", Settings(cpus=cpus(**EVERYTHING)), ALL),
        ("", Settings(cpus=cpus(isolcpus_flags=("nohz", "domain"))), "isolcpus=domain,nohz,2-3,6-7"),
        (ALL, Settings(cpus=cpus()), "isolcpus=2-3,6-7"),
        (ALL, Settings(cpus=cpus(methods=("slices",))), ""),
        (ALL, Settings(cpus=CpuSettings(Isolation(frozenset(), frozenset(range(8))))), ""),
        (ALL, Settings(), ALL),
        (ALL + " nosmt", Settings(arguments=((parse("nosmt")[0], False),)), ALL),
        ("a=1 b=2", Settings(arguments=((parse("a=3")[0], True),)), "b=2 a=3"),
        ("x-y=1", Settings(arguments=((parse("x_y=2")[0], True),)), "x_y=2"),
        (
            "nosmt",
            Settings(huge_pages=(HugePages(2048, 8), HugePages(1048576, 2)), default_huge_page_kib=1048576),
            "default_hugepagesz=1G hugepagesz=2M hugepages=8 hugepagesz=1G hugepages=2 nosmt",
        ),
        ("hugepagesz=2M hugepages=8", Settings(huge_pages=()), ""),
        ("hugepagesz=2M hugepages=8", Settings(huge_pages=(HugePages(2048, 4, cell=0),)), ""),
        ("", Settings(clearcpuid=("sse4.1", "avx2", "avx512vnni")), "clearcpuid=avx2,avx512_vnni,sse4_1"),
        ("clearcpuid=avx2", Settings(clearcpuid=()), ""),
        ("clearcpuid=avx2", Settings(cpus=cpus()), "isolcpus=2-3,6-7 clearcpuid=avx2"),
    ],
)
def test_a_request_replaces_its_groups_and_leaves_the_others(before: str, settings: Settings, after: str) -> None:
    found = wanted_arguments(parse(before), settings)
    assert format_line(found) == after
    assert wanted_arguments(found, settings) == found


@pytest.mark.parametrize("name", ["isolcpus", "nohz-full", "hugepages", "clearcpuid"])
def test_an_argument_with_an_option_of_its_own_is_refused(name: str) -> None:
    with pytest.raises(FleetError, match=name) as caught:
        wanted_arguments((), Settings(arguments=((parse(f"{name}=1")[0], True),)))
    assert caught.value.code == "bad_options"


@pytest.mark.parametrize(
    ("methods", "machine", "guests"),
    [
        (("slices",), None, {2, 3, 6, 7}),
        (("slices", "kernel"), None, set(range(8))),
        (("slices", "tuned"), None, set(range(8))),
        (("slices", "kernel"), frozenset((1, 2)), {1, 2}),
    ],
)
def test_guests_get_the_isolated_cpus_unless_the_kernel_isolates_them(
    methods: tuple[str, ...], machine: frozenset[int] | None, guests: set[int]
) -> None:
    assert cpus(methods=methods, machine_cpus=machine).guest_cpus() == guests


@pytest.mark.parametrize(
    ("text", "kib", "shown"),
    [("2M", 2048, "2M"), ("1G", 1048576, "1G"), ("64 KiB", 64, "64K"), ("1024m", 1048576, "1G")],
)
def test_page_sizes_are_read_and_shown(text: str, kib: int, shown: str) -> None:
    assert (parse_size_kib(text), format_size(kib)) == (kib, shown)


@pytest.mark.parametrize(
    "items",
    [
        [{"size": "2X", "count": 1}],
        [{"size": "0M", "count": 1}],
        [{"size": "2M", "count": -1}],
        [{"size": "2M", "count": 1, "cell": -1}],
        [{"size": "2M", "count": 1}, {"size": "2048K", "count": 2}],
        [{"size": "2M", "count": 1}, {"size": "2M", "count": 2, "cell": 0}],
    ],
)
def test_huge_pages_that_make_no_sense_are_refused(items: list[dict[str, Any]]) -> None:
    with pytest.raises(FleetError) as caught:
        parse_huge_pages(items)
    assert caught.value.code == "bad_options"


@pytest.mark.parametrize(("name", "kernel"), [("sse4.2", "sse4_2"), ("pclmuldq", "pclmulqdq"), ("304", "304")])
def test_features_have_the_kernels_names(name: str, kernel: str) -> None:
    assert kernel_feature(name) == kernel


@pytest.mark.parametrize(
    ("booted", "running", "names"),
    [
        ("isolcpus=domain,2-3 nohz_full=2-3", Running("", "2-3", "2-3"), []),
        ("isolcpus=2-3 nohz_full=2-3", Running("", "", None), ["isolcpus", "nohz_full"]),
        ("isolcpus=2,3", Running("", "2-3", ""), []),
        (
            "hugepagesz=2M hugepages=8 hugepagesz=1G hugepages=2",
            Running("", "", "", {2048: 8, 1048576: 1}),
            ["hugepages of 1G"],
        ),
        ("clearcpuid=avx2,sse4_1", Running("", "", ""), ["clearcpuid"]),
        ("quiet", Running("", "", ""), []),
    ],
)
def test_what_the_kernel_does_not_do_is_named(booted: str, running: Running, names: list[str]) -> None:
    found = ineffective(parse(booted), running, frozenset(("avx", "sse4.1")))
    assert [item.name for item in found] == names


def test_masked_features_are_not_judged_without_the_hypervisor() -> None:
    assert ineffective(parse("clearcpuid=avx2"), Running("", "", "")) == ()


def test_the_running_kernel_is_read(tmp_path: Path) -> None:
    for path, text in {
        "proc/cmdline": "root=/dev/vda1 isolcpus=2,3\n",
        "sys/devices/system/cpu/online": "0-7\n",
        "sys/devices/system/cpu/isolated": "2-3\n",
        "sys/devices/system/cpu/nohz_full": " (null)\n",
        "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "16\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert read_running(tmp_path) == Running("root=/dev/vda1 isolcpus=2,3", "2-3", "", {2048: 16})
