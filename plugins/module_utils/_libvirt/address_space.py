# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""How wide the physical addresses of a VM must be for QEMU to start it."""

from __future__ import annotations

from typing import Optional

from .. import _xml

_GIB_IN_KIB = 1024 * 1024

# Addresses below 4 GiB that are not memory: from 2 GiB on with q35, from 3 GiB on with i440fx (pc_q35.c, pc_piix.c).
_LOW_HOLE_GIB = {"q35": 2, "pc": 1}
# Addresses for PCI devices behind all memory, unless <pcihole64> says otherwise (hw/pci-host/q35.c and i440fx.c).
_HIGH_HOLE_GIB = {"q35": 32, "pc": 2}


def bits_needed(definition: str) -> Optional[int]:
    """Return the smallest width of physical addresses, in bits, with which QEMU starts a VM.

    The rule is ``pc_max_used_gpa`` in QEMU's hw/i386/pc.c (7.1 and newer; older ones do not check): what reaches beyond
    the width is refused with "phys-bits too low". To memory and hot-plug memory come 1 GiB for each slot, the hole
    below 4 GiB and the one for PCI devices, each rounded up to 1 GiB. AMD's hole below 1 TiB is not looked at.
    ``definition`` is as libvirt prints it, all sizes in KiB. ``None`` for machines that are no PC.
    """
    root = _xml.parse_as(definition, "domain")
    machine = _xml.find_attribute(root, "os/type", "machine") or ""
    kind = "q35" if "q35" in machine else "pc"
    if not machine.startswith((kind, "pc")):
        return None
    memory, most = _size_kib(root, "memory"), _size_kib(root, "maxMemory")
    end = max(4, _gib(memory) + _LOW_HOLE_GIB[kind])
    if most > memory:
        slots = _xml.to_int(_xml.find_attribute(root, "maxMemory", "slots")) or 0
        end += _gib(most - memory) + slots
    hole = _size_kib(root, "devices/controller[@type='pci'][@index='0']/pcihole64")
    return ((end + (_gib(hole) or _HIGH_HOLE_GIB[kind])) * 1024**3 - 1).bit_length()


def _size_kib(root: _xml.Element, path: str) -> int:
    return _xml.to_int(_xml.find_text(root, path)) or 0


def _gib(kib: int) -> int:
    """Return a size in whole GiB, rounded up."""
    return -(-kib // _GIB_IN_KIB)
