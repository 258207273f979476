# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run commands one after the other in each of several lanes, which run side by side.

Each command is a process group of its own. In a single lane it writes straight to this process's output; of several,
each has its output kept in a file and printed whole when it ends, with a line each minute that tells what is under way.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

POLL_S = 0.1
WIDTH = 81


@dataclass(frozen=True)
class Settings:
    """``command`` gives the words of a name, ``folder`` is where it runs, ``logs`` where its output is kept meanwhile.

    ``grace_s`` is what a test may need to take down its laboratory when everything is stopped.
    """

    command: Callable[[str], Sequence[str]]
    folder: Path
    logs: Path
    heartbeat_s: float = 60
    grace_s: float = 60


@dataclass(frozen=True)
class Ended:
    """After how many seconds a command ended, and how: ok, FAILED or stopped."""

    seconds: float
    state: str

    @property
    def ok(self) -> bool:
        return self.state == "ok"


class Stop:
    """Takes the signals that ask this process to stop, between ``with`` and the end of its block.

    ``number`` is the first one, and ``at_once`` is true after another one. What comes together with the first does not
    count: make and ``timeout`` pass on what their whole group gets. A signal that was ignored stays so for this process
    (``nohup``), but not for what it starts: there an interrupt must have its effect.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    TOGETHER_S = 2.0

    def __init__(self) -> None:
        self.number: int | None = None
        self.at_once = False
        self._since = 0.0

    def __enter__(self) -> Stop:
        self._before = {number: signal.getsignal(number) for number in self.SIGNALS}
        for number, before in self._before.items():
            signal.signal(number, _ignore if before is signal.SIG_IGN else self._take)
        return self

    def __exit__(self, *_exc: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self.number is None:
            self.number, self._since = number, time.monotonic()
        elif time.monotonic() > self._since + self.TOGETHER_S:
            self.at_once = True


def _ignore(_number: int, _frame: FrameType | None) -> None:
    pass


class Running:
    """A command under way; without ``log`` it writes where this process does."""

    def __init__(self, name: str, settings: Settings, log: Path | None) -> None:
        self.name = name
        self.log = log
        self._started = time.monotonic()
        with (log or Path(os.devnull)).open("wb") as output:
            self._process = subprocess.Popen(
                list(settings.command(name)),
                cwd=settings.folder,
                # A group of its own must not read from the terminal
                stdin=subprocess.DEVNULL,
                stdout=output if log else None,
                stderr=output if log else None,
                process_group=0,
            )

    def end(self) -> Ended | None:
        code = self._process.poll()
        return None if code is None else self._ended("FAILED" if code else "ok")

    def _ended(self, state: str) -> Ended:
        return Ended(time.monotonic() - self._started, state)

    def signal(self, number: int) -> None:
        """Send a signal to the command and to all in its group, even if the command itself has ended."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def kill(self) -> Ended:
        self.signal(signal.SIGKILL)
        self._process.wait()
        return self._ended("stopped")

    def show(self) -> None:
        """Print the whole output that was kept."""
        if self.log:
            heading(self.name)
            with self.log.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.flush()

    def life(self) -> str:
        """How long it has been running, and the last line it has written."""
        assert self.log
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{self.name} ({(time.monotonic() - self._started) / 60:.0f} min): {last[-WIDTH:]}"


@dataclass
class Lanes:
    """The work: what waits in each lane, what runs there, and what has ended, by name."""

    waiting: list[list[str]]
    settings: Settings
    running: dict[int, Running] = field(default_factory=dict)
    ended: dict[str, Ended] = field(default_factory=dict)

    @property
    def busy(self) -> bool:
        return bool(self.running) or any(self.waiting)

    def go_on(self) -> None:
        """Start what can be started and note what has ended; a lane ends with what fails in it."""
        for lane, names in enumerate(self.waiting):
            if names and lane not in self.running:
                self._start(lane, names.pop(0))
        for lane, command in list(self.running.items()):
            end = command.end()
            if end:
                del self.running[lane]
                self.ended[command.name] = end
                command.show()
                self._tell(f"{command.name} {end.state} after {end.seconds:.0f} s")
                if not end.ok:
                    self.waiting[lane].clear()

    def _start(self, lane: int, name: str) -> None:
        log = None
        if self._several:
            log = self.settings.logs / f"{name}.log"
            self._tell(f"{name} started, see {log}")
        else:
            heading(name)
        self.running[lane] = Running(name, self.settings, log)

    def tell_life(self) -> None:
        if self._several:
            for command in self.running.values():
                self._tell(command.life())

    @property
    def _several(self) -> bool:
        return len(self.waiting) > 1

    def _tell(self, text: str) -> None:
        if self._several:
            print(f"--- {time.strftime('%H:%M:%S')} {text}", flush=True)

    def end_all(self, stop: Stop) -> None:
        """End what runs: tests take down their laboratories, unless that takes too long."""
        for command in self.running.values():
            command.signal(signal.SIGINT)
        patience = time.monotonic() + self.settings.grace_s
        while any(command.end() is None for command in self.running.values()):
            if time.monotonic() > patience or stop.at_once:
                break
            time.sleep(POLL_S)
        for command in self.running.values():
            self.ended[command.name] = command.kill()
            command.show()
        self.running.clear()


def run_lanes(lanes: Iterable[Sequence[str]], settings: Settings, stop: Stop) -> dict[str, Ended]:
    """Run the commands of all lanes and return how each ended that was started; ``stop`` ends all of them."""
    settings.logs.mkdir(parents=True, exist_ok=True)
    work = Lanes([list(lane) for lane in lanes], settings)
    beat = time.monotonic() + settings.heartbeat_s
    try:
        while work.busy and stop.number is None:
            work.go_on()
            if time.monotonic() > beat:
                beat += settings.heartbeat_s
                work.tell_life()
            time.sleep(POLL_S)
    finally:
        work.end_all(stop)
    return work.ended


def heading(text: str) -> None:
    print(f"\n=== {text} " + "=" * (WIDTH - 5 - len(text)), flush=True)
