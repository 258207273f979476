# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Why a VM cannot go somewhere: data for programs, with one sentence for people."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple


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


# Up to how many reasons of single hosts are all listed; of more, some of each code.
ALL_LISTED = 20
SOME_LISTED = 3


def some_of_each(reasons: Sequence[Reason]) -> Tuple[Reason, ...]:
    """Return the reasons, or where these are too many to read, the first few of each code."""
    if len(reasons) <= ALL_LISTED:
        return tuple(reasons)
    seen: Dict[str, int] = {}
    found: List[Reason] = []
    for reason in reasons:
        seen[reason.code] = seen.get(reason.code, 0) + 1
        if reason.host is None or seen[reason.code] <= SOME_LISTED:
            found.append(reason)
    return tuple(found)


def counts_of(reasons: Sequence[Reason]) -> Dict[str, int]:
    """Return by code how many hosts have such a reason."""
    codes = [reason.code for reason in reasons if reason.host is not None]
    return {code: codes.count(code) for code in sorted(set(codes))}
