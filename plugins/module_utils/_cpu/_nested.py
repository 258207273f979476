# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Features of nested virtualisation, which pools hide: hosts and releases differ too much in them."""

from __future__ import annotations

# The names below CPUID leaf 0x8000000A (AMD) and the switches of both vendors, as libvirt's x86_features.xml has them.
# Intel's sub-features (MSRs 0x480 to 0x491) all begin with vmx-.
NESTED = frozenset(
    {
        "vmx",
        "svm",
        "avic",
        "decodeassists",
        "flushbyasid",
        "lbrv",
        "npt",
        "nrip-save",
        "pause-filter",
        "pfthreshold",
        "svm-lock",
        "svme-addr-chk",
        "tsc-scale",
        "v-vmsave-vmload",
        "vgif",
        "vmcb-clean",
        "vnmi",
    }
)


def is_nested(name: str) -> bool:
    """Whether a feature only serves guests that run guests of their own."""
    return name in NESTED or name.startswith("vmx-")
