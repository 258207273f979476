# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Why a VM cannot go somewhere: data for programs, with one sentence for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional


@dataclass(frozen=True)
class Reason:
    """One reason. ``host`` is the rejected destination, or ``None`` where the VM cannot go anywhere.

    ``code`` is a stable word, ``facts`` are numbers and names with the unit in the key.
    """

    code: str
    text: str
    host: Optional[str] = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> Dict[str, Any]:
        return {"host": self.host, "code": self.code, "text": self.text, **self.facts}


def amount(kib: int) -> str:
    """Return memory for people: ``8 GiB``, ``1.5 GiB``, ``300 MiB``, ``12 KiB``."""
    for unit, size in (("TiB", 1 << 30), ("GiB", 1 << 20), ("MiB", 1 << 10)):
        if abs(kib) >= size:
            return f"{kib / size:.1f}".replace(".0", "") + f" {unit}"
    return f"{kib} KiB"
