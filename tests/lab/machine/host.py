# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine: a host with its own kernel, systemd and GRUB, under QEMU."""

from __future__ import annotations

import json
import secrets
import shlex
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from .. import network
from ..cgroups import HELPERS
from ..domain import SHARED, Surroundings
from ..host import ENVIRONMENT, PATIENCE, Base, GuestProcess, Host, guest_of
from ..identity import identity_files, mode_of
from ..shell import LabError, run, wait_for
from ..spec import host_number
from .channel import Agent, Ended, Monitor, UnreachableError, wait_agent
from .copies import LogCopies
from .qemu import DEFAULT_MEMORY_MIB, Machine, command, default_cpu, has_kvm, overlay
from .snapshot import load, snapshot_of

ON_MACHINE = Surroundings(kvm=True, arguments="mitigations=off nokaslr", pace=6)
BOOT_TIMEOUT = 300.0  # several that boot at once on two CPUs
UNREACHABLE = 255  # exit code of ssh
NETWORK = """\
[Match]
Name=eth0

[Network]
Address={address}/{length}
Gateway={gateway}
LinkLocalAddressing=no
"""
SOCKETS = ("libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket")


class MachineHost(Host):
    """One machine; commands go over ssh, and through the guest agent while its cable is pulled."""

    ready_timeout = 240.0

    @property
    def shape(self) -> Tuple[str, int]:
        """CPU model and memory in MiB."""
        return self.options.cpu or default_cpu(host_number(self.name)), self.options.memory_mib or DEFAULT_MEMORY_MIB

    @property
    def surroundings(self) -> Surroundings:
        return ON_MACHINE if has_kvm(self.shape[0]) else replace(ON_MACHINE, kvm=False)

    @property
    def mac(self) -> str:
        return f"52:54:00:77:00:{10 + host_number(self.name)}"

    @property
    def _born(self) -> Path:
        """Exists once the disk has its identity."""
        return self.folder / "identity"

    def start(self, base: Base, *, cold: bool = False) -> None:
        fresh = not self._born.exists()
        if self.pid() is None:
            self._boot(base, cold)
        elif fresh:
            self.power_off()  # an `up` that was killed left it without a name
            self._boot(base, cold)
        network.plug_in(self.spec, self.name)

    def _boot(self, base: Base, cold: bool) -> None:
        assert base.disk is not None
        self.folder.mkdir(exist_ok=True)
        self._forget_connection()
        self.groups.kill(self.name)
        self.groups.create(self.name)
        fresh = not self._born.exists()
        snapshot = snapshot_of(base.disk, self.shape)
        restored = fresh and not cold and snapshot.is_dir()
        machine = self._machine()
        if fresh:
            machine.disk.unlink(missing_ok=True)
            run(overlay(base.tree, snapshot / "disk.qcow2" if restored else base.disk, machine.disk))
        more = ["-daemonize", "-pidfile", str(self.folder / "pid"), *(["-incoming", "defer"] if restored else [])]
        run([*self.groups.entering(self.name), *command(base.tree, machine, *more)])
        network.plug_in(self.spec, self.name)
        try:
            if restored:
                load(self.folder / "qmp", snapshot / "state")
            if fresh:
                wait_agent(self.folder / "agent", BOOT_TIMEOUT)
                self._give_identity(restored)
        except LabError as error:
            self.groups.kill(self.name)
            raise LabError(f"{self.name}: {error}\n{self.console()}") from error

    def _machine(self) -> Machine:
        cpu, memory = self.shape
        return Machine(
            name=f"{self.spec.name}-{self.name}",
            cpu=cpu,
            memory_mib=memory,
            disk=self.folder / "disk.qcow2",
            folder=self.folder,
            uuid=self.uuid,
            mac=self.mac,
            tap=self.spec.veth(self.name),
        )

    def _give_identity(self, restored: bool) -> None:
        files = identity_files(self.spec, self.name, self.folder.parent / "keys")
        files["etc/systemd/network/lab.network"] = NETWORK.format(
            address=self.address, length=self.spec.prefix_length, gateway=self.spec.gateway
        )
        # The kernel read both when it booted; after the host's own next boot they are its own.
        faked = {
            "/proc/sys/kernel/random/boot_id": f"{uuid.uuid4()}\n",
            "/sys/devices/virtual/dmi/id/product_uuid": f"{self.uuid}\n",
        }
        wanted: Dict[str, Any] = {
            "files": {name: [text, mode_of(name)] for name, text in files.items()},
            "hostname": self.name,
            "mac": self.mac,
            "time": time.time(),
            "seed": secrets.token_hex(64),
            "faked": faked if restored else {},
        }
        argv = ["/usr/bin/python3", "/usr/local/sbin/lab-identity"]
        with Agent(self.folder / "agent") as agent:
            agent.run(argv, stdin=json.dumps(wanted).encode(), timeout=BOOT_TIMEOUT).checked(self.name, argv)
        self._born.touch()

    def wait_ready(self) -> None:
        try:
            super().wait_ready()
        except LabError:
            if not self._is_reachable():
                self.groups.kill(self.name)  # a host that hangs keeps a CPU busy for ever
            raise
        # A machine out of a snapshot, or one that this machine let wait, is late.
        self.run(["date", "-s", f"@{time.time():.3f}"])
        self._copies.give_back()
        self.set_link_rate(self.options.link)

    def _is_reachable(self) -> bool:
        try:
            return self.run(["true"], check=False, timeout=30).returncode == 0
        except LabError:
            return False

    # Commands

    def popen(self, argv: Union[str, Sequence[str]], **options: Any) -> subprocess.Popen[str]:
        words = self.command(argv)
        if "stdin" not in options and sys.stdin.isatty():
            words.insert(words.index("ssh") + 1, "-t")
        process: subprocess.Popen[str] = subprocess.Popen(words, **{"text": True, "env": ENVIRONMENT, **options})
        return process

    def command(self, argv: Union[str, Sequence[str]]) -> List[str]:
        if self.pid() is None:
            raise LabError(f"{self.name} is off; `up` or `power-on {self.name}` starts it")
        keys = self.folder.parent / "keys"
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "10",
            "ControlMaster": "auto",
            "ControlPath": self.folder / "ssh",
            "ControlPersist": "600",
            "IdentitiesOnly": "yes",
            "LogLevel": "ERROR",
            "ServerAliveInterval": "5",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": keys / "known_hosts",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        # The connection outlives the command: in the helpers' group `down` finds it.
        prefix = self.groups.entering(HELPERS)
        remote = argv if isinstance(argv, str) else shlex.join(argv)
        return [*prefix, "ssh", "-F", "none", "-i", str(keys / "id_ed25519"), *words, f"root@{self.address}", remote]

    def run(
        self, argv: Union[str, Sequence[str]], *, check: bool = True, timeout: float = PATIENCE, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        done = self._exchange(argv, stdin.encode(), timeout)
        if check:
            done.checked(self.name, ["sh", "-c", argv] if isinstance(argv, str) else argv)
        out, err = done.out.decode(errors="replace"), done.err.decode(errors="replace")
        return subprocess.CompletedProcess(argv, done.code, out, err)

    def _exchange(self, argv: Union[str, Sequence[str]], stdin: bytes = b"", timeout: float = PATIENCE) -> Ended:
        if not network.is_plugged(self.spec, self.name) and self.pid() is not None:
            words = ["/bin/sh", "-c", argv if isinstance(argv, str) else shlex.join(argv)]
            with Agent(self.folder / "agent") as agent:
                return agent.run(words, stdin=stdin, timeout=timeout)
        words = self.command(argv)
        try:
            done = subprocess.run(
                words, input=stdin, capture_output=True, timeout=timeout, env=ENVIRONMENT, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{self.name}: {argv}: no end after {timeout:g} s") from error
        if done.returncode == UNREACHABLE:
            raise UnreachableError(f"{self.name} does not answer: {done.stderr.decode(errors='replace').strip()}")
        return Ended(done.returncode, done.stdout, done.stderr)

    def _forget_connection(self) -> None:
        if (self.folder / "ssh").exists():
            run(["ssh", "-F", "none", "-S", str(self.folder / "ssh"), "-O", "exit", self.address], check=False)
        (self.folder / "ssh").unlink(missing_ok=True)

    # Ends

    def power_off(self) -> None:
        if self.pid() is not None:
            with suppress(LabError):
                self._copies.fetch_all()
            # For the host as sudden as a kill, but QEMU writes out what the host has written to its disk.
            with suppress(LabError):
                with Monitor(self.folder / "qmp", timeout=5) as monitor:
                    monitor.call("quit")
                wait_for(f"{self.name} to end", lambda: self.pid() is None, 10)
        self.groups.kill(self.name)
        self._forget_connection()

    def shut_down(self) -> None:
        self.groups.kill(self.name)

    def guests(self) -> List[GuestProcess]:
        if self.pid() is None:
            return []
        text = self.run("grep -saz . /proc/[0-9]*/cmdline", check=False).stdout
        words: Dict[int, List[str]] = {}
        for item in text.split("\0"):
            path, _colon, word = item.partition(":")
            if path.startswith("/proc/"):
                words.setdefault(int(path.split("/")[2]), []).append(word)
        named = ((guest_of(arguments), pid) for pid, arguments in words.items())
        return [GuestProcess(guest, pid) for guest, pid in named if guest]

    def kill(self, pid: int) -> None:
        self.run(["kill", "-9", str(pid)])

    def kill_libvirtd(self) -> None:
        # A socket would start it again.
        self.run(f"systemctl stop {' '.join(SOCKETS)}; systemctl kill -s KILL libvirtd.service")
        wait_for(f"libvirtd of {self.name} to end", lambda: not self._has_process("libvirtd"), 20)

    def _has_process(self, name: str) -> bool:
        return self.run(["pgrep", "-x", name], check=False).returncode == 0

    def set_link_rate(self, rate: Optional[str]) -> None:
        network.set_rate([], self.spec.veth(self.name), rate)
        change = network.tbf("eth0", rate) if rate else ["qdisc", "del", "dev", "eth0", "root"]
        self.run(["tc", *change], check=rate is not None)

    # Serial logs of the guests

    @property
    def _copies(self) -> LogCopies:
        return LogCopies(self.folder, self._exchange)

    def fetch_log(self, name: str) -> bytes:
        """What a guest has written on this host, as far as the host can be asked."""
        if self.pid() is not None:
            self._copies.fetch(name)
        return self._copies.text(name)

    def forget_log(self, name: str) -> bytes:
        """Remove what a guest has written on this host."""
        if self.pid() is not None:
            self.run(["rm", "-f", f"/{SHARED}/{name}.log"])
        self._copies.forget(name)
        return b""
