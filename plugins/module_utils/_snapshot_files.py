# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""Snapshot files on the controller, for modules that plan from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping

from ._errors import FleetError
from ._placement import merge


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; raise FleetError with the code unreadable."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise FleetError(f"Cannot read {path} as JSON: {error}", code="unreadable", path=str(path)) from error


def read_snapshot(request: Mapping[str, Any], start: Path) -> Any:
    """Return the snapshot that a request holds or names; a directory is read as parts.

    A relative ``snapshot_path`` starts at ``start``. Raises ``FleetError``: ``bad_request`` unless exactly one of
    ``snapshot`` and ``snapshot_path`` is given, ``unreadable``, and ``bad_snapshot`` as ``merge`` does.
    """
    if (request.get("snapshot") is None) == (request.get("snapshot_path") is None):
        raise FleetError("request: give either snapshot or snapshot_path.", code="bad_request", field="snapshot")
    if request.get("snapshot") is not None:
        return request["snapshot"]
    path = start / str(request["snapshot_path"])
    if not path.is_dir():
        return read_json(path)
    parts = sorted(path.glob("*.json"))
    if not parts:
        message = f"The directory {path} holds no *.json file. Collect the snapshot into it with host_info first."
        raise FleetError(message, code="unreadable", path=str(path))
    return merge(read_json(part) for part in parts)
