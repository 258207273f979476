# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Break things on purpose, as tests need it."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator, Optional

from .shell import LabError

if TYPE_CHECKING:
    from .lab import Lab

# What fills a folder. A tmpfs in its place is full at once, and nothing of the machine's disk is used.
FILLER = "filler"
FILL = """
set -e
mkdir /tmp/kept && cp -a {folder}/. /tmp/kept/
mount -t tmpfs -o size={kib}k,mode=755 full {folder} && cp -a /tmp/kept/. {folder}/
cat /dev/zero >{folder}/{filler} 2>/dev/null || true
"""
EMPTY = """
rm -rf {folder}/{filler} /tmp/kept && mkdir /tmp/kept && cp -a {folder}/. /tmp/kept/
umount -l {folder} && find {folder} -mindepth 1 -delete && cp -a /tmp/kept/. {folder}/
rm -rf /tmp/kept
"""


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

    def freeze_libvirtd(self, host: str) -> None:
        """Let libvirtd stand still, as on a host that is short of everything."""
        self.lab[host].run(["pkill", "-STOP", "-x", "libvirtd"])

    def thaw_libvirtd(self, host: str) -> None:
        """Let libvirtd go on, unless it was killed meanwhile."""
        self.lab[host].run(["pkill", "-CONT", "-x", "libvirtd"], check=False)

    def set_clock(self, host: str, ahead_s: float) -> None:
        """Let the clock of a machine be so many seconds ahead of ours, or behind; 0 puts it right."""
        if self.lab.spec.kind != "machine":
            raise LabError(f"{host} is no machine: it has no clock of its own, this one's would jump")
        self.lab[host].run(["date", "-s", f"@{time.time() + ahead_s:.3f}"])

    @contextmanager
    def firewall(self, host: str, *rules: str) -> Iterator[None]:
        """Let the host's packet filter have rules, in the words of iptables: "INPUT -p tcp --dport 22 -j DROP"."""
        for rule in rules:
            self.lab[host].run(f"iptables -w -I {rule}")
        try:
            yield
        finally:
            for rule in rules:
                self.lab[host].run(f"iptables -w -D {rule}")

    @contextmanager
    def full_disk(self, host: str, folder: str, kib: int = 256) -> Iterator[None]:
        """Let a folder of the host, with less than `kib` in it, be on a disk of its own that is full.

        Sockets of running guests must not be in it.
        """
        words = {"folder": folder, "filler": FILLER, "kib": kib}
        self.lab[host].run(FILL.format(**words))
        try:
            yield
        finally:
            self.lab[host].run(EMPTY.format(**words))

    @contextmanager
    def little_memory(self, host: str, mib: int) -> Iterator[None]:
        """Let libvirtd and whatever it starts get no more than so much memory each (address space)."""
        limit = "prlimit --pid $(pgrep -o -x libvirtd) --as={}:"
        self.lab[host].run(limit.format(mib << 20))
        try:
            yield
        finally:
            self.lab[host].run(limit.format("unlimited"))
