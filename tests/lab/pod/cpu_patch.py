# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take CPU features away from a copy of QEMU, so that a host really lacks them under TCG.

QEMU keeps what TCG can emulate in `feature_word_info[].tcg_features` (target/i386/cpu.c). The entries lie in the
binary's data with a fixed layout (struct FeatureWordInfo, a CPUID word):

    u32 eax; u8 needs_ecx, 3 bytes padding; u32 ecx; i32 reg; u64 tcg_features; …

Clearing a bit makes `host-model`, `domcapabilities`, `check=partial` and incoming migrations of this binary refuse the
feature, as on a machine whose CPU lacks it. Only presence bits change: an instruction is not made to fault, and the
vendor stays AMD, which is what TCG says.
"""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from typing import Dict, Iterable, Tuple

from ..shell import LabError

EAX, ECX, EDX, EBX = 0, 1, 2, 3  # order of enum R_EAX … in target/i386/cpu.h

Word = Tuple[int, int, int, int]  # eax, needs_ecx, ecx, register

WORD_1_ECX: Word = (0x1, 0, 0, ECX)
WORD_7_EBX: Word = (0x7, 1, 0, EBX)
WORD_7_ECX: Word = (0x7, 1, 0, ECX)
WORD_7_EDX: Word = (0x7, 1, 0, EDX)
WORD_81_ECX: Word = (0x80000001, 0, 0, ECX)
WORD_81_EDX: Word = (0x80000001, 0, 0, EDX)

_BITS: Dict[Word, Dict[str, int]] = {
    WORD_1_ECX: {
        "pni": 0, "pclmuldq": 1, "monitor": 3, "ssse3": 9, "fma": 12, "cx16": 13, "sse4.1": 19, "sse4.2": 20,
        "movbe": 22, "popcnt": 23, "aes": 25, "xsave": 26, "avx": 28, "f16c": 29, "rdrand": 30,
    },
    WORD_7_EBX: {
        "fsgsbase": 0, "bmi1": 3, "avx2": 5, "smep": 7, "bmi2": 8, "erms": 9, "mpx": 14, "rdseed": 18, "adx": 19,
        "smap": 20, "clflushopt": 23, "clwb": 24, "sha-ni": 29,
    },
    WORD_7_ECX: {"umip": 2, "pku": 3, "vaes": 9, "la57": 16, "rdpid": 22, "pks": 31},
    WORD_7_EDX: {"fsrm": 4},
    WORD_81_ECX: {"lahf_lm": 0, "svm": 2, "abm": 5, "sse4a": 6},
    WORD_81_EDX: {"nx": 20, "pdpe1gb": 26, "rdtscp": 27, "3dnowext": 30, "3dnow": 31},
}  # fmt: skip

FEATURES: Dict[str, Tuple[Word, int]] = {
    name: (word, bit) for word, bits in _BITS.items() for name, bit in bits.items()
}


def find_word(binary: bytes, word: Word) -> int:
    """Offset of the `tcg_features` field of a CPUID word. Raises LabError unless exactly one place fits."""
    pattern = struct.pack("<IIII", *word)
    hits = []
    start = binary.find(pattern)
    while start >= 0:
        offset = start + len(pattern) + (-(start + len(pattern)) % 8)  # u64 alignment
        if offset + 8 <= len(binary):
            value = struct.unpack_from("<Q", binary, offset)[0]
            # A real entry is a 32-bit register with several features; elsewhere these bytes mean other things.
            if value < 1 << 32 and bin(value).count("1") >= 2:
                hits.append(offset)
        start = binary.find(pattern, start + 1)
    if len(hits) != 1:
        raise LabError(
            f"QEMU's CPU feature table: {len(hits)} places fit CPUID word {word} instead of one; this build has"
            " another layout (compare struct FeatureWordInfo in its target/i386/cpu.c)"
        )
    return hits[0]


def remove_features(binary: bytes, features: Iterable[str]) -> bytes:
    """Return the binary without the features; one it does not offer anyway is no error."""
    patched = bytearray(binary)
    for name in features:
        word, bit = FEATURES[name]
        offset = find_word(binary, word)
        value = struct.unpack_from("<Q", patched, offset)[0]
        struct.pack_into("<Q", patched, offset, value & ~(1 << bit))
    return bytes(patched)


def patched_qemu(original: Path, features: Tuple[str, ...], cache: Path) -> Path:
    """Path of a copy of `original` without the features, made once per build and set of features."""
    binary = original.read_bytes()
    key = hashlib.sha256(binary + ",".join(sorted(features)).encode()).hexdigest()[:16]
    copy = cache / f"qemu-{key}"
    if not copy.exists():
        partial = cache / f"{copy.name}.partial-{os.getpid()}"
        partial.write_bytes(remove_features(binary, features))
        partial.chmod(0o755)
        partial.rename(copy)
    return copy
