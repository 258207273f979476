# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demo shows: hosts and guests of either kind of lab, and how to read their state."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.lab import GuestSpec, HostOptions, Lab


@dataclass(frozen=True)
class Guest:
    """A guest of the demo and the host where it lives; ``kind`` is for the reader."""

    spec: GuestSpec
    home: str
    kind: str = ""
    autostart: bool = False

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass(frozen=True)
class Scene:
    """A lab with its guests. ``reboots`` says whether its hosts can be rebooted, and are."""

    kind: str
    hosts: Mapping[str, HostOptions]
    guests: tuple[Guest, ...]
    reboots: bool


_DB = Guest(GuestSpec("db1", vcpus=2, pins=((0, "0"), (1, "1"))), "hv1", "pinned")
_WEB = Guest(GuestSpec("web1"), "hv1", "autostart", autostart=True)

SCENES = {
    # Three generations of hosts: each lacks CPU features that another has.
    "pod": Scene(
        kind="pod",
        hosts={
            "hv1": HostOptions(link="1gbit"),
            "hv2": HostOptions(link="1gbit", without=("avx2", "bmi2", "fma")),
            "hv3": HostOptions(link="1gbit", without=("rdseed", "sha-ni")),
        },
        guests=(
            _DB,
            _WEB,
            Guest(GuestSpec("web2"), "hv1"),
            Guest(GuestSpec("mail1"), "hv1"),
            Guest(GuestSpec("web3"), "hv2"),
            Guest(GuestSpec("web4"), "hv3"),
        ),
        reboots=False,
    ),
    # Hosts of this kind differ by themselves.
    "machine": Scene(
        kind="machine",
        hosts={"hv1": HostOptions(), "hv2": HostOptions()},
        guests=(_DB, _WEB, Guest(GuestSpec("web2"), "hv2")),
        reboots=True,
    ),
}


@dataclass(frozen=True)
class Sight:
    """What is seen of a guest from outside, at one moment.

    ``hosts`` have a process of it or know it in libvirt, ``running`` are those where it runs. ``kept`` is what must
    come home with it: autostart and pins, as virsh prints them.
    """

    hosts: tuple[str, ...]
    running: tuple[str, ...]
    kept: tuple[str, ...]


def look(lab: Lab, guests: tuple[Guest, ...]) -> dict[str, Sight]:
    """Return what is seen of every guest, by name; the collection is not asked."""
    return {guest.name: _look_at(lab, guest.name) for guest in guests}


def _look_at(lab: Lab, name: str) -> Sight:
    hosts = tuple(presence.host for presence in lab.guests.where(name))
    running = tuple(lab.guests.running_on(name))
    kept = _kept(lab, name, running[0]) if running else ()
    return Sight(hosts, running, kept)


def _kept(lab: Lab, name: str, host: str) -> tuple[str, ...]:
    info = lab[host].virsh("dominfo", name).splitlines()
    autostart = [" ".join(line.split()) for line in info if line.startswith("Autostart")]
    return (*autostart, *(" ".join(line.split()) for line in lab[host].virsh("vcpupin", name).splitlines()))


def define(lab: Lab, guests: tuple[Guest, ...]) -> None:
    """Define the guests on their hosts, with QEMU's plain CPU."""
    for guest in guests:
        lab.guests.define(guest.spec, guest.home, guest.autostart)


def start(lab: Lab, guests: tuple[Guest, ...]) -> None:
    """Start the guests and wait until each ticks and has verified its memory once."""
    with ThreadPoolExecutor(max_workers=len(guests)) as pool:
        for started in [pool.submit(lab.guests.start, guest.name, guest.home, timeout=600) for guest in guests]:
            started.result()
