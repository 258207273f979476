# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run steps of the Makefile, with a heading, the time of each and the count of all tests.

``python -m tests.tools.steps lint types --then integration --lane machines molecule`` runs ``make lint`` and
``make types``, then ``make integration`` beside ``make machines`` and ``make molecule``. A step that fails ends its
lane; the others of its stage go on to their ends, and no other stage begins.
"""

from __future__ import annotations

import shutil
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.tools.lanes import Ended, Settings, Stop, heading, run_lanes
from tests.tools.sync import BUILD, ROOT

THEN, LANE = "--then", "--lane"


@dataclass(frozen=True)
class Tests:
    """How many tests a step had; a step without test reports counts as one test."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __str__(self) -> str:
        failed, skipped = (
            f", {self.failed} failed" * bool(self.failed),
            f", {self.skipped} skipped" * bool(self.skipped),
        )
        return f"{self.passed} passed{failed}{skipped}"


def count(folder: Path, ok: bool) -> Tests:
    """Count the tests of a step that ended well or not, from the JUnit files that pytest wrote into ``folder``."""
    suites: list[ET.Element] = []
    for file in folder.glob("*.xml"):
        with suppress(ET.ParseError):  # pytest was killed while it wrote
            suites += ET.parse(file).iter("testsuite")
    total, failures, errors, skipped = (
        sum(int(suite.get(key, "0")) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    if not suites or (not ok and not failed):
        return Tests(total - failed - skipped + int(ok), failed + int(not ok), skipped)
    return Tests(total - failed - skipped, failed, skipped)


def stages(words: Sequence[str]) -> list[list[list[str]]]:
    """The lanes of each stage, with the names of their steps."""
    found: list[list[list[str]]] = [[[]]]
    for word in words:
        if word == THEN:
            found.append([[]])
        elif word == LANE:
            found[-1].append([])
        else:
            found[-1][-1].append(word)
    return found


def summary(names: Sequence[str], ended: dict[str, Ended], reports: Path, seconds: float) -> None:
    """Print the table of all steps in the order they were given, and the sum of their tests."""
    heading("summary")
    counts = {name: count(reports / name, end.ok) for name, end in ended.items()}
    for name in names:
        end = ended.get(name)
        print(f"{name:18} {end.state:8} {end.seconds:7.1f} s   {counts[name]}" if end else f"{name:18} not run")
    print(f"total time {seconds:.0f} s")
    passed, failed, skipped = (
        sum(getattr(tests, key) for tests in counts.values()) for key in ("passed", "failed", "skipped")
    )
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)


def main(words: Sequence[str], settings: Settings, reports: Path) -> int:
    """Run all steps; return 0 if all are well, 1 if one is not, and 128 plus its number if a signal stopped them."""
    started = time.monotonic()
    names = [word for word in words if word not in (THEN, LANE)]
    for name in names:
        shutil.rmtree(reports / name, ignore_errors=True)
    ended: dict[str, Ended] = {}
    with Stop() as stop:
        for lanes in stages(words):
            ended |= run_lanes(lanes, settings, stop)
            if stop.number is not None or not all(end.ok for end in ended.values()):
                break
    summary(names, ended, reports, time.monotonic() - started)
    if stop.number is not None:
        return 128 + stop.number
    return 0 if all(end.ok for end in ended.values()) else 1


if __name__ == "__main__":
    make = Settings(command=lambda name: ["make", name], folder=ROOT, logs=BUILD / "logs")
    sys.exit(main(sys.argv[1:], make, BUILD / "reports"))
