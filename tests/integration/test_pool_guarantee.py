# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The promise of a pool: a guest that starts with its CPU on any member moves to any other, and its CPU stays the same.

What the CPU is, the guests ask the processor itself, several times a second. Moves are libvirt's own.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise, permutations

import pytest

from tests.integration.fleet import PATIENCE_S, Fleet, guest
from tests.lab import Lab

HOSTS = ("hv1", "hv2", "hv3")
# Every host and every direction between two of them, once; the last host is the first one.
CIRCLE = ("hv1", "hv2", "hv1", "hv3", "hv2", "hv3")
OWN_CPU = "<cpu mode='host-model'/>"
# Whatever the host has; libvirt does not look after it when the guest moves.
ANY_CPU = "<cpu mode='maximum'/>"


def walk(start: str) -> list[str]:
    """The circle from this host back to it."""
    place = CIRCLE.index(start)
    return [*CIRCLE[place:], *CIRCLE[:place], start]


def take_round(lab: Lab, name: str, hosts: list[str]) -> None:
    """Move a guest from host to host; on each it must be alive and find its memory and its CPU as they were."""
    for source, destination in pairwise(hosts):
        lab.guests.migrate(name, source, destination)
        verdict = lab.guests.wait_checked(name, timeout=PATIENCE_S)
        assert verdict.intact, (destination, verdict)
        assert lab.guests.running_on(name) == [destination]


@pytest.mark.parametrize("start", HOSTS)
def test_a_walk_goes_every_way_between_two_hosts(start: str) -> None:
    assert sorted(pairwise(walk(start))) == sorted(permutations(HOSTS, 2))
    assert (walk(start)[0], walk(start)[-1]) == (start, start)


def test_a_guest_of_the_pool_goes_everywhere_with_one_cpu_wherever_it_started(lab: Lab, fleet: Fleet) -> None:
    fleet.have(*(guest(f"from-{host}", host, memcheck_pause_ms=40) for host in HOSTS))
    seen = {lab.guests.verdict(f"from-{host}").cpu_id for host in HOSTS}
    assert len(seen) == 1, seen
    with ThreadPoolExecutor() as walkers:
        list(walkers.map(lambda host: take_round(lab, f"from-{host}", walk(host)), HOSTS))
    for host in HOSTS:
        fleet.assert_intact_and_once(f"from-{host}", host)
        assert {lab.guests.verdict(f"from-{host}").cpu_id} == seen


@pytest.mark.long
def test_without_a_pool_the_cpu_depends_on_the_host(lab: Lab, fleet: Fleet) -> None:
    """The test before can fail: the hosts differ, and a guest whose CPU changes notices."""
    unguarded = guest("unguarded", "hv3", cpu_xml=ANY_CPU)
    fleet.have(guest("own-1", "hv1", cpu_xml=OWN_CPU), guest("own-2", "hv2", cpu_xml=OWN_CPU), unguarded)
    assert lab.guests.verdict("own-1").cpu_id != lab.guests.verdict("own-2").cpu_id

    before = lab.guests.verdict("unguarded")
    assert before.intact, before
    # To the richer host: an instruction that is gone would end the guest.
    lab.guests.migrate("unguarded", "hv3", "hv1")
    after = lab.guests.wait_checked("unguarded", timeout=PATIENCE_S)
    assert after.cpu_id != before.cpu_id
    assert after.cpu_changes > 0
    assert not after.intact
    assert replace(after, cpu_changes=0).intact, after
