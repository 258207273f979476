# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Whether VMs could be sent to other hosts, asked without any VM."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List, Mapping, Sequence

from ..._migration import stream_uri
from .destination import unreached
from .move import Move
from .sides import Peers, Sides, connected

# How many hosts are asked at once: each is waited for most of the time.
AT_ONCE = 16


def reach(destinations: Sequence[Mapping[str, Any]], source_uri: str) -> List[Dict[str, Any]]:
    """Return for each destination whether its libvirt and its migration port can be reached, in their order.

    A destination has ``name``, ``uri``, and ``uuid`` and ``address`` where they are known.
    """
    with connected() as peers, ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        return list(pool.map(lambda destination: _asked(peers, destination, source_uri), destinations))


def _asked(peers: Peers, destination: Mapping[str, Any], source_uri: str) -> Dict[str, Any]:
    move = Move(
        vm="",
        destination=destination["name"],
        uri=destination["uri"],
        destination_uuid=destination.get("uuid"),
        migrate_uri=stream_uri(destination.get("address")),
    )
    obstacle = unreached(Sides(peers, source_uri, move))
    return {
        "destination": move.destination,
        "reached": obstacle is None,
        "error": obstacle.code if obstacle else None,
        "reason": obstacle.text if obstacle else None,
    }
