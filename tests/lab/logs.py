# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the guests' logs are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import List

from .verdict import Verdict, read_log


class Logs(ABC):
    """Logs of all guests of a lab; `folder` has one file per guest, NAME.log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """The guest's whole log, as the machine sees it."""
        return self.folder / f"{name}.log"

    def names(self) -> List[str]:
        """All guests that ever wrote a log, in order."""
        return sorted(path.stem for path in self.folder.glob("*.log"))

    @abstractmethod
    def clear(self, name: str) -> None:
        """Forget what a guest has written."""

    @abstractmethod
    def verdict(self, name: str) -> Verdict:
        """What the log proves so far."""


class SharedLogs(Logs):
    """Logs that all hosts write to one folder: a guest that moves goes on in the same file."""

    def clear(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def verdict(self, name: str) -> Verdict:
        try:
            return read_log(self.path(name).read_text(encoding="utf-8", errors="replace"))
        except FileNotFoundError:
            return read_log("")
