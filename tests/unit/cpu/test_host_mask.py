# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host hides instruction sets from itself, and never what it lives on."""

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu._host_mask import HIDEABLE, hideable

NEEDED = {
    "the kernel": "lm nx pae apic x2apic tsc-deadline invtsc xsave fsgsbase pcid smep smap umip arat erms fsrm",
    "KVM": "vmx svm npt nrip-save ept vmx-ept hypervisor",
    "mitigations": "spec-ctrl stibp ssbd md-clear arch-capabilities ibpb ibrs amd-ssbd virt-ssbd amd-stibp",
    "entropy": "rdrand",
}


@pytest.mark.parametrize("user", NEEDED)
def test_what_the_host_lives_on_is_never_hidden(user: str) -> None:
    assert hideable(NEEDED[user].split()) == ()


def test_instruction_sets_are_hidden_in_order() -> None:
    assert hideable(["clwb", "vmx", "avx512f"]) == ("avx512f", "clwb")


def test_names_are_libvirts() -> None:
    assert not [name for name in HIDEABLE if "_" in name]
