# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""The layout of the XSAVE area, which libvirt does not tell, from the CPUID instruction.

Offsets of components are the maker's choice: two CPUs with the same features may store, say, AVX-512 at different
places, and QEMU then cannot load the state that the other one saved. Leaves and bits are those of Intel's Software
Developer's Manual, volume 2A, CPUID, and AMD's Programmer's Manual, volume 3, appendix E.
"""

from __future__ import annotations

import importlib
import mmap
import os
import platform
import struct
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Callable, Iterator, List, Optional, Tuple

# EAX, EBX, ECX and EDX of a leaf and sub-leaf.
Registers = Tuple[int, int, int, int]
Cpuid = Callable[[int, int], Registers]
# Number of the component, its size in bytes, and its offset in bytes in the standard format (0 in supervisor state).
Component = Tuple[int, int, int]

DEVICE = Path("/dev/cpu/0/cpuid")
XSAVE_LEAF = 0xD
_XSAVE = 1 << 26
# Components 0 and 1, x87 and SSE, are the legacy area, which is the same everywhere; 63 is reserved.
_COMPONENTS = range(2, 63)

# void cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out[4]) in the System V calling convention.
_STUB = bytes.fromhex(
    "f30f1efa"  # endbr64
    "53"  # push rbx, which belongs to the caller and which CPUID overwrites
    "4989d0"  # mov r8, rdx
    "89f8"  # mov eax, edi
    "89f1"  # mov ecx, esi
    "0fa2"  # cpuid
    "418900"  # mov [r8], eax
    "41895804"  # mov [r8+4], ebx
    "41894808"  # mov [r8+8], ecx
    "4189500c"  # mov [r8+12], edx
    "5b"  # pop rbx
    "c3"  # ret
)


def read_xsave(device: Path = DEVICE) -> Optional[Tuple[Component, ...]]:
    """Return the components of this machine's XSAVE area by number; empty if its CPU has none beyond SSE.

    ``None`` where it cannot be read: another architecture, or a system that allows neither way.
    """
    for way in (partial(from_device, device), from_instruction):
        with suppress(OSError):
            cpuid = way()
            if cpuid is not None:
                return xsave_components(cpuid)
    return None


def xsave_components(cpuid: Cpuid) -> Tuple[Component, ...]:
    """Return the components that the CPU behind ``cpuid`` can save, user state (XCR0) and supervisor state (XSS)."""
    highest = cpuid(0, 0)[0]
    # Beyond its highest leaf a CPU repeats what it has there, so nothing may be read into it.
    if highest < XSAVE_LEAF or not cpuid(1, 0)[2] & _XSAVE:
        return ()
    return tuple(_components(cpuid))


def _components(cpuid: Cpuid) -> Iterator[Component]:
    low, _size, _maximum, high = cpuid(XSAVE_LEAF, 0)
    user = high << 32 | low
    _features, _compacted, low, high = cpuid(XSAVE_LEAF, 1)
    supervisor = high << 32 | low
    for number in _COMPONENTS:
        if (user | supervisor) >> number & 1:
            size, offset, _flags, _reserved = cpuid(XSAVE_LEAF, number)
            yield number, size, offset if user >> number & 1 else 0


def from_device(device: Path = DEVICE) -> Optional[Cpuid]:
    """Return CPUID as the kernel's module ``cpuid`` offers it to root; ``None`` where it is not loaded."""
    if not device.exists():
        return None

    def cpuid(leaf: int, subleaf: int) -> Registers:
        handle = os.open(device, os.O_RDONLY)
        try:
            return _registers(os.pread(handle, 16, subleaf << 32 | leaf))
        finally:
            os.close(handle)

    return cpuid


def from_instruction() -> Optional[Cpuid]:
    """Return CPUID as this process runs it itself; ``None`` where it may not make code, as SELinux can rule."""
    if platform.machine() != "x86_64" or sys.maxsize < 2**63 - 1:
        return None
    try:
        # Some systems let no program make code at run time, and with an old libffi ctypes does not even load there.
        ctypes = importlib.import_module("ctypes")
        page = mmap.mmap(
            -1,
            mmap.PAGESIZE,
            flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
            prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC,
        )
        page.write(_STUB)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        function = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p)(address)
    except (ImportError, OSError, MemoryError, ValueError):
        return None

    def cpuid(leaf: int, subleaf: int, _page: mmap.mmap = page) -> Registers:
        # The default argument keeps the page for as long as somebody can call into it.
        out = ctypes.create_string_buffer(16)
        function(leaf, subleaf, out)
        return _registers(out.raw)

    return cpuid


def _registers(raw: bytes) -> Registers:
    if len(raw) != 16:
        raise OSError(f"CPUID returned {len(raw)} bytes")
    eax, ebx, ecx, edx = struct.unpack("<4I", raw)
    return eax, ebx, ecx, edx


def as_lists(components: Optional[Tuple[Component, ...]]) -> Optional[List[List[int]]]:
    """Return a layout as JSON has it, ``[[component, size, offset], …]``."""
    return None if components is None else [list(component) for component in components]
