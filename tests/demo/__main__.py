# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demo: `make demo`, or `python3 -m tests.demo [--kind machine] [--keep]` from the project's root, as root.

Takes all hypervisors of a fleet out of service and back, wave after wave, under running guests, and proves that no
guest noticed; hosts of the kind `machine` are rebooted meanwhile. The exit code is 0 only if every guest is intact, at
home, and on one host.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from tests.lab import Lab, LabError
from tests.tools.sync import BUILD, sync

from .result import faults, table
from .scene import SCENES, Scene, Sight, define, look, start

HERE = Path(__file__).parent
COLLECTION = "virtops.kvm_fleet"
# Plans and tables are lists of lines: YAML shows them as such. What does not concern a host is not shown.
DISPLAY = {"ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml", "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false", "ANSIBLE_NOCOWS": "1"}


class DemoError(Exception):
    """A step of the demo failed; the text says which."""


def heading(text: str) -> None:
    print(f"\n=== {text} " + "=" * max(0, 100 - len(text)), flush=True)


def playbook(lab: Lab, name: str, *options: str, quiet: bool = False) -> str:
    """Run a playbook on the lab. Its output is shown as it comes, or with ``quiet`` returned."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(lab.folder / "inventory.yml"), name]
    environment = {**os.environ, **DISPLAY, "ANSIBLE_COLLECTIONS_PATH": str(BUILD)}
    if sys.stdout.isatty() and not quiet:
        environment["ANSIBLE_FORCE_COLOR"] = "true"
    print("$ ansible-playbook " + shlex.join([*command[3:], *options]), flush=True)
    pipe = subprocess.PIPE if quiet else None
    done = subprocess.run([*command, *options], env=environment, stdout=pipe, text=True, check=False)
    if done.returncode:
        raise DemoError(f"{name} failed with {done.returncode}:\n{done.stdout or ''}".rstrip().rstrip(":"))
    return done.stdout or ""


def prepare(lab: Lab, scene: Scene) -> None:
    """Make the lab and start the guests on a CPU that all hosts have."""
    heading(f"{len(scene.hosts)} hypervisors with different CPUs")
    # What an earlier demo left would have other guests in other places.
    lab.down()
    lab.up(len(scene.hosts), scene.hosts, kind=scene.kind)
    heading("One CPU for all guests: the largest that every host can give")
    define(lab, scene.guests)
    playbook(lab, str(HERE / "prepare.yml"))
    heading(f"{len(scene.guests)} guests start; each ticks and keeps verifying its memory")
    start(lab, scene.guests)
    for guest in scene.guests:
        print(f"{guest.name:6} on {guest.home} {guest.kind}".rstrip())


def maintenance(scene: Scene) -> list[str]:
    """Return the options of the playbook, as an operator would give them."""
    settings = {"maintenance_settings": {"release": "13.1", "reboots": scene.reboots}}
    options = ["maintenance_hosts=all", f"maintenance_tasks={HERE / 'update.yml'}", json.dumps(settings)]
    options += ["maintenance_answering=true", *(["maintenance_reboot_ok=true"] if scene.reboots else [])]
    return [word for option in options for word in ("-e", option)]


def maintain(lab: Lab, scene: Scene) -> list[dict[str, Any]]:
    """Run the maintenance; return the migrations it reports."""
    heading("Maintenance of all: drain, update, refill, in waves as large as the other hosts can carry")
    report = lab.folder / "report.json"
    playbook(lab, f"{COLLECTION}.maintenance", *maintenance(scene), "-e", f"maintenance_report={report}")
    migrations: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["migrations"]
    return migrations


def repeat(lab: Lab, scene: Scene) -> list[str]:
    """Run the same maintenance again; return what is wrong with that."""
    heading("The same maintenance again: done already, so nothing changes")
    output = playbook(lab, f"{COLLECTION}.maintenance", *maintenance(scene), quiet=True)
    recap = [line.rstrip() for line in output.partition("PLAY RECAP")[2].splitlines() if "changed=" in line]
    print("\n".join(recap))
    changed = [line for line in recap if not re.search(r"\bchanged=0\b", line)]
    return ["the second run changed something"] if changed or not recap else []


def demo(lab: Lab, scene: Scene) -> int:
    """Show everything; return the exit code."""
    began = time.monotonic()
    prepare(lab, scene)
    before = look(lab, scene.guests)
    since = time.monotonic()
    migrations = maintain(lab, scene)
    took = time.monotonic() - since
    wrong = repeat(lab, scene)
    # Alive now, not only intact so far
    verdicts = {guest.name: lab.guests.wait_ticks(guest.name) for guest in scene.guests}
    after: dict[str, Sight] = look(lab, scene.guests)
    wrong += faults(scene.guests, before, after, verdicts, migrations)
    heading("What happened to the guests")
    print("\n".join(table(scene.guests, before, after, verdicts, migrations)))
    print(f"\nThe maintenance took {took:.0f} s, the whole demo {time.monotonic() - began:.0f} s.")
    for fault in wrong:
        print(f"FAULT: {fault}")
    if not wrong:
        print("Every guest is intact, at home and on one host; the second run changed nothing.")
    return 1 if wrong else 0


def interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def take_down(lab: Lab, keep: bool) -> None:
    if keep:
        print("\nThe lab is still up. See `python3 -m tests.lab --name demo status`; end it with")
        print("`python3 -m tests.lab --name demo down`.")
        return
    # A second Ctrl-C must not leave half a lab.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    lab.down()
    print("The lab is down.")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.demo", description="Maintain hypervisors under their guests."
    )
    parser.add_argument("--keep", action="store_true", help="leave the lab running")
    parser.add_argument("--kind", choices=list(SCENES), default="pod", help="small hosts, or full ones with reboots")
    wanted = parser.parse_args()
    signal.signal(signal.SIGTERM, interrupted)
    try:
        sync()
        lab = Lab("demo")
        try:
            return demo(lab, SCENES[wanted.kind])
        finally:
            take_down(lab, wanted.keep)
    except (LabError, DemoError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
