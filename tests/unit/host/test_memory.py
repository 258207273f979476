# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the memory of QEMU processes is, from what the kernel writes into /proc and counts for control groups."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import memory
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.memory import (
    memory_by_node,
    parse_numa_maps,
    parse_numa_stat,
    reclaimable_kib,
)

MIB = 1024 * 1024
NUMA_MAPS = """\
55aef1f07000 default heap anon=2036 dirty=2036 active=0 N0=1183 N1=853 kernelpagesize_kB=4
7f1681e00000 prefer (many):0 anon=24064 dirty=24064 active=0 N0=24064 kernelpagesize_kB=4
7fec00000000 bind:1 file=/dev/hugepages/libvirt/qemu/1-web/pc.ram huge anon=3 dirty=3 N1=3 kernelpagesize_kB=2048
7fec112d5000 default stack:1
7fec112d6000 default file=/usr/lib/N3=4 mapped=2 N1=2 kernelpagesize_kB=4
"""
# As Linux 6.12 (version 2) and 6.1 (version 1) write them.
VERSION_2 = f"""\
anon N0={300 * MIB} N1={20 * MIB}
file N0={900 * MIB} N1={900 * MIB}
kernel_stack N0=81920 N1=0
pagetables N0=2097152 N1=0
sec_pagetables N0=0 N1=0
shmem N0=0 N1={MIB}
file_mapped N0=4096 N1=0
anon_thp N0={200 * MIB} N1=0
inactive_anon N0={300 * MIB} N1={21 * MIB}
unevictable N0=0 N1=0
"""
VERSION_1 = """\
total=400 N0=300 N1=100
file=50 N0=50 N1=0
anon=300 N0=200 N1=100
unevictable=50 N0=50 N1=0
hierarchical_total=4000 N0=3000 N1=1000
hierarchical_file=500 N0=500 N1=0
hierarchical_anon=3000 N0=2000 N1=1000
hierarchical_unevictable=500 N0=500 N1=0
"""
GROUP = r"machine.slice/machine-qemu\x2d1\x2dweb.scope"
IN_2 = {0: 300 * 1024, 1: 21 * 1024}
IN_1 = {0: 4 * 2500, 1: 4 * 1000}


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_memory_counts_pages_of_every_size() -> None:
    assert parse_numa_maps(NUMA_MAPS.splitlines()) == {0: 4 * (1183 + 24064), 1: 4 * (853 + 2) + 3 * 2048}


def test_memory_in_huge_pages_is_told_from_that_of_the_process() -> None:
    assert parse_numa_maps(NUMA_MAPS.splitlines(), huge=True) == {1: 3 * 2048}


def test_memory_of_a_process_with_too_many_mappings_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_MAPPINGS", 5)
    assert parse_numa_maps(NUMA_MAPS.splitlines())
    assert parse_numa_maps([*NUMA_MAPS.splitlines(), "7fec112d7000 default N0=1 kernelpagesize_kB=4"]) == {}


def test_cache_of_files_is_no_memory_of_the_vm() -> None:
    assert (parse_numa_stat(VERSION_2, 2), parse_numa_stat(VERSION_1, 1)) == (IN_2, IN_1)
    assert parse_numa_stat("", 2) == {}


@pytest.mark.parametrize(
    ("groups", "file", "expected"),
    [
        (f"0::/{GROUP}/libvirt/emulator\n", f"{GROUP}/libvirt/memory.numa_stat", IN_2),
        (f"0::/{GROUP}/libvirt/emulator\n", f"{GROUP}/memory.numa_stat", IN_2),
        (f"3:cpuset:/{GROUP}/emulator\n4:memory:/{GROUP}\n0::/\n", f"memory/{GROUP}/memory.numa_stat", IN_1),
        (f"3:cpuset:/{GROUP}/emulator\n4:memory:/{GROUP}/emulator\n", f"memory/{GROUP}/memory.numa_stat", IN_1),
        # Groups in which others are, too.
        (f"0::/{GROUP}/libvirt/emulator\n", "machine.slice/memory.numa_stat", {}),
        ("0::/system.slice/libvirtd.service\n", "system.slice/libvirtd.service/memory.numa_stat", {}),
        (f"3:cpuset:/{GROUP}/emulator\n4:memory:/\n", "memory/memory.numa_stat", {}),
        (f"3:cpuset:/{GROUP}/emulator\n4:memory:/\n", f"memory/{GROUP}/memory.numa_stat", {}),
        ("0::/machine/web/emulator\n", "machine/memory.numa_stat", {}),
        ("", "memory.numa_stat", {}),
    ],
)
def test_kernel_has_counted_for_the_group_of_the_vm(
    tmp_path: Path, groups: str, file: str, expected: dict[int, int]
) -> None:
    text = VERSION_1 if file.startswith("memory/") else VERSION_2
    write(tmp_path, **{"proc/70/cgroup": groups, f"sys/fs/cgroup/{file}": text, "proc/70/numa_maps": NUMA_MAPS})
    assert memory_by_node(70, huge=False, walk=False, root=tmp_path) == expected
    walked = expected or parse_numa_maps(NUMA_MAPS.splitlines())
    assert memory_by_node(70, huge=False, walk=True, root=tmp_path) == walked
    # The kernel does not count huge pages there.
    assert memory_by_node(70, huge=True, walk=False, root=tmp_path) == {1: 3 * 2048}


def test_memory_that_cannot_be_read_is_not_known(tmp_path: Path) -> None:
    assert memory_by_node(70, huge=True, walk=True, root=tmp_path) == {}


# As Linux 6.12 writes it, shortened.
MEMINFO = """\
Node 1 MemTotal:        1030796 kB
Node 1 MemFree:          108160 kB
Node 1 Active:            11000 kB
Node 1 Active(file):      10000 kB
Node 1 Inactive(anon):     2000 kB
Node 1 Inactive(file):   800000 kB
Node 1 Dirty:              1000 kB
Node 1 Writeback:           200 kB
Node 1 Mapped:             5000 kB
Node 1 Shmem:              2000 kB
Node 1 SReclaimable:      20000 kB
Node 1 HugePages_Total:     0
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MEMINFO, 10000 + 800000 - 5000 - 1000 - 200 + 20000 // 2),
        # Files in memory can be mapped without being on these lists.
        (MEMINFO.replace("5000 kB", "900000 kB"), 20000 // 2),
        ("", 0),
        (None, 0),
    ],
)
def test_cached_files_can_be_given_back(tmp_path: Path, text: str | None, expected: int) -> None:
    node = tmp_path / "sys/devices/system/node/node1"
    node.mkdir(parents=True)
    if text is not None:
        (node / "meminfo").write_text(text)
    assert reclaimable_kib(1, tmp_path) == expected
