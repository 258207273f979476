# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest's log proves: did it keep running, once, with its memory intact and one CPU?"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Kernel messages that mean the guest is damaged.
OOPS = re.compile(r"BUG:|Oops|Kernel panic|general protection|segfault|soft lockup|rcu: INFO|Call Trace")
CPU = re.compile(r"cpuid id=([0-9a-f]{16}) vendor=([A-Za-z]{12})\r?")
TICK = re.compile(r"tick (\d+) up=([\d.]+) cpus=(\S+)")
# How many complaints of a kernel a verdict quotes.
MOST_TROUBLE = 4

COUNTED = ("boots", "ticks", "gaps", "repeats", "memory_ok", "memory_corrupt", "oopses", "cpu_checks", "cpu_changes")


@dataclass(frozen=True)
class Verdict:
    """Counts over the whole log.

    gaps: ticks that are missing between two others of the same boot; repeats: ticks seen again or going backwards, as
    two copies of the guest would write them. memory_ok and memory_corrupt count passes of the memory checker.
    cpu_checks are the times the guest asked its CPU what it is, cpu_changes those with another answer than the first
    one of the same boot; cpu_id is a digest of the last answer, cpu_vendor its vendor (AuthenticAMD).
    last_tick, uptime_s and cpus are those of the last tick. longest_pause_s is the longest time between two ticks on
    the guest's own clock: it stands still while the guest is paused, so this is not the downtime of a migration.
    oopses and trouble, the first of them, are what its kernel complained of since it began to run programs.
    """

    boots: int = 0
    ticks: int = 0
    last_tick: int = 0
    gaps: int = 0
    repeats: int = 0
    memory_ok: int = 0
    memory_corrupt: int = 0
    oopses: int = 0
    cpu_checks: int = 0
    cpu_changes: int = 0
    uptime_s: float = 0.0
    longest_pause_s: float = 0.0
    cpus: str = ""
    cpu_id: str = ""
    cpu_vendor: str = ""
    trouble: tuple[str, ...] = ()

    @property
    def intact(self) -> bool:
        """The guest ran, verified memory and CPU, and nothing was lost, doubled, damaged, restarted or exchanged."""
        seen = self.ticks > 0 and self.memory_ok > 0 and self.cpu_checks > 0
        damage = self.gaps + self.repeats + self.memory_corrupt + self.oopses + self.cpu_changes
        return self.boots == 1 and seen and damage == 0


def read_log(text: str) -> Verdict:
    """Judge a log. A last line without line feed is still being written and is left out."""
    counts = dict.fromkeys(COUNTED, 0)
    last, uptime, pause, cpus = 0, 0.0, 0.0, ""
    cpu, first_id = ("", ""), ""
    trouble: list[str] = []
    for line in text.split("\n")[:-1]:
        tick = TICK.search(line)
        asked = CPU.fullmatch(line)
        if tick:
            number, now, cpus = int(tick.group(1)), float(tick.group(2)), tick.group(3)
            counts["ticks"] += 1
            if last and number <= last:
                counts["repeats"] += 1
            elif last and number > last + 1:
                counts["gaps"] += number - last - 1
            pause = max(pause, now - uptime) if last else pause
            last, uptime = number, now
        elif asked:
            cpu = (asked.group(1), asked.group(2))
            first_id = first_id or cpu[0]
            counts["cpu_checks"] += 1
            counts["cpu_changes"] += cpu[0] != first_id
        elif line.startswith("boot "):
            counts["boots"] += 1
            last, uptime, first_id = 0, 0.0, ""
        elif "memory ok " in line:
            counts["memory_ok"] += 1
        elif "memory corrupt " in line:
            counts["memory_corrupt"] += 1
        # Emulated CPUs now and then crash a kernel that patches itself while it boots; it boots again by itself, and
        # no migration was under way yet.
        elif counts["boots"] and OOPS.search(line):
            counts["oopses"] += 1
            trouble.append(line.strip())
    pause = round(pause, 3)
    return Verdict(
        **counts,
        last_tick=last,
        uptime_s=uptime,
        longest_pause_s=pause,
        cpus=cpus,
        cpu_id=cpu[0],
        cpu_vendor=cpu[1],
        trouble=tuple(trouble[:MOST_TROUBLE]),
    )
