# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of the lab: define and start them, and judge from outside whether they survived.

A guest writes to `/srv/lab/NAME.log` of the host where it runs; see guest/init for the lines, logs.py for the rest.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Dict, List, Optional

from .domain import GuestSpec, domain_xml
from .logs import Logs
from .shell import LabError, wait_for
from .verdict import Verdict, read_log

# What grows in the verdict of every guest that is alive.
CHECKS = ("ticks", "memory_ok", "cpu_checks")
# So many characters of a log are shown where something is wrong.
LOG_TAIL = 600

if TYPE_CHECKING:
    from .lab import Lab


@dataclass(frozen=True)
class Process:
    """A QEMU process as a process list shows it: the machine's for a pod, the host's own for a machine."""

    host: str
    pid: int


@dataclass(frozen=True)
class Presence:
    """A guest on one host: its QEMU process, if any, and libvirt's state of it ("" = unknown, None = no answer)."""

    host: str
    pid: Optional[int]
    libvirt: Optional[str]


class Guests:
    """The guests of a lab, on whichever host they are. Timeouts are seconds; the default depends on the kind."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    @property
    def logs(self) -> Logs:
        return self.lab.logs

    def define(self, spec: GuestSpec, host: str, autostart: bool = False) -> GuestSpec:
        """Define the guest on a host with an empty log; return the spec."""
        self.logs.clear(spec.name)
        self.lab[host].run(["virsh", "-q", "define", "/dev/stdin"], stdin=self._xml(spec, host))
        if autostart:
            self.lab[host].virsh("autostart", spec.name)
        return spec

    def create(self, spec: GuestSpec, host: str) -> GuestSpec:
        """Start a transient guest: one without a persistent definition."""
        self.logs.clear(spec.name)
        self.lab[host].run(["virsh", "-q", "create", "/dev/stdin"], stdin=self._xml(spec, host))
        return spec

    def _xml(self, spec: GuestSpec, host: str) -> str:
        return domain_xml(spec, self.lab[host].surroundings)

    def start(self, name: str, host: str, wait_boot: bool = True, timeout: Optional[float] = None) -> None:
        """Start a defined guest; with `wait_boot` return when it ticks and has verified memory and CPU."""
        before = self.verdict(name)
        self.lab[host].virsh("start", name, timeout=60 * self.lab.kind.patience)
        if wait_boot:
            self.wait_boot(name, after=before, timeout=timeout)

    def wait_boot(self, name: str, after: Optional[Verdict] = None, timeout: Optional[float] = None) -> Verdict:
        """Wait until the guest has booted once more than in `after`, ticks and has verified its memory and its CPU."""
        known = after or read_log("")

        def ready() -> bool:
            now = self.verdict(name)
            return all(getattr(now, count) > getattr(known, count) for count in ("boots", *CHECKS))

        return self._wait(name, "boot", ready, timeout or 120 * self.lab.kind.patience)

    def wait_ticks(self, name: str, more: int = 3, timeout: Optional[float] = None) -> Verdict:
        """Wait until the guest has ticked `more` times: it is alive now. Raises LabError when it is not."""
        start = self.verdict(name).ticks
        limit = timeout or 30 * self.lab.kind.patience
        return self._wait(name, "tick", lambda: self.verdict(name).ticks >= start + more, limit)

    def wait_checked(self, name: str, timeout: Optional[float] = None) -> Verdict:
        """Wait until the guest has ticked and has verified its memory and its CPU, twice each, from now on."""
        start = self.verdict(name)

        def done() -> bool:
            now = self.verdict(name)
            return all(getattr(now, count) >= getattr(start, count) + 2 for count in CHECKS)

        return self._wait(name, "check itself", done, timeout or 60 * self.lab.kind.patience)

    def _wait(self, name: str, what: str, ready: Callable[[], bool], timeout: float) -> Verdict:
        try:
            wait_for(f"guest {name} to {what}", ready, timeout)
        except LabError as error:
            raise LabError(f"{error}; {self._symptoms(name)}") from error
        return self.verdict(name)

    def _symptoms(self, name: str) -> str:
        """What there is to see of a guest that does not do what it should: the end of its log, and its vCPUs."""
        log = self.log(name)
        said = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        seen = [f"its log ends with {said[-LOG_TAIL:]!r}"]
        for place in self.processes(name):
            words = ["timeout", "10", "virsh", "qemu-monitor-command", name, "--hmp", "info registers -a"]
            registers = self.lab[place.host].run(words, check=False).stdout
            at = re.findall(r"RIP=\w+|HLT=\d", registers)
            seen.append(f"on {place.host} its vCPUs are at {' '.join(at) or 'no place that QEMU tells'}")
        return "; ".join(seen)

    def log(self, name: str) -> Path:
        """The guest's log, as the machine sees it."""
        return self.logs.path(name)

    def verdict(self, name: str) -> Verdict:
        """What the log proves so far; see Verdict."""
        return self.logs.verdict(name)

    def names(self) -> List[str]:
        """All guests that ever wrote a log in this lab."""
        return self.logs.names()

    def processes(self, name: str) -> List[Process]:
        """QEMU processes of this guest in the whole lab, from the process list: libvirt is not asked."""
        return [Process(host.name, item.pid) for host in self.lab.hosts for item in host.guests() if item.guest == name]

    def where(self, name: str) -> List[Presence]:
        """Every host that has a QEMU process of the guest or whose libvirt knows it, with both views."""
        pids: Dict[str, int] = {item.host: item.pid for item in self.processes(name)}
        found = []
        for host in self.lab.hosts:
            state = self._libvirt_state(host.name, name)
            if host.name in pids or state:
                found.append(Presence(host.name, pids.get(host.name), state))
        return found

    def running_on(self, name: str) -> List[str]:
        """Hosts where the guest's process exists and libvirt, if it answers, does not call it paused or off."""
        return [
            item.host
            for item in self.where(name)
            if item.pid is not None and (item.libvirt is None or item.libvirt.startswith("running"))
        ]

    def _libvirt_state(self, host: str, name: str) -> Optional[str]:
        machine = self.lab[host]
        if machine.pid() is None or not machine.answers():
            return None
        return machine.virsh("domstate", name, "--reason", check=False).strip()

    def agent(self, name: str, host: str, command: str, **arguments: object) -> object:
        """Send a guest agent command; return its answer."""
        request = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
        return json.loads(self.lab[host].virsh("qemu-agent-command", name, request))["return"]

    def power_off_inside(self, name: str, host: str, delay_s: float = 0) -> None:
        """Let the guest power itself off after `delay_s`, by its agent; returns at once."""
        self._shut_down(name, host, "powerdown", delay_s)

    def reboot_inside(self, name: str, host: str) -> None:
        """Let the guest reboot itself, by its agent; returns at once."""
        self._shut_down(name, host, "reboot", 0)

    def _shut_down(self, name: str, host: str, mode: str, delay_s: float) -> None:
        # The agent does not answer guest-shutdown, so nobody waits for the command.
        request = shlex.quote(json.dumps({"execute": "guest-shutdown", "arguments": {"mode": mode}}))
        line = f"sleep {delay_s}; timeout 5 virsh qemu-agent-command {shlex.quote(name)} {request}"
        self.lab[host].run(f"setsid sh -c {shlex.quote(line)} </dev/null >/dev/null 2>&1 &")

    def migrate(self, name: str, source: str, destination: str, *options: str, timeout: Optional[float] = None) -> None:
        """Move a guest live, peer to peer over qemu+ssh, with libvirt alone: the lab's own check of its hosts."""
        uri = f"qemu+ssh://root@{destination}/system"
        flags = ["--live", "--p2p", "--persistent", "--undefinesource"]
        limit = timeout or 120 * self.lab.kind.patience
        self.lab[source].virsh("migrate", name, uri, *flags, *options, timeout=limit)
