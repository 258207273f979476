# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serial logs of guests on machines: each machine has its own part on its disk."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Callable, Dict, Sequence

from ..logs import Logs
from ..shell import LabError, wait_for
from ..verdict import Verdict, read_log
from .host import MachineHost
from .joining import join


class GatheredLogs(Logs):
    """Logs whose parts are fetched from the machines and joined. What a machine that is off had told is kept."""

    def __init__(self, folder: Path, hosts: Callable[[], Sequence[MachineHost]]) -> None:
        super().__init__(folder)
        self._hosts = hosts

    def clear(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)
        self._each(lambda host: host.forget_log(name))

    def verdict(self, name: str) -> Verdict:
        found = self._read(name)

        def settled() -> bool:
            nonlocal found
            before, found = found, self._read(name)
            return found.gaps >= before.gaps

        # The parts are not read at one moment: what a guest on its way wrote in between seems to be missing.
        if found.gaps:
            with suppress(LabError):
                wait_for("the same gaps twice", settled, timeout=10, interval=1.0)
        return found

    def _read(self, name: str) -> Verdict:
        parts = self._each(lambda host: host.fetch_log(name))
        text = join({host: part.decode(errors="replace") for host, part in parts.items()})
        if text:
            partial = self.path(name).with_suffix(".new")
            partial.write_text(text, encoding="utf-8")
            partial.rename(self.path(name))
        return read_log(text)

    def _each(self, work: Callable[[MachineHost], bytes]) -> Dict[str, bytes]:
        hosts = self._hosts()
        with ThreadPoolExecutor(max_workers=max(1, len(hosts))) as pool:
            return dict(pool.map(lambda host: (host.name, work(host)), hosts))
