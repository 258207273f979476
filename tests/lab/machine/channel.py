# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two sockets of a machine's QEMU: its monitor (QMP), and the guest agent, which works without any network."""

from __future__ import annotations

import base64
import json
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, TypeVar

from ..shell import LabError, failure, wait_for

C = TypeVar("C", bound="Channel")


class Channel:
    """JSON commands and answers, one per line, over a Unix socket. Not for use by several threads."""

    def __init__(self, path: Path, timeout: float) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise LabError(f"{path}: {error.strerror or error}; is the host up?") from error
        self._lines = self._socket.makefile("rb")

    def __enter__(self: C) -> C:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._lines.close()
        self._socket.close()

    def receive(self) -> Dict[str, Any]:
        """The next message. Raises LabError when none comes in time."""
        try:
            # The agent's answer to guest-sync-delimited begins with a byte that is no JSON.
            line = self._lines.readline().lstrip(b"\xff")
        except OSError as error:
            raise LabError(f"{self.path}: no answer ({error})") from error
        if not line:
            raise LabError(f"{self.path}: closed; the host's QEMU has ended or somebody else talks to it")
        message: Dict[str, Any] = json.loads(line)
        return message

    def send(self, message: Dict[str, Any]) -> None:
        """Send a message, not waiting for an answer."""
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise LabError(f"{self.path}: {error}") from error

    def call(self, command: str, **arguments: Any) -> Any:
        """Execute a command; return what it returns. Events are skipped. Raises LabError with QEMU's own words."""
        self.send({"execute": command, **({"arguments": arguments} if arguments else {})})
        while True:
            answer = self.receive()
            if "error" in answer:
                raise LabError(f"{self.path}: {command}: {answer['error'].get('desc', answer['error'])}")
            if "return" in answer:
                return answer["return"]


class Monitor(Channel):
    """QMP of a machine."""

    def __init__(self, path: Path, timeout: float = 30) -> None:
        super().__init__(path, timeout)
        self.receive()  # the greeting
        self.call("qmp_capabilities")

    def wait_migration(self, timeout: float = 120) -> None:
        """Wait until a migration out of or into this QEMU is complete. Raises LabError when it fails."""

        def complete() -> bool:
            info = self.call("query-migrate")
            if info.get("status") in ("failed", "cancelled"):
                raise LabError(f"{self.path}: {info.get('error-desc', info)}")
            return bool(info.get("status") == "completed")

        wait_for(f"{self.path}: the machine's state", complete, timeout, 0.05)


class UnreachableError(LabError):
    """Nobody answers at the host's address: it boots, or it hangs."""


@dataclass(frozen=True)
class Ended:
    """How a command in a machine ended."""

    code: int
    out: bytes
    err: bytes

    def checked(self, what: str, argv: Sequence[str]) -> Ended:
        """Return this, or raise LabError when the command failed."""
        if self.code:
            raise LabError(f"{what}: {failure(argv, self.code, (self.err or self.out).decode(errors='replace'))}")
        return self


class Agent(Channel):
    """The guest agent of a machine that runs."""

    def __init__(self, path: Path, timeout: float = 30) -> None:
        super().__init__(path, timeout)
        number = time.monotonic_ns() % 2**31
        # An earlier client may have gone in the middle of something: ask for an answer that only this one can get.
        self._socket.sendall(b"\xff")
        self.send({"execute": "guest-sync-delimited", "arguments": {"id": number}})
        while self._next_return() != number:
            pass

    def _next_return(self) -> Optional[object]:
        with suppress(ValueError):
            return self.receive().get("return")
        return None

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60) -> Ended:
        """Run a command in the machine as root. Raises LabError when it does not end in time."""
        more = {"input-data": base64.b64encode(stdin).decode()} if stdin else {}
        path, *words = argv
        started = self.call("guest-exec", path=path, arg=words, **{"capture-output": True}, **more)
        end = time.monotonic() + timeout
        while True:
            status = self.call("guest-exec-status", pid=started["pid"])
            if status["exited"]:
                break
            if time.monotonic() > end:
                raise LabError(f"{self.path}: {' '.join(argv)}: no end after {timeout:g} s")
            time.sleep(0.1)
        out, err = (base64.b64decode(status.get(key, "")) for key in ("out-data", "err-data"))
        return Ended(status.get("exitcode", -1), out, err)


def wait_agent(path: Path, timeout: float) -> None:
    """Wait until the machine has booted as far as its agent. Raises LabError when it does not."""

    def answers() -> bool:
        try:
            with Agent(path, timeout=5):
                return True
        except LabError:
            return False

    wait_for(f"the agent behind {path}", answers, timeout, 0.3)
