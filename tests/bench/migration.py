# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Benchmark of migration: ``python -m tests.bench.migration`` (root, for it starts two hosts of the laboratory).

Moves the same guests from one host to the other and back in turn: with one task of ``vm_migrate``, with a shell loop of
``virsh migrate``, and with ``xargs -P``. Once the guests write all the time and the link is narrow, once they are idle
and it is not. Asserts only that every guest arrived intact and runs once.
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.integration.runner import Ansible
from tests.lab import GuestSpec, Lab
from tests.tools.sync import sync

HOSTS = ("hv1", "hv2")
UNITS = {"B": 1 / 1048576, "KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}
VIRSH = "virsh migrate --live --p2p --persistent --undefinesource"
# So many migrate at once: by default two, which fill a narrow link. A wide one has room for more.
NARROW_AT_ONCE, WIDE_AT_ONCE = 2, 4


@dataclass(frozen=True)
class Fleet:
    """Two hosts of the laboratory with guests on one of them, and a controller."""

    lab: Lab
    ansible: Ansible
    names: tuple[str, ...]
    at_once: int

    def uri(self, host: str) -> str:
        """Return libvirt's URI of a host as the other one sees it."""
        return f"qemu+ssh://root@{self.lab[host].address}/system"


@dataclass(frozen=True)
class Moved:
    """What moving all guests once took: ``sent_mib`` and downtimes are libvirt's own figures."""

    seconds: float
    sent_mib: float
    downtimes_ms: tuple[float, ...]


Way = Callable[[Fleet, str, str], None]


def one_call(fleet: Fleet, source: str, destination: str) -> None:
    """Move all with one task, as a user of the collection does."""
    uri = fleet.uri(destination)
    moves = [{"vm": name, "destination": destination, "uri": uri} for name in fleet.names]
    result = fleet.ansible.module(source, "vm_migrate", moves=moves, concurrency=fleet.at_once)
    assert not result["failed"], result


def looping(fleet: Fleet, source: str, destination: str) -> None:
    """Move one after the other, as scripts do."""
    names = " ".join(fleet.names)
    fleet.lab[source].run(f"for vm in {names}; do {VIRSH} $vm {fleet.uri(destination)} || exit 1; done", timeout=900)


def side_by_side(fleet: Fleet, source: str, destination: str) -> None:
    """Move some at once, as better scripts do."""
    names = "\\n".join(fleet.names)
    command = f"{VIRSH} {{}} {fleet.uri(destination)}"
    fleet.lab[source].run(f"printf '{names}\\n' | xargs -P {fleet.at_once} -I {{}} {command}", timeout=900)


WAYS: dict[str, Way] = {"vm_migrate": one_call, "virsh loop": looping, "xargs -P": side_by_side}


def measured(fleet: Fleet, way: Way, source: str, destination: str) -> Moved:
    """Move all guests in one way and look whether they have all arrived intact."""
    began = time.monotonic()
    way(fleet, source, destination)
    seconds = time.monotonic() - began
    figures = [_figures(fleet.lab[destination].virsh("domjobinfo", name, "--completed")) for name in fleet.names]
    for name in fleet.names:
        fleet.lab.guests.wait_ticks(name)
        verdict = fleet.lab.guests.verdict(name)
        assert verdict.intact, (name, verdict)
        assert [end.host for end in fleet.lab.guests.where(name)] == [destination], name
    return Moved(seconds, sum(sent for sent, _downtime in figures), tuple(downtime for _sent, downtime in figures))


def _figures(text: str) -> tuple[float, float]:
    sent, unit = re.findall(r"^Memory processed:\s+([\d.]+) (\S+)$", text, re.M)[0]
    downtimes = re.findall(r"^Total downtime:\s+([\d.]+) +ms$", text, re.M)
    assert len(downtimes) == 1, text
    return float(sent) * UNITS[unit], float(downtimes[0])


@contextmanager
def fleet_of(count: int, busy: bool, mbit: int | None) -> Iterator[Fleet]:
    """Start hosts with guests that write all the time or hardly ever, over a link of so many Mbit/s."""
    sync()
    with tempfile.TemporaryDirectory() as folder, Lab("bench") as lab:
        lab.up(hosts=len(HOSTS))
        ansible = Ansible(lab.write_inventory(Path(folder) / "inventory.yml"), Path(folder))
        names = tuple(f"g{number}" for number in range(count))
        # What is written in a round must fit into the downtime of each way, or nothing but luck would be compared.
        pause_ms = 50 if busy else 1000
        for name in names:
            lab.guests.define(GuestSpec(name, memcheck_mib=1, memcheck_pause_ms=pause_ms, tick_s=0.5), HOSTS[0])
            lab.guests.start(name, HOSTS[0], wait_boot=False)
        for name in names:
            lab.guests.wait_boot(name, timeout=600)
        if mbit:
            lab.faults.set_link_rate(HOSTS[1], f"{mbit}mbit")
        yield Fleet(lab, ansible, names, NARROW_AT_ONCE if mbit else WIDE_AT_ONCE)


def rounds(fleet: Fleet, count: int) -> dict[str, list[Moved]]:
    """Move the guests to and fro, each way so often, in turns; a first call that is not counted warms up."""
    found: dict[str, list[Moved]] = {name: [] for name in WAYS}
    source, destination = HOSTS
    measured(fleet, one_call, source, destination)
    source, destination = destination, source
    for _round in range(count):
        for name, way in WAYS.items():
            found[name].append(measured(fleet, way, source, destination))
            source, destination = destination, source
            print(f"{name}: {found[name][-1]}", flush=True)
    return found


def report(what: str, fleet: Fleet, count: int, mbit: int | None) -> None:
    """Measure, and print a table: medians, and the first way's time in terms of the others' and of the link."""
    found = rounds(fleet, count)
    print(f"\n### {what}, {fleet.at_once} at once, medians of {count} rounds\n")
    print("| way | s | MiB sent | that / link, s | s / that | downtime ms, median | worst | s / vm_migrate |")
    print("|---|---|---|---|---|---|---|---|")
    ours = statistics.median(moved.seconds for moved in found["vm_migrate"])
    for name, runs in found.items():
        seconds = statistics.median(moved.seconds for moved in runs)
        sent = statistics.median(moved.sent_mib for moved in runs)
        downtimes = [downtime for moved in runs for downtime in moved.downtimes_ms]
        least = sent * 8.388608 / mbit if mbit else None
        bound = f"{least:.1f} | {seconds / least:.2f}" if least else "- | -"
        still = f"{statistics.median(downtimes):.0f} | {max(downtimes):.0f}"
        print(f"| {name} | {seconds:.1f} | {sent:.0f} | {bound} | {still} | {seconds / ours:.2f} |")


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--guests", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mbit", type=int, default=100, help="speed of the narrow link")
    given = parser.parse_args()
    with fleet_of(given.guests, busy=True, mbit=given.mbit) as fleet:
        report(f"{given.guests} busy guests, a link of {given.mbit} Mbit/s", fleet, given.rounds, given.mbit)
    with fleet_of(given.guests, busy=False, mbit=None) as fleet:
        report(f"{given.guests} idle guests, a link that is not full", fleet, given.rounds, None)


if __name__ == "__main__":
    main()
