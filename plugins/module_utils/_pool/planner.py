# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""From a request and a snapshot to an answer."""

from __future__ import annotations

from typing import Any, Dict

from .answer import answer
from .judge import decide
from .reading import load
from .request import parse
from .stat import stat


def plan(request: Any, snapshot: Any) -> Dict[str, Any]:
    """Return the answer (JSON) to a request (JSON) about a snapshot (JSON); the same input gives the same answer.

    Raises ``FleetError`` as ``load`` and ``parse`` do; what cannot be done is part of the answer.
    """
    fleet = load(snapshot)
    asked = parse(request, fleet)
    if asked.question == "stat":
        return stat(fleet, asked)
    return answer(fleet, asked, *decide(fleet, asked))
