# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Tiers of AMD CPUs, comparable with oVirt's cluster levels and with the generations of VMware EVC."""

from __future__ import annotations

from typing import Tuple

from ._pool import PoolCpu
from ._preset import Preset, tier

# Models are those of oVirt's ServerCPUList (ovirt-engine, packaging/dbscripts/upgrade/pre_upgrade/0000_config.sql,
# level 4.7, which ends with EPYC), and named alike after that. What a model means was compared between libvirt's
# src/cpu_map 11.3 and QEMU 10.0 (query-cpu-model-expansion without an accelerator's filter).
_SOURCE = "oVirt ServerCPUList 4.7, libvirt cpu_map 11.3, QEMU 10.0"

# In no tier: svm with all below it is missing on a host without nested virtualisation; pku and xsaves change the XSAVE
# area; a guest with invtsc does not migrate unless its frequency is fixed. KVM turns monitor off by itself. vme is in
# QEMU's models with KVM but not with TCG, and only some of libvirt's have it; nothing in 64-bit mode can use it.
_NEVER = ("invtsc", "monitor", "npt", "nrip-save", "pku", "svm", "svme-addr-chk", "vme", "vnmi", "xsaves")

# QEMU's EPYC models bring it, libvirt's do not know. It is required, because a guest without it takes threads for
# cores, and because KVM can always give it (kvm_arch_get_supported_cpuid in QEMU's target/i386/kvm).
_THREADS = ("topoext",)

# virt-ssbd is what KVM makes of either way in which the host itself turns speculative stores off.
_VIRTUAL = ("ibpb", "virt-ssbd")
_NATIVE = ("amd-ssbd", "ibpb", "ibrs")


def _amd(model: str, *require: str) -> PoolCpu:
    return PoolCpu(model, "AMD", require, _NEVER)


# From the weakest to the strongest: name, title, the tier's CPU, that of its secure twin. Opterons have xop, fma4 and
# tbm (G5), which no EPYC has: a pool of both takes an x86-64 level instead.
_TIERS = (
    ("opteron-g4", "Opteron G4", _amd("Opteron_G4"), _amd("Opteron_G4", *_VIRTUAL)),
    ("opteron-g5", "Opteron G5", _amd("Opteron_G5"), _amd("Opteron_G5", *_VIRTUAL)),
    ("epyc", "EPYC", _amd("EPYC", *_THREADS), _amd("EPYC", *_THREADS, *_VIRTUAL)),
    ("epyc-rome", "EPYC Rome", _amd("EPYC-Rome", *_THREADS), _amd("EPYC-Rome", *_THREADS, *_NATIVE)),
    ("epyc-milan", "EPYC Milan", _amd("EPYC-Milan", *_THREADS), _amd("EPYC-Milan", *_THREADS, *_NATIVE)),
    ("epyc-genoa", "EPYC Genoa", _amd("EPYC-Genoa", *_THREADS), _amd("EPYC-Genoa", *_THREADS, *_NATIVE)),
)

AMD: Tuple[Preset, ...] = tuple(
    preset
    for name, title, cpu, secure in _TIERS
    for preset in tier(f"amd-{name}", f"AMD {title}", _SOURCE, cpu, secure)
)
