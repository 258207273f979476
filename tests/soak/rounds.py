# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rounds of maintenance with a fault each, and what must hold after every one of them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.integration.fleet import CLEARING_S, PATIENCE_S, SLOW_MIB_S, Fleet
from tests.integration.runner import Ansible, Run

from .troubles import TROUBLES, Scene

# How often the same command may be needed once the fault is gone: the first may find what libvirt has not cleared yet.
ATTEMPTS = 3
LEFT_BEHIND = (
    "ls /var/lib/kvm_fleet/maintenance.json /var/lib/kvm_fleet/lease.json /var/lib/kvm_fleet/migrations/* 2>/dev/null"
)


@dataclass(frozen=True)
class Round:
    """What happened in a round: the fault, where, when after the start, and how often the command was run."""

    number: int
    hosts: str
    refill: str
    trouble: str
    where: str
    after_s: float
    lasted_s: float
    runs: int


def soak(
    ansible: Ansible, fleet: Fleet, homes: Mapping[str, str], count: int, seed: int, tasks: Path
) -> Iterator[Round]:
    """Carry out so many rounds; raises AssertionError as soon as something does not hold.

    ``homes`` are the guests with the host on which each of them runs at the beginning.
    """
    dice = random.Random(seed)
    for number in range(1, count + 1):
        yield _round(ansible, fleet, dict(homes), number, dice, tasks)


def _round(
    ansible: Ansible, fleet: Fleet, homes: dict[str, str], number: int, dice: random.Random, tasks: Path
) -> Round:
    names = [host.name for host in fleet.lab.hosts]
    chosen = dice.choice(["all", *names])
    trouble = dice.choice(list(TROUBLES))
    after_s, lasts_s = dice.uniform(0, 40), dice.uniform(1, 20)
    options = {"hosts": chosen, "tasks": str(tasks), "id": f"round-{number}", "serial": 1}
    began = time.monotonic()
    job = ansible.start_maintenance(**options, bandwidth_mib_s=SLOW_MIB_S)
    while job.running and time.monotonic() < began + after_s:
        time.sleep(0.2)
    where = TROUBLES[trouble](Scene(job, fleet, list(homes), dice))
    time.sleep(lasts_s)
    fleet.repair()
    run = job.wait(PATIENCE_S * 3)
    assert_each_runs_once(fleet, homes)
    runs = 1
    while run.code != 0:
        assert runs <= ATTEMPTS, f"round {number} ({trouble} of {where}) does not come to an end:\n{run.text[-4000:]}"
        run = ansible.maintain(**options)
        runs += 1
    assert_settled(fleet, homes, run)
    return Round(number, chosen, "home", trouble, where, round(after_s, 1), round(time.monotonic() - began, 1), runs)


def assert_each_runs_once(fleet: Fleet, homes: Mapping[str, str]) -> None:
    """At no time may a guest run twice or be lost; its log shows both, whenever it was."""
    for name in homes:
        assert len(fleet.lab.guests.running_on(name)) <= 1, fleet.lab.guests.where(name)
        verdict = fleet.lab.guests.verdict(name)
        assert (verdict.boots, verdict.repeats, verdict.memory_corrupt) == (1, 0, 0), (name, verdict)


def assert_settled(fleet: Fleet, homes: Mapping[str, str], run: Run) -> None:
    """Every guest is intact at home and nowhere else, and no host remembers anything that is not over."""
    assert run.code == 0, run.text
    for name, home in homes.items():
        fleet.assert_intact_and_once(name, home, CLEARING_S)
    for host in fleet.lab.hosts:
        assert host.run(LEFT_BEHIND, check=False).stdout == "", (host.name, host.run(LEFT_BEHIND, check=False).stdout)
