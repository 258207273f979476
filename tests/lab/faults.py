# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Break things on purpose, as tests need it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, List, Optional

from . import network
from .shell import LabError, wait_for

if TYPE_CHECKING:
    from .lab import Lab


class Faults:
    """Faults of a lab's hosts; each has its opposite."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def kill_libvirtd(self, host: str) -> None:
        """kill -9; the guests keep running and nothing starts libvirtd again."""
        for pid in self._pids_of(host, "libvirtd"):
            os.kill(pid, signal.SIGKILL)
        wait_for(f"libvirtd of {host} to end", lambda: not self._pids_of(host, "libvirtd"), 10)

    def start_libvirtd(self, host: str) -> None:
        """Start libvirtd and wait until it answers."""
        self.lab[host].run(["service", "libvirtd", "start"])

    def restart_libvirtd(self, host: str) -> None:
        self.lab[host].run(["service", "libvirtd", "restart"])

    def cut_link(self, host: str) -> None:
        """Pull the host's network cable."""
        network.set_link(self.lab[host].spec, host, up=False)

    def restore_link(self, host: str) -> None:
        network.set_link(self.lab[host].spec, host, up=True)

    def set_link_rate(self, host: str, rate: Optional[str]) -> None:
        """Limit the host's link, e.g. "100mbit", in both directions; None lifts it. The next `up` restores."""
        network.set_rate(self.lab[host].spec, host, rate)

    def kill_guest(self, host: str, guest: str) -> None:
        """kill -9 of the guest's QEMU process on this host. Raises LabError when there is none."""
        found = [item.pid for item in self.lab.guests.processes(guest) if item.host == host]
        if not found:
            raise LabError(f"no QEMU process of {guest} on {host}")
        for pid in found:
            os.kill(pid, signal.SIGKILL)

    def power_off(self, host: str) -> None:
        """Cut the host's power. Its disk stays, its /run and its guests are gone."""
        self.lab[host].power_off()

    def power_on(self, host: str) -> None:
        """Start a host that is off and wait until libvirtd answers."""
        self.lab.power_on(host)

    def _pids_of(self, host: str, command: str) -> List[int]:
        found = []
        for pid in self.lab[host].pids():
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip() == command:
                    found.append(pid)
        return found
