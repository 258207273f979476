# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Tiers of Intel CPUs, comparable with oVirt's cluster levels and with the generations of VMware EVC."""

from __future__ import annotations

from typing import Tuple

from ._pool import PoolCpu
from ._preset import Preset, tier

# Models and security features are those of oVirt's ServerCPUList (ovirt-engine, packaging/dbscripts/upgrade/
# pre_upgrade/0000_config.sql, level 4.7). What a model means was compared between libvirt's src/cpu_map 11.3 and QEMU
# 10.0 (query-cpu-model-expansion without an accelerator's filter), so that nothing is left to QEMU's model alone.
_SOURCE = "oVirt ServerCPUList 4.7, libvirt cpu_map 11.3, QEMU 10.0"

# In no tier: microcode updates took hle and rtm away, Ice Lake dropped mpx, pku and xsaves change the XSAVE area, a
# guest with invtsc does not migrate unless its frequency is fixed. KVM turns monitor off by itself. vme is in QEMU's
# models with KVM but not with TCG, and only some of libvirt's have it; nothing in 64-bit mode can use it.
_NEVER = ("hle", "invtsc", "monitor", "mpx", "pku", "rtm", "vme", "xsaves")

# QEMU's models bring these, libvirt's do not know. What every CPU of the generation has, and the generation before it
# gives already, is required instead.
_WESTMERE = (*_NEVER, "arat", "pclmuldq")
_SANDYBRIDGE = (*_NEVER, "arat", "xsaveopt")
_HASWELL_HAS = ("abm", "f16c", "rdrand")
_SKYLAKE_SERVER = (*_NEVER, "clflushopt")
# Without rtm its load tracking is useless. KVM takes taa-no away where the kernel turned TSX off, and a guest without
# rtm needs no such word (kvm_get_arch_capabilities in Linux); oVirt's hosts fell out of their cluster for it.
_SAPPHIRE_RAPIDS = (*_NEVER, "taa-no", "tsx-ldtrk")

_FLUSHES = ("md-clear", "spec-ctrl", "ssbd")
_IMMUNE = ("arch-capabilities", "ibrs-all", "mds-no", "rdctl-no", "skip-l1dfl-vmentry")
_IMMUNE_ICELAKE = (*_IMMUNE, "pschange-mc-no")


def _intel(model: str, disable: Tuple[str, ...] = _NEVER, require: Tuple[str, ...] = ()) -> PoolCpu:
    return PoolCpu(model, "Intel", require, disable)


# From the weakest to the strongest: name, title, the tier's CPU, that of its secure twin.
_TIERS = (
    ("nehalem", "Nehalem", _intel("Nehalem"), _intel("Nehalem", require=_FLUSHES)),
    ("westmere", "Westmere", _intel("Westmere", _WESTMERE), _intel("Westmere", _WESTMERE, (*_FLUSHES, "pcid"))),
    (
        "sandybridge",
        "Sandy Bridge",
        _intel("SandyBridge", _SANDYBRIDGE),
        _intel("SandyBridge", _SANDYBRIDGE, (*_FLUSHES, "pcid")),
    ),
    (
        "ivybridge",
        "Ivy Bridge",
        _intel("IvyBridge", _SANDYBRIDGE),
        _intel("IvyBridge", _SANDYBRIDGE, (*_FLUSHES, "pcid")),
    ),
    (
        "haswell",
        "Haswell",
        _intel("Haswell-noTSX", _SANDYBRIDGE, _HASWELL_HAS),
        _intel("Haswell-noTSX", _SANDYBRIDGE, (*_HASWELL_HAS, *_FLUSHES)),
    ),
    (
        "broadwell",
        "Broadwell",
        _intel("Broadwell-noTSX", _SANDYBRIDGE, _HASWELL_HAS),
        _intel("Broadwell-noTSX", _SANDYBRIDGE, (*_HASWELL_HAS, *_FLUSHES)),
    ),
    (
        "skylake-client",
        "Skylake, client",
        _intel("Skylake-Client"),
        _intel("Skylake-Client-noTSX-IBRS", require=_FLUSHES),
    ),
    (
        "skylake-server",
        "Skylake, server",
        _intel("Skylake-Server", _SKYLAKE_SERVER),
        _intel("Skylake-Server-noTSX-IBRS", _SKYLAKE_SERVER, _FLUSHES),
    ),
    (
        "cascadelake",
        "Cascade Lake",
        _intel("Cascadelake-Server"),
        _intel("Cascadelake-Server-noTSX", require=_IMMUNE),
    ),
    (
        "icelake-server",
        "Ice Lake, server",
        _intel("Icelake-Server-noTSX"),
        _intel("Icelake-Server-noTSX", require=_IMMUNE_ICELAKE),
    ),
    # Its model alone says that it is immune; the twin keeps that if another QEMU's model should not.
    (
        "sapphire-rapids",
        "Sapphire Rapids",
        _intel("SapphireRapids", _SAPPHIRE_RAPIDS),
        _intel("SapphireRapids", _SAPPHIRE_RAPIDS, _IMMUNE_ICELAKE),
    ),
)

INTEL: Tuple[Preset, ...] = tuple(
    preset
    for name, title, cpu, secure in _TIERS
    for preset in tier(f"intel-{name}", f"Intel {title}", _SOURCE, cpu, secure)
)
