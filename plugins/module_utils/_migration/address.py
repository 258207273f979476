# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Where the memory of a VM is sent."""

from __future__ import annotations

from typing import Optional


def stream_uri(address: Optional[str]) -> Optional[str]:
    """Return the URI of an address for libvirt; ``None`` leaves it to libvirt, which takes that of the host."""
    if address is None:
        return None
    return f"tcp://[{address}]" if ":" in address and not address.startswith("[") else f"tcp://{address}"
