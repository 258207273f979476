# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The memory of a VM's process beside its guest's."""

from __future__ import annotations

# QEMU's own code and buffers, its vCPU threads, and the page tables of the guest's memory. An estimate on the safe
# side; libvirt has no figure for it.
_BASE_KIB = 64 * 1024
_PER_VCPU_KIB = 8 * 1024
_PAGE_TABLE_SHARE = 512


def overhead_kib(memory_kib: int, vcpus: int) -> int:
    """Return the memory that a QEMU process is charged beside its guest's."""
    return _BASE_KIB + _PER_VCPU_KIB * vcpus + memory_kib // _PAGE_TABLE_SHARE
