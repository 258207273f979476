# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of the serial logs that a machine has on its disk: what it had told is known while it is off."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import Protocol, Sequence, Union

from ..domain import SHARED
from ..shell import file_lock
from .channel import Ended, UnreachableError


class Asked(Protocol):
    """Runs a command in the machine."""

    def __call__(self, argv: Union[str, Sequence[str]], stdin: bytes = b"", timeout: float = 60) -> Ended: ...


class LogCopies:
    """Serial logs of the guests of one machine, `folder` being the machine's in the lab's state folder."""

    def __init__(self, folder: Path, ask: Asked) -> None:
        self._folder = folder
        self._ask = ask

    def text(self, name: str) -> bytes:
        """What a guest has written, as far as it is known."""
        copy = self._copy(name)
        return copy.read_bytes() if copy.exists() else b""

    def fetch(self, name: str) -> None:
        """Read what a guest has written since the last time; a host that boots just now is not waited for."""
        with suppress(UnreachableError), file_lock(self._folder / "logs.lock"):
            copy = self._copy(name)
            have = copy.stat().st_size if copy.exists() else 0
            more = self._ask(f"tail -c +{have + 1} {_there(name)} 2>/dev/null").out
            copy.parent.mkdir(exist_ok=True)
            with copy.open("ab") as handle:
                handle.write(more)

    def fetch_all(self) -> None:
        """Read all logs: a host without power loses what is not on its disk yet."""
        for path in self._ask(f"ls /{SHARED}/*.log 2>/dev/null", timeout=10).out.decode().split():
            self.fetch(Path(path).stem)

    def give_back(self) -> None:
        """Give the host what a power cut took from its logs: what comes next must not lie in the middle."""
        for copy in (self._folder / "logs").glob("*.log"):
            text, there = copy.read_bytes(), _there(copy.stem)
            size = int(self._ask(f"stat -c %s {there} 2>/dev/null || echo 0").out)
            if size < len(text):
                self._ask(f"cat >>{there}", text[size:]).checked(self._folder.name, ["cat"])

    def forget(self, name: str) -> None:
        """Forget what a guest has written."""
        self._copy(name).unlink(missing_ok=True)

    def _copy(self, name: str) -> Path:
        return self._folder / "logs" / f"{name}.log"


def _there(name: str) -> str:
    return shlex.quote(f"/{SHARED}/{name}.log")
