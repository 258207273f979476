# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One log out of several: a guest that moved between machines has left a part of its serial log on each.

Every tick carries its number and the boot it belongs to, so the parts can be put together without trusting any clock:
each machine's own order is kept, and of the machines the one whose next tick is lowest comes first. Whatever a second
copy of the guest writes is then a repeated tick, and what is missing everywhere is a gap.

A guest may move in the middle of a line. Then one machine has its beginning without a line feed (and, if the guest came
back, whatever it wrote next in the same line), another one its end. They are put together only if that makes a line of
the guest's own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Dict, Iterable, List, Mapping, Optional, Tuple

WORDS = ("boot ", "tick ", "memory ", "cpuid ")
STARTS = re.compile("|".join(WORDS))
TICKS = re.compile(
    r"boot cpus=\S+ id=(?P<boot>[0-9a-f]{8}) at=(?P<at>\d+) flags=.*"
    r"|tick (?P<number>\d+) up=\d+\.\d\d cpus=\S+ id=(?P<of>[0-9a-f]{8})"
)
LINE = re.compile(
    TICKS.pattern + r"|memory ok pass=\d+|memory none: .*|cpuid id=[0-9a-f]{16} vendor=[A-Za-z]{12}"
    r"|memory corrupt pass=\d+ words=\d+ page=\d+ found_pass=\d+ found_page=\d+"
)


@dataclass(frozen=True)
class Entry:
    """A line of a machine's log. `boot` and `number` tell where the guest was; a line that is no tick has those of
    its neighbour. `whole`: the line is one of the guest's; otherwise the kernel's, or parts of lines.
    """

    text: str
    boot: str = ""
    number: int = 0
    at: Optional[int] = None
    whole: bool = True


def join(parts: Mapping[str, str]) -> str:
    """The guest's log from the text that each machine has, by machine."""
    logs = _mend({host: _entries(text) for host, text in parts.items()})
    order = _boots(entry for entries in logs.values() for entry in entries)
    queues = [_placed(entries) for entries in logs.values() if entries]
    lines: List[str] = []
    while queues:
        queue = min(queues, key=lambda entries: (order.get(entries[0].boot, -1), entries[0].number))
        lines.append(_told(queue.pop(0)))
        queues = [entries for entries in queues if entries]
    return "".join(f"{line}\n" for line in lines)


def _entries(text: str) -> List[Entry]:
    """The lines of one machine; a whole line that begins inside another one is taken out of it."""
    found: List[Entry] = []
    for line in text.split("\n"):
        places = [start.start() for start in STARTS.finditer(line) if _entry(line[start.start() :]).whole]
        place = places[0] if places else 0
        found += [_entry(part) for part in ([line[:place], line[place:]] if place else [line])]
    return found


def _entry(line: str) -> Entry:
    line = line.rstrip("\r")
    match = LINE.fullmatch(line)
    if match is None:
        return Entry(line, whole=False)
    at = match["at"]
    return Entry(line, match["boot"] or match["of"] or "", int(match["number"] or 0), int(at) if at else None)


def _mend(logs: Mapping[str, List[Entry]]) -> Dict[str, List[Entry]]:
    """Put lines together that the guest began on one machine and ended on another one."""
    mended = {host: list(entries) for host, entries in logs.items()}
    # Ticks first: they tell exactly how long they are.
    for kind in (TICKS, LINE):
        for begun, ended in permutations(mended.values(), 2):
            for entry in [entry for entry in begun if not entry.whole]:
                _complete(entry, begun, ended, kind)
    return mended


def _complete(entry: Entry, begun: List[Entry], ended: List[Entry], kind: re.Pattern[str]) -> None:
    """Find the end of a line whose beginning begins `entry`, and let both change places with the line."""
    for index, other in enumerate(ended):
        fit = None if other.whole else _fit(entry.text, other.text, kind)
        if fit:
            head, tail = fit
            ended[index] = Entry(other.text[:tail], whole=False)
            place = begun.index(entry)
            line = _entry(entry.text[:head] + other.text[tail:])
            begun[place : place + 1] = [line, Entry(entry.text[head:], whole=False)]
            return


def _fit(first: str, second: str, kind: re.Pattern[str]) -> Optional[Tuple[int, int]]:
    """Where to cut two texts so that the beginning of the first and the end of the second make the longest line."""
    if not first.startswith(tuple(word[0] for word in WORDS)):
        return None  # nothing, or the kernel's
    cuts = ((head, tail) for head in range(len(first), 0, -1) for tail in range(len(second)))
    fitting = [(head, tail) for head, tail in cuts if kind.fullmatch(first[:head] + second[tail:].rstrip("\r"))]
    return max(fitting, key=lambda cut: cut[0] - cut[1], default=None)


def _told(entry: Entry) -> str:
    """Text for the joined log: what is left of a line must not pass for one."""
    return entry.text if entry.whole else STARTS.sub(lambda word: word[0].strip() + "~", entry.text)


def _boots(entries: Iterable[Entry]) -> Dict[str, int]:
    """Place of each boot in time."""
    begun: Dict[str, int] = {}
    seen: Dict[str, None] = {}
    for entry in entries:
        if entry.boot:
            seen.setdefault(entry.boot)
        if entry.at is not None:
            begun.setdefault(entry.boot, entry.at)
    return {boot: place for place, boot in enumerate(sorted(seen, key=lambda boot: begun.get(boot, 0)))}


def _placed(entries: List[Entry]) -> List[Entry]:
    """Let every line that is no tick stand with the tick before it, or with the first one of the machine."""
    first = next((entry for entry in entries if entry.boot), Entry(""))
    place: Tuple[str, int] = (first.boot, first.number)
    placed = []
    for entry in entries:
        if entry.boot:
            place = (entry.boot, entry.number)
        placed.append(replace(entry, boot=place[0], number=place[1]))
    return placed
