# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to the virtops.kvm_fleet collection: no stability is promised to other users.

"""What a running ``vm_migrate`` tells about itself, in a file that the controller and a second run can read."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Dict, Mapping

from ..._host import files

# Private, on a file system that a reboot empties: whatever was under way then is over.
RUN_DIRECTORY = Path("/run/kvm_fleet")
PROGRESS_FILE = RUN_DIRECTORY / "migrate.progress"


class Progress:
    """The latest word on every VM of this run, written whole each time so that a reader never sees a part.

    ``sizes_kib`` is the memory of all VMs that are to move.
    """

    def __init__(self, sizes_kib: Mapping[str, int], path: Path = PROGRESS_FILE) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._sizes_kib = dict(sizes_kib)
        self._vms: Dict[str, Dict[str, Any]] = {}
        self._write()

    def update(self, vm: str, destination: str, news: Mapping[str, Any]) -> None:
        """Note ``news`` of a VM: ``state``, or the figures of a migration under way."""
        with self._lock:
            self._vms[vm] = {**self._vms.get(vm, {}), "destination": destination, **news}
            self._write()

    def end(self) -> None:
        """Forget everything: a later run must not show it as its own."""
        files.remove(self._path)

    def _write(self) -> None:
        waiting = {vm: size for vm, size in self._sizes_kib.items() if vm not in self._vms}
        known = {"vms": self._vms, "waiting_kib": waiting}
        files.write_text(self._path, json.dumps(known) + "\n", mode=0o600)
