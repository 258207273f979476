# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""How fast the way to another host is, as far as the kernel knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Optional

from .._errors import FleetError
from . import files
from .command import Run

# A link's speed is given in Mbit/s.
MBIT_PER_MIB = 8 * 1.048576


def link_mib_s(address: str, run: Run, root: Path = Path("/")) -> Optional[float]:
    """Return the speed of the link to an IP address in MiB/s; ``None`` where nobody knows it, as for virtual links."""
    ran = run(["ip", "-json", "route", "get", address])
    try:
        (route,) = json.loads(ran.stdout) if ran.rc == 0 else ({},)
        device = route.get("dev")
    except (ValueError, AttributeError):
        return None
    if not device:
        return None
    try:
        speed = int(files.read_text(root / "sys/class/net" / device / "speed") or 0)
    except (ValueError, FleetError):
        # One that is down or has no speed answers with an error of the system.
        return None
    return round(speed / MBIT_PER_MIB, 1) if speed > 0 else None
