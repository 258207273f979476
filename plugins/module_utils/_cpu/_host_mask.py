# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Which CPU features a host's own kernel may be told to hide, so that guests with the host's CPU do not have them."""

from __future__ import annotations

from typing import Iterable, Tuple

# Instruction sets that programs ask for before they use them, by libvirt's names. Not among them, on purpose: what the
# kernel or KVM live on (vmx, svm, xsave, nx, smep, smap, x2apic, invtsc …), what mitigations need (spec-ctrl, ibpb,
# ssbd, md-clear …), and what the kernel itself gets its speed or its entropy from (erms, fsrm, rdrand).
_INSTRUCTION_SETS = """
    3dnow 3dnowext 3dnowprefetch abm adx aes amx-bf16 amx-complex amx-fp16 amx-int8 amx-tile avx avx-ifma
    avx-ne-convert avx-vnni avx-vnni-int16 avx-vnni-int8 avx2 avx512-4fmaps avx512-4vnniw avx512-bf16 avx512-fp16
    avx512-vp2intersect avx512-vpopcntdq avx512bitalg avx512bw avx512cd avx512dq avx512er avx512f avx512ifma avx512pf
    avx512vbmi avx512vbmi2 avx512vl avx512vnni bmi1 bmi2 cldemote clflushopt clwb f16c fma fma4 gfni hle lwp
    misalignsse movbe movdir64b movdiri mpx pclmuldq pku rdpid rdseed rtm sha-ni sha512 sm3 sm4 sse4.1 sse4.2 sse4a
    ssse3 tbm vaes vpclmulqdq xop
"""
HIDEABLE = frozenset(_INSTRUCTION_SETS.split())


def hideable(features: Iterable[str]) -> Tuple[str, ...]:
    """Return those of ``features`` that a kernel may hide, sorted."""
    return tuple(sorted(HIDEABLE.intersection(features)))
