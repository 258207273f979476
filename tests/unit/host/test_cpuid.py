# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The layout of the XSAVE area is what CPUID says, and reading it never does harm."""

from __future__ import annotations

import mmap
import platform
import struct
from pathlib import Path
from typing import Dict, List, Optional, Tuple

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import cpuid
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.cpuid import Registers
from hypothesis import given
from hypothesis import strategies as st

Leaves = Dict[Tuple[int, int], Registers]

XSAVE = 1 << 26
# Leaf 0xD of real CPUs: user state of the mask, sub-leaves of the components.
SKYLAKE_SERVER: Leaves = {
    (0, 0): (0x16, 0, 0, 0),
    (1, 0): (0, 0, XSAVE, 0),
    (0xD, 0): (0x2FF, 0xA88, 0xA88, 0),
    (0xD, 1): (0xF, 0xA08, 0x100, 0),
    (0xD, 2): (256, 576, 0, 0),
    (0xD, 3): (64, 960, 0, 0),
    (0xD, 4): (64, 1024, 0, 0),
    (0xD, 5): (64, 1088, 0, 0),
    (0xD, 6): (512, 1152, 0, 0),
    (0xD, 7): (1024, 1664, 0, 0),
    (0xD, 8): (128, 0, 1, 0),
    (0xD, 9): (8, 2688, 0, 0),
}
ZEN_5: Leaves = {
    (0, 0): (0x10, 0, 0, 0),
    (1, 0): (0, 0, XSAVE, 0),
    (0xD, 0): (0xE7, 2432, 2432, 0),
    (0xD, 1): (0xF, 2472, 0x1800, 0),
    (0xD, 2): (256, 576, 0, 0),
    (0xD, 5): (64, 832, 0, 0),
    (0xD, 6): (512, 896, 0, 0),
    (0xD, 7): (1024, 1408, 0, 0),
    (0xD, 11): (16, 0, 1, 0),
    (0xD, 12): (24, 0, 1, 0),
}
ZEN_1: Leaves = {
    (0, 0): (0xD, 0, 0, 0),
    (1, 0): (0, 0, XSAVE, 0),
    (0xD, 0): (7, 832, 832, 0),
    (0xD, 1): (0xF, 832, 0, 0),
    (0xD, 2): (256, 576, 0, 0),
}
# LWP of AMD's Bulldozer is component 62, in the upper half of the mask.
BULLDOZER: Leaves = {
    **ZEN_1,
    (0xD, 0): (7, 960, 960, 1 << 30),
    (0xD, 62): (128, 832, 0, 0),
}


def table(leaves: Leaves) -> cpuid.Cpuid:
    def call(leaf: int, subleaf: int) -> Registers:
        # A CPU answers a leaf that it does not have with its highest one.
        return leaves.get((leaf, subleaf), (0xFFFFFFFF,) * 4 if leaf > leaves[0, 0][0] else (0, 0, 0, 0))

    return call


@pytest.mark.parametrize(
    ("leaves", "layout"),
    [
        (
            SKYLAKE_SERVER,
            [
                (2, 256, 576), (3, 64, 960), (4, 64, 1024), (5, 64, 1088), (6, 512, 1152), (7, 1024, 1664),
                (8, 128, 0), (9, 8, 2688),
            ],
        ),
        (ZEN_5, [(2, 256, 576), (5, 64, 832), (6, 512, 896), (7, 1024, 1408), (11, 16, 0), (12, 24, 0)]),
        (ZEN_1, [(2, 256, 576)]),
        (BULLDOZER, [(2, 256, 576), (62, 128, 832)]),
        # Without XSAVE, and where the leaf does not exist: nothing beyond SSE.
        ({**ZEN_1, (1, 0): (0, 0, 0, 0)}, []),
        ({(0, 0): (0xB, 0, 0, 0), (1, 0): (0, 0, XSAVE, 0)}, []),
    ],
    ids=["skylake-server", "zen5", "zen1", "bulldozer", "no xsave", "no leaf"],
)  # fmt: skip
def test_the_layout_is_number_size_and_offset_of_each_component(
    leaves: Leaves, layout: List[Tuple[int, int, int]]
) -> None:
    assert list(cpuid.xsave_components(table(leaves))) == layout


def test_supervisor_state_has_offset_zero_whatever_the_register_holds() -> None:
    leaves = {**ZEN_5, (0xD, 11): (16, 4711, 1, 0)}
    assert (11, 16, 0) in cpuid.xsave_components(table(leaves))


@given(st.sets(st.integers(0, 63)), st.sets(st.integers(0, 63)))
def test_every_component_of_either_mask_is_read_once_except_the_legacy_area(user: set[int], system: set[int]) -> None:
    masks = [sum(1 << bit for bit in bits) for bits in (user, system)]
    leaves: Leaves = {
        (0, 0): (0x20, 0, 0, 0),
        (1, 0): (0, 0, XSAVE, 0),
        (0xD, 0): (masks[0] & 0xFFFFFFFF, 0, 0, masks[0] >> 32),
        (0xD, 1): (0, 0, masks[1] & 0xFFFFFFFF, masks[1] >> 32),
        **{(0xD, number): (number, 1000 + number, 0, 0) for number in range(2, 64)},
    }
    found = cpuid.xsave_components(table(leaves))
    assert [component[0] for component in found] == sorted((user | system) - {0, 1, 63})
    assert all(offset == (1000 + number if number in user else 0) for number, _size, offset in found)


def test_the_kernels_device_is_read_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "cpuid"
    with path.open("wb") as stream:
        # In a plain file leaves overlap, so only that of XSAVE is in it: 16 bytes at (subleaf << 32) | leaf.
        for subleaf in (0, 1, 2):
            stream.seek(subleaf << 32 | 0xD)
            stream.write(struct.pack("<4I", *ZEN_1[0xD, subleaf]))
    read = cpuid.from_device(path)
    assert read is not None
    assert [read(0xD, subleaf) for subleaf in (0, 1, 2)] == [ZEN_1[0xD, subleaf] for subleaf in (0, 1, 2)]


def test_without_the_device_there_is_no_such_way(tmp_path: Path) -> None:
    assert cpuid.from_device(tmp_path / "cpuid") is None


needs_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="CPUID is an instruction of x86")


@needs_x86
def test_this_machine_has_avx_where_every_machine_has_it(tmp_path: Path) -> None:
    layout = cpuid.read_xsave(tmp_path / "no device")
    assert layout is not None
    assert (2, 256, 576) in layout


@needs_x86
def test_the_instruction_says_what_the_kernel_says() -> None:
    here = cpuid.from_instruction()
    assert here is not None
    _eax, ebx, ecx, edx = here(0, 0)
    vendor = struct.pack("<3I", ebx, edx, ecx).decode()
    text = Path("/proc/cpuinfo").read_text()
    assert f"vendor_id\t: {vendor}\n" in text
    assert bool(here(7, 0)[1] & 1 << 5) == (" avx2 " in text)


@needs_x86
def test_both_ways_find_the_same(tmp_path: Path) -> None:
    try:
        cpuid.DEVICE.open("rb").close()
    except OSError:
        pytest.skip("the kernel's cpuid device is not here")
    assert cpuid.read_xsave() == cpuid.read_xsave(tmp_path / "no device")


@needs_x86
def test_an_unreadable_device_leaves_the_instruction(tmp_path: Path) -> None:
    (tmp_path / "cpuid").mkdir()
    assert cpuid.read_xsave(tmp_path / "cpuid") == cpuid.read_xsave(tmp_path / "no device")


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), MemoryError(), ValueError()])
def test_a_system_that_forbids_code_at_run_time_leaves_the_layout_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(mmap, "mmap", refuse)
    assert cpuid.read_xsave(tmp_path / "no device") is None


@pytest.mark.parametrize("machine", ["aarch64", "i686", "ppc64le"])
def test_another_architecture_has_no_layout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, machine: str) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert cpuid.read_xsave(tmp_path / "no device") is None


@pytest.mark.parametrize(
    ("components", "lists"), [(None, None), ((), []), (((2, 256, 576), (9, 8, 2688)), [[2, 256, 576], [9, 8, 2688]])]
)
def test_unknown_is_null_and_none_is_an_empty_list(
    components: Optional[Tuple[cpuid.Component, ...]], lists: Optional[List[List[int]]]
) -> None:
    assert cpuid.as_lists(components) == lists
