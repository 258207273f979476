# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the CPU of a copy of QEMU: features that a host really lacks under TCG, and another vendor.

QEMU keeps what TCG can emulate in `feature_word_info[].tcg_features` (target/i386/cpu.c). The entries lie in the
binary's data one behind the other, with a fixed layout (struct FeatureWordInfo, a CPUID word):

    u32 type, padding; char *names[64]; u32 eax; u8 needs_ecx, 3 bytes padding; u32 ecx; i32 reg; u64 tcg_features,
    unmigratable_flags, migratable_flags, no_autoenable_flags

Clearing a bit makes `host-model`, `domcapabilities`, `check=partial` and incoming migrations of this binary refuse the
feature, as on a machine whose CPU lacks it. Only presence bits change: an instruction is not made to fault.

The vendor of the CPU `max`, of which libvirt makes `host-model`, is a string of its own (max_x86_cpu_initfn); the named
models have theirs inside their definitions. A guest of vendor Intel therefore sees what libvirt asks QEMU for.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, Iterator, Mapping, Sequence, Tuple

from ..shell import LabError

EAX, ECX, EDX, EBX = 0, 1, 2, 3  # order of enum R_EAX … in target/i386/cpu.h

ENTRY = 8 + 64 * 8 + 16 + 4 * 8  # bytes
LARGEST = 100  # entries; QEMU 10 has 41

Word = Tuple[int, int, int, int]  # eax, needs_ecx, ecx, register

WORD_1_ECX: Word = (0x1, 0, 0, ECX)
WORD_6_EAX: Word = (0x6, 0, 0, EAX)
WORD_7_EBX: Word = (0x7, 1, 0, EBX)
WORD_7_ECX: Word = (0x7, 1, 0, ECX)
WORD_7_EDX: Word = (0x7, 1, 0, EDX)
WORD_81_ECX: Word = (0x80000001, 0, 0, ECX)
WORD_81_EDX: Word = (0x80000001, 0, 0, EDX)
WORD_88_EBX: Word = (0x80000008, 0, 0, EBX)
WORD_8A_EDX: Word = (0x8000000A, 0, 0, EDX)
WORD_D1_EAX: Word = (0xD, 1, 1, EAX)

_BITS: Dict[Word, Dict[str, int]] = {
    WORD_1_ECX: {
        "pni": 0, "pclmuldq": 1, "monitor": 3, "ssse3": 9, "fma": 12, "cx16": 13, "sse4.1": 19, "sse4.2": 20,
        "x2apic": 21, "movbe": 22, "popcnt": 23, "aes": 25, "xsave": 26, "avx": 28, "f16c": 29, "rdrand": 30,
    },
    WORD_6_EAX: {"arat": 2},
    WORD_7_EBX: {
        "fsgsbase": 0, "bmi1": 3, "avx2": 5, "smep": 7, "bmi2": 8, "erms": 9, "mpx": 14, "rdseed": 18, "adx": 19,
        "smap": 20, "clflushopt": 23, "clwb": 24, "sha-ni": 29,
    },
    WORD_7_ECX: {"umip": 2, "pku": 3, "vaes": 9, "la57": 16, "rdpid": 22, "pks": 31},
    WORD_7_EDX: {"fsrm": 4},
    WORD_81_ECX: {
        "lahf_lm": 0, "cmp_legacy": 1, "svm": 2, "cr8legacy": 4, "abm": 5, "sse4a": 6, "3dnowprefetch": 8,
    },
    WORD_81_EDX: {"nx": 20, "mmxext": 22, "pdpe1gb": 26, "rdtscp": 27, "3dnowext": 30, "3dnow": 31},
    WORD_88_EBX: {"xsaveerptr": 2, "wbnoinvd": 9},
    WORD_8A_EDX: {"npt": 0, "vgif": 16, "svme-addr-chk": 28},
    WORD_D1_EAX: {"xsaveopt": 0, "xgetbv1": 2},
}  # fmt: skip

FEATURES: Dict[str, Tuple[Word, int]] = {
    name: (word, bit) for word, bits in _BITS.items() for name, bit in bits.items()
}

DEFAULT_VENDOR = "AMD"  # what TCG says
# Vendors by libvirt's names, as CPUID spells them.
VENDORS: Mapping[str, bytes] = {DEFAULT_VENDOR: b"AuthenticAMD", "Intel": b"GenuineIntel"}
# What TCG offers and no CPU of the vendor has.
FOREIGN: Mapping[str, Tuple[str, ...]] = {
    DEFAULT_VENDOR: (),
    "Intel": (
        "3dnow", "3dnowext", "cmp_legacy", "cr8legacy", "mmxext", "npt", "sse4a", "svm", "svme-addr-chk", "vgif",
        "xsaveerptr",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class CpuChange:
    """What a host's QEMU says otherwise than the original: features it lacks, and the vendor of its CPU."""

    without: Tuple[str, ...] = ()
    vendor: str = DEFAULT_VENDOR

    @property
    def lacking(self) -> Tuple[str, ...]:
        """All features to take away, sorted."""
        return tuple(sorted({*self.without, *FOREIGN[self.vendor]}))


def find_word(binary: bytes, word: Word) -> int:
    """Offset of the `tcg_features` field of a CPUID word. Raises LabError unless exactly one place fits."""
    # This word alone is told by its many features. Elsewhere the bytes of a CPUID word mean other things.
    known = [place for place in _places(binary, WORD_7_EBX) if _is_register(binary, place)]
    anchor = _only(known, WORD_7_EBX)
    table = range(anchor % ENTRY, len(binary), ENTRY)
    return _only([p for p in _places(binary, word) if p in table and abs(p - anchor) < LARGEST * ENTRY], word)


def _places(binary: bytes, word: Word) -> Iterator[int]:
    """Every offset of a u64 behind the bytes of the word."""
    pattern = struct.pack("<IIII", *word)
    start = binary.find(pattern)
    while start >= 0:
        place = start + len(pattern) + (-(start + len(pattern)) % 8)
        if place + 8 <= len(binary):
            yield place
        start = binary.find(pattern, start + 1)


def _is_register(binary: bytes, place: int) -> bool:
    value = struct.unpack_from("<Q", binary, place)[0]
    return bool(value < 1 << 32 and bin(value).count("1") > 1)


def _only(places: Sequence[int], word: Word) -> int:
    if len(places) != 1:
        raise LabError(
            f"QEMU's CPU feature table: {len(places)} places fit CPUID word {word} instead of one; this build has"
            " another layout (compare struct FeatureWordInfo in its target/i386/cpu.c)"
        )
    return places[0]


def remove_features(binary: bytes, features: Iterable[str]) -> bytes:
    """Return the binary without the features; one it does not offer anyway is no error."""
    patched = bytearray(binary)
    for name in features:
        word, bit = FEATURES[name]
        offset = find_word(binary, word)
        value = struct.unpack_from("<Q", patched, offset)[0]
        struct.pack_into("<Q", patched, offset, value & ~(1 << bit))
    return bytes(patched)


def set_vendor(binary: bytes, vendor: str) -> bytes:
    """Return the binary whose CPU `max` has the vendor. Raises LabError unless exactly one place fits."""
    # In a model's definition the byte before the vendor is the last one of `xlevel`, which is not zero.
    before, after = (b"\0%s\0" % VENDORS[name] for name in (DEFAULT_VENDOR, vendor))
    hits = binary.count(before)
    if hits != 1:
        raise LabError(
            f"QEMU's CPU `max`: {hits} places fit its vendor instead of one; this build has another layout (compare"
            " max_x86_cpu_initfn in its target/i386/cpu.c)"
        )
    return binary.replace(before, after)


def patched_qemu(original: Path, change: CpuChange, cache: Path) -> Path:
    """Path of a copy of `original` with the change, made once per build and change; the original if there is none."""
    if change == CpuChange():
        return original
    binary = original.read_bytes()
    key = hashlib.sha256(binary + f"{change.vendor} {','.join(change.lacking)}".encode()).hexdigest()[:16]
    copy = cache / f"qemu-{key}"
    if not copy.exists():
        partial = cache / f"{copy.name}.partial-{os.getpid()}"
        partial.write_bytes(set_vendor(remove_features(binary, change.lacking), change.vendor))
        partial.chmod(0o755)
        partial.rename(copy)
    return copy
