# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run steps of the Makefile one after the other, with a heading, the time of each and the count of all tests.

``python -m tests.tools.steps lint unit`` runs ``make lint`` and ``make unit``, and stops at the first that fails.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from tests.tools.sync import BUILD, ROOT

REPORTS = BUILD / "reports"


@dataclass(frozen=True)
class Step:
    """How one step ended; a step without test reports counts as one test."""

    name: str
    seconds: float
    ok: bool
    passed: int
    failed: int
    skipped: int


def run(name: str) -> Step:
    print(f"\n=== {name} " + "=" * (76 - len(name)), flush=True)
    shutil.rmtree(REPORTS / name, ignore_errors=True)
    started = time.monotonic()
    ok = subprocess.run(["make", name], cwd=ROOT, check=False).returncode == 0
    seconds = time.monotonic() - started
    return Step(name, seconds, ok, *_counts(name, ok))


def _counts(name: str, ok: bool) -> tuple[int, int, int]:
    """Return the tests passed, failed and skipped, from the JUnit files that pytest wrote in this step."""
    suites = [suite for file in (REPORTS / name).glob("*.xml") for suite in ET.parse(file).iter("testsuite")]
    total, failures, errors, skipped = (
        sum(int(suite.get(key, "0")) for suite in suites) for key in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    if not suites or (not ok and not failed):
        return total - failed - skipped + int(ok), failed + int(not ok), skipped
    return total - failed - skipped, failed, skipped


def main(names: list[str]) -> int:
    started = time.monotonic()
    steps: list[Step] = []
    for name in names:
        steps.append(run(name))
        if not steps[-1].ok:
            break
    print("\n=== summary " + "=" * 69)
    for step in steps:
        print(f"{step.name:14} {'ok' if step.ok else 'FAILED':7} {step.seconds:7.1f} s   {step.passed} passed")
    for name in names[len(steps) :]:
        print(f"{name:14} not run")
    print(f"total time {time.monotonic() - started:.0f} s")
    passed, failed, skipped = (sum(getattr(step, key) for step in steps) for key in ("passed", "failed", "skipped"))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if all(step.ok for step in steps) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
