# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults of a soak: each happens while a maintenance runs, and each can be repaired."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from tests.integration.fleet import SLOW_MIB_S, Fleet
from tests.integration.runner import Job

SLOW_LINK = "8mbit"
# What must still be on its way when a copy is killed: one that has arrived is the guest itself.
REST_MIB = 4 * SLOW_MIB_S
LOOK_S = 0.2


@dataclass(frozen=True)
class Scene:
    """What a fault may touch: the run, the hosts and the guests."""

    job: Job
    fleet: Fleet
    guests: Sequence[str]
    dice: random.Random

    @property
    def host(self) -> str:
        """Any host."""
        return self.dice.choice([host.name for host in self.fleet.lab.hosts])

    def leaving(self) -> Iterator[tuple[str, str]]:
        """Yield guests that migrate, each with its source, again and again while the run lasts."""
        lab = self.fleet.lab
        while self.job.running:
            for name, host in product(self.guests, lab.hosts):
                if "Outgoing" in host.virsh("domjobinfo", name, check=False):
                    yield name, host.name
            time.sleep(LOOK_S)


def libvirtd_dies(scene: Scene) -> str:
    host = scene.host
    scene.fleet.lab.faults.kill_libvirtd(host)
    return host


def link_is_cut(scene: Scene) -> str:
    host = scene.host
    scene.fleet.lab.faults.cut_link(host)
    return host


def link_becomes_slow(scene: Scene) -> str:
    host = scene.host
    scene.fleet.lab.faults.set_link_rate(host, SLOW_LINK)
    return host


def controller_dies(scene: Scene) -> str:
    scene.job.kill()
    return "the controller"


def module_is_killed(scene: Scene) -> str:
    host = scene.host
    scene.fleet.lab[host].run("pkill -9 -f '[A]nsiballZ_'", check=False)
    return host


def job_is_aborted(scene: Scene) -> str:
    for name, source in scene.leaving():
        scene.fleet.lab[source].virsh("domjobabort", name, check=False)
        return f"{name} on {source}"
    return "nobody"


def copy_is_killed(scene: Scene) -> str:
    """Kill the QEMU that receives a guest, as long as it is far from having it."""
    lab = scene.fleet.lab
    for name, source in scene.leaving():
        info = lab[source].virsh("domjobinfo", name, check=False)
        left = [line.split() for line in info.splitlines() if line.startswith("Data remaining")]
        if not left or left[0][3] != "MiB" or float(left[0][2]) < REST_MIB:
            continue
        for process in lab.guests.processes(name):
            if process.host != source:
                lab[process.host].kill(process.pid)
                return f"{name} on {process.host}"
    return "nobody"


TROUBLES: dict[str, Callable[[Scene], str]] = {
    each.__name__: each
    for each in (
        libvirtd_dies,
        link_is_cut,
        link_becomes_slow,
        controller_dies,
        module_is_killed,
        job_is_aborted,
        copy_is_killed,
    )
}
