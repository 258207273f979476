# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Features are cleared in QEMU's table, and nowhere else."""

from __future__ import annotations

import struct

import pytest

from tests.lab.pod.cpu_patch import FEATURES, WORD_1_ECX, WORD_7_EBX, find_word, remove_features
from tests.lab.shell import LabError

EBX_7 = 0x219C03A9  # some features of CPUID 7 EBX: fsgsbase, bmi1, avx2, smep, bmi2, erms, …


def entry(word: tuple[int, ...], tcg: int) -> bytes:
    """An entry of QEMU's table as the compiler lays it out."""
    return struct.pack("<IIIIQQQQ", *word, tcg, 0, 0, 0)


# The same CPUID words without a table entry behind them occur elsewhere in the binary.
NOISE = struct.pack("<IIII", *WORD_7_EBX) + b"\xff" * 16
BINARY = b"\x00" * 64 + NOISE + entry(WORD_1_ECX, 0x77FA3203) + entry(WORD_7_EBX, EBX_7) + b"\x00" * 64


def test_feature_is_cleared_and_nothing_else_changes() -> None:
    patched = remove_features(BINARY, ["avx2", "bmi2"])
    offset = find_word(BINARY, WORD_7_EBX)
    assert struct.unpack_from("<Q", patched, offset)[0] == EBX_7 & ~(1 << 5) & ~(1 << 8)
    assert patched[:offset] == BINARY[:offset]
    assert patched[offset + 8 :] == BINARY[offset + 8 :]


def test_feature_that_is_not_offered_is_no_error() -> None:
    assert remove_features(remove_features(BINARY, ["avx2"]), ["avx2"]) == remove_features(BINARY, ["avx2"])


@pytest.mark.parametrize(("binary", "count"), [(b"\x00" * 512, 0), (BINARY + entry(WORD_7_EBX, EBX_7), 2)])
def test_table_must_be_found_exactly_once(binary: bytes, count: int) -> None:
    with pytest.raises(LabError, match=f"feature table: {count} places"):
        remove_features(binary, ["avx2"])


def test_every_feature_has_its_own_bit() -> None:
    assert len(set(FEATURES.values())) == len(FEATURES)
    assert all(0 <= bit < 32 for _word, bit in FEATURES.values())
