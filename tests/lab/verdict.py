# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest's serial log proves: did it keep running, once, with its memory intact?"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Kernel messages that mean the guest is damaged.
OOPS = re.compile(r"BUG:|Oops|Kernel panic|general protection|segfault|soft lockup|rcu: INFO|Call Trace")
TICK = re.compile(r"tick (\d+) up=([\d.]+) cpus=(\S+)")


@dataclass(frozen=True)
class Verdict:
    """Counts over the whole log.

    gaps: ticks that are missing between two others of the same boot; repeats: ticks seen again or going backwards, as
    two copies of the guest would write them. memory_ok and memory_corrupt count passes of the memory checker.
    last_tick, uptime_s and cpus are those of the last tick. longest_pause_s is the longest time between two ticks on
    the guest's own clock: it stands still while the guest is paused, so this is not the downtime of a migration.
    """

    boots: int = 0
    ticks: int = 0
    last_tick: int = 0
    gaps: int = 0
    repeats: int = 0
    memory_ok: int = 0
    memory_corrupt: int = 0
    oopses: int = 0
    uptime_s: float = 0.0
    longest_pause_s: float = 0.0
    cpus: str = ""

    @property
    def intact(self) -> bool:
        """The guest ran, verified its memory, and nothing was lost, doubled, damaged or restarted."""
        damage = self.gaps + self.repeats + self.memory_corrupt + self.oopses
        return self.boots == 1 and self.ticks > 0 and self.memory_ok > 0 and damage == 0


def read_log(text: str) -> Verdict:
    """Judge a serial log. A last line without line feed is still being written and is left out."""
    counts = dict.fromkeys(("boots", "ticks", "gaps", "repeats", "memory_ok", "memory_corrupt", "oopses"), 0)
    last, uptime, pause, cpus = 0, 0.0, 0.0, ""
    for line in text.split("\n")[:-1]:
        tick = TICK.search(line)
        if tick:
            number, now, cpus = int(tick.group(1)), float(tick.group(2)), tick.group(3)
            counts["ticks"] += 1
            if last and number <= last:
                counts["repeats"] += 1
            elif last and number > last + 1:
                counts["gaps"] += number - last - 1
            pause = max(pause, now - uptime) if last else pause
            last, uptime = number, now
        elif line.startswith("boot "):
            counts["boots"] += 1
            last, uptime = 0, 0.0
        elif "memory ok " in line:
            counts["memory_ok"] += 1
        elif "memory corrupt " in line:
            counts["memory_corrupt"] += 1
        elif OOPS.search(line):
            counts["oopses"] += 1
    return Verdict(last_tick=last, uptime_s=uptime, longest_pause_s=round(pause, 3), cpus=cpus, **counts)
