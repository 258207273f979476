# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Features are cleared in QEMU's table, the vendor of one CPU is exchanged, and nothing else changes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Set

import pytest

from tests.lab.pod import cpu_patch
from tests.lab.pod.cpu_patch import (
    DEFAULT_VENDOR,
    ENTRY,
    FEATURES,
    FOREIGN,
    VENDORS,
    WORD_1_ECX,
    WORD_6_EAX,
    WORD_7_EBX,
    WORD_D1_EAX,
    CpuChange,
    find_word,
    patched_qemu,
    remove_features,
    set_vendor,
)
from tests.lab.shell import LabError

EBX_7 = 0x219C03A9  # some features of CPUID 7 EBX: fsgsbase, bmi1, avx2, smep, bmi2, erms, …
AMD, INTEL = b"AuthenticAMD", b"GenuineIntel"


def entry(word: tuple[int, ...], tcg: int) -> bytes:
    """An entry of QEMU's table as the compiler lays it out."""
    return struct.pack("<II512xIIIIQQQQ", 0, 0, *word, tcg, 0, 0, 0)


def model(vendor: bytes) -> bytes:
    """The part of a CPU model's definition with its vendor: level, xlevel, vendor, family, model."""
    return struct.pack("<II13s3xii", 0xD, 0x8000000A, vendor, 15, 6)


TABLE = entry(WORD_1_ECX, 0x77FA3203) + entry(WORD_7_EBX, EBX_7) + entry(WORD_6_EAX, 4) + entry(WORD_D1_EAX, 5)
# The same CPUID words occur elsewhere in the binary, and what is behind them may look like a feature.
NOISE = struct.pack("<IIII", *WORD_7_EBX) + b"\xff" * 16 + struct.pack("<IIIIQ", *WORD_6_EAX, 0x12)
STRINGS = b"version > 0\0" + AMD + b"\0QEMU TCG CPU\0"
MODELS = model(AMD) + model(INTEL) + model(AMD)
BINARY = b"\x00" * 64 + STRINGS.ljust(64, b"\0") + NOISE + TABLE + MODELS + b"\x00" * 64
WORDS = sorted({FEATURES[name][0] for name in FEATURES})
EVERYTHING = b"".join(entry(word, 0xFFFFFFFF) for word in WORDS)


def value(binary: bytes, word: cpu_patch.Word) -> int:
    return int(struct.unpack_from("<Q", binary, find_word(BINARY, word))[0])


def differing(first: bytes, second: bytes) -> Set[int]:
    return {place for place, (one, other) in enumerate(zip(first, second, strict=True)) if one != other}


def test_the_entry_is_as_long_as_the_compiler_makes_it() -> None:
    assert len(entry(WORD_1_ECX, 3)) == ENTRY


def test_feature_is_cleared_and_nothing_else_changes() -> None:
    patched = remove_features(BINARY, ["avx2", "bmi2"])
    offset = find_word(BINARY, WORD_7_EBX)
    assert value(patched, WORD_7_EBX) == EBX_7 & ~(1 << 5) & ~(1 << 8)
    assert differing(BINARY, patched) <= set(range(offset, offset + 8))


@pytest.mark.parametrize(("name", "word", "left"), [("arat", WORD_6_EAX, 0), ("xsaveopt", WORD_D1_EAX, 4)])
def test_a_word_with_few_features_is_found_by_its_place(name: str, word: cpu_patch.Word, left: int) -> None:
    patched = remove_features(BINARY, [name])
    assert value(patched, word) == left
    assert len(differing(BINARY, patched)) == 1


def test_feature_that_is_not_offered_is_no_error() -> None:
    assert remove_features(remove_features(BINARY, ["avx2"]), ["avx2"]) == remove_features(BINARY, ["avx2"])


@pytest.mark.parametrize(
    ("binary", "count"),
    [
        (b"\x00" * 512, 0),
        (BINARY + entry(WORD_7_EBX, EBX_7), 2),
        (BINARY.replace(entry(WORD_1_ECX, 0x77FA3203), b"\0" * ENTRY), 0),
        (BINARY.replace(TABLE, TABLE + entry(WORD_1_ECX, 0x77FA3203)), 2),
    ],
)
def test_an_entry_must_be_found_exactly_once(binary: bytes, count: int) -> None:
    with pytest.raises(LabError, match=f"feature table: {count} places"):
        remove_features(binary, ["avx2", "avx"])


def test_what_lies_far_from_the_table_is_no_entry() -> None:
    far = BINARY.ljust(find_word(BINARY, WORD_6_EAX) + 100 * ENTRY - 536, b"\0") + entry(WORD_6_EAX, 4)
    assert find_word(far, WORD_6_EAX) == find_word(BINARY, WORD_6_EAX)


def test_every_feature_can_be_removed() -> None:
    for name, (word, bit) in FEATURES.items():
        patched = remove_features(EVERYTHING, [name])
        place = find_word(EVERYTHING, word)
        assert struct.unpack_from("<Q", patched, place)[0] == 0xFFFFFFFF & ~(1 << bit), name


def test_every_feature_has_its_own_bit() -> None:
    assert len(set(FEATURES.values())) == len(FEATURES)
    assert all(0 <= bit < 32 for _word, bit in FEATURES.values())


def test_vendor_is_exchanged_and_the_models_keep_theirs() -> None:
    patched = set_vendor(BINARY, "Intel")
    assert (patched.count(INTEL), patched.count(AMD)) == (2, 2)
    assert MODELS in patched
    assert patched.index(INTEL) == BINARY.index(AMD)
    assert set_vendor(BINARY, DEFAULT_VENDOR) == BINARY


@pytest.mark.parametrize(("binary", "count"), [(MODELS, 0), (BINARY + STRINGS, 2)])
def test_the_vendor_must_be_found_exactly_once(binary: bytes, count: int) -> None:
    with pytest.raises(LabError, match=f"`max`: {count} places"):
        set_vendor(binary, "Intel")


def test_vendors_are_equally_long() -> None:
    assert {len(text) for text in VENDORS.values()} == {12}
    assert set(FOREIGN) == set(VENDORS)
    assert all(name in FEATURES for names in FOREIGN.values() for name in names)


def test_a_copy_is_made_once_for_each_change(tmp_path: Path) -> None:
    original = tmp_path / "qemu"
    original.write_bytes(EVERYTHING + STRINGS)
    changes = [
        CpuChange(("avx2",)),
        CpuChange(vendor="Intel"),
        CpuChange(("avx2",), "Intel"),
        CpuChange(FOREIGN["Intel"]),
    ]
    copies = [patched_qemu(original, change, tmp_path) for change in changes]
    assert len({path.read_bytes() for path in [original, *copies]}) == 5
    assert [patched_qemu(original, change, tmp_path) for change in changes] == copies
    assert all(path.stat().st_mode & 0o111 for path in copies)


def test_without_a_change_the_original_is_used(tmp_path: Path) -> None:
    assert patched_qemu(tmp_path / "none", CpuChange(), tmp_path) == tmp_path / "none"


def test_a_host_of_another_vendor_lacks_what_that_vendor_never_had() -> None:
    assert {"avx2", "svm", "sse4a", "3dnow"} < set(CpuChange(("avx2",), "Intel").lacking)
    assert CpuChange(("avx2",)).lacking == ("avx2",)
