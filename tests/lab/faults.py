# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Break things on purpose, as tests need it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from .shell import LabError

if TYPE_CHECKING:
    from .lab import Lab


class Faults:
    """Faults of a lab's hosts; each has its opposite."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def kill_libvirtd(self, host: str) -> None:
        """kill -9; the guests keep running and nothing starts libvirtd again."""
        self.lab[host].kill_libvirtd()

    def start_libvirtd(self, host: str) -> None:
        """Start libvirtd and wait until it answers."""
        self.lab[host].run(["service", "libvirtd", "start"])

    def restart_libvirtd(self, host: str) -> None:
        self.lab[host].run(["service", "libvirtd", "restart"])

    def cut_link(self, host: str) -> None:
        """Pull the host's network cable."""
        self.lab[host].set_link(up=False)

    def restore_link(self, host: str) -> None:
        self.lab[host].set_link(up=True)

    def set_link_rate(self, host: str, rate: Optional[str]) -> None:
        """Limit the host's link, e.g. "100mbit", in both directions; None lifts it. The next `up` restores."""
        self.lab[host].set_link_rate(rate)

    def kill_guest(self, host: str, guest: str) -> None:
        """kill -9 of the guest's QEMU process on this host. Raises LabError when there is none."""
        found = [item.pid for item in self.lab.guests.processes(guest) if item.host == host]
        if not found:
            raise LabError(f"no QEMU process of {guest} on {host}")
        for pid in found:
            self.lab[host].kill(pid)

    def power_off(self, host: str) -> None:
        """Cut the host's power. Its disk stays, its /run and its guests are gone."""
        self.lab[host].power_off()

    def power_on(self, host: str) -> None:
        """Start a host that is off and wait until libvirtd answers."""
        self.lab.power_on(host)
