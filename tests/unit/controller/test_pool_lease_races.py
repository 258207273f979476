# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two runs of two controllers never have a pool at once, whoever reaches which hosts and in whatever order they ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Optional

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host import lease
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._host.lease import Claim, Lease
from ansible_collections.virtops.kvm_fleet.plugins.plugin_utils._pool_leases import Terms, verdict
from hypothesis import given, settings
from hypothesis import strategies as st

SILENT: dict[str, Any] = {"unreachable": True, "pool": "gold"}


@dataclass
class Hosts:
    """All hosts with their leases and one clock, which counts steps as seconds."""

    count: int
    leases: dict[str, Lease] = field(default_factory=dict)
    step: int = 0

    @property
    def now(self) -> str:
        moment = datetime(2026, 1, 31, 12, tzinfo=UTC) + timedelta(seconds=self.step)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")

    def ask(self, host: str, run: str) -> dict[str, Any]:
        """What the module does and answers."""
        before = self.leases.get(host)
        after = lease.take(before, Claim(run, run, "gold"), self.now)
        self.leases[host] = after
        other = {**after.to_data(), "age_s": after.age_s(self.now), "left_s": after.left_s(self.now)}
        return {
            "granted": after.run == run,
            "pool": "gold",
            "renewed": before is not None and before.run == run,
            "lease": after.to_data(),
            "holder": other,
        }

    def give_back(self, host: str, run: str) -> None:
        left = lease.release(self.leases.pop(host, None), run)
        if left is not None:
            self.leases[host] = left

    def of(self, run: str) -> set[str]:
        return {host for host, found in self.leases.items() if found.run == run}


class Controller:
    """A run that takes the role's steps, one with each call of ``go_on``."""

    def __init__(self, hosts: Hosts, run: str, reached: Iterator[list[str]], wait_s: float) -> None:
        self.hosts, self.run, self.wait_s = hosts, run, wait_s
        self.holding: set[str] = set()
        self.had = 0
        self.stopped = False
        self._reached = reached
        self._steps = self._hold()

    def go_on(self) -> None:
        if not self.stopped and next(self._steps, "end") == "end":
            self.stopped = True

    def _hold(self) -> Iterator[None]:
        every = [f"hv{number}" for number in range(1, self.hosts.count + 1)]
        previous: Optional[dict[str, Any]] = None
        for reached in self._reached:
            answers: dict[str, Any] = dict.fromkeys(every, SILENT)
            for host in reached:
                answers[host] = self.hosts.ask(host, self.run)
                yield
            found = verdict(answers, every, Terms(float(self.hosts.step), self.wait_s), previous)
            yield
            if found["state"] == "held":
                self.holding = set(found["hosts"])
                self.had += 1
                yield
                self.holding = set()
            if found["state"] == "held" or found["give_back"]:
                for host in found["hosts"]:
                    self.hosts.give_back(host, self.run)
                    yield
            if found["state"] != "waiting":
                return
            yield from self._wait(found["wait_at"], self.hosts.step + found["wait_s"])
            previous = found

    def _wait(self, host: str, until: float) -> Iterator[None]:
        while not self.hosts.ask(host, self.run)["granted"] and self.hosts.step < until:
            yield


COUNT = st.integers(1, 5)


def reach(count: int) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from([f"hv{number}" for number in range(1, count + 1)]), unique=True)


def forever(first: list[list[str]]) -> Iterator[list[str]]:
    yield from first
    while True:
        yield first[-1]


@settings(max_examples=400)
@given(st.data())
def test_two_runs_never_have_a_pool_at_once(data: st.DataObject) -> None:
    hosts = Hosts(data.draw(COUNT))
    reached = st.lists(reach(hosts.count), min_size=1, max_size=3)
    runs = [Controller(hosts, run, forever(data.draw(reached)), wait_s=20) for run in ("a", "b")]
    for second in data.draw(st.lists(st.booleans(), max_size=120)):
        runs[second].go_on()
        hosts.step += 1
        assert not (runs[0].holding and runs[1].holding)
        for run in runs:
            assert run.holding <= hosts.of(run.run), "what a run has nobody takes away"


@settings(max_examples=200)
@given(st.data())
def test_two_runs_that_reach_the_same_hosts_and_wait_both_have_the_pool_in_turn(data: st.DataObject) -> None:
    hosts = Hosts(data.draw(COUNT))
    every = [f"hv{number}" for number in range(1, hosts.count + 1)]
    orders = st.permutations(every)
    runs = [Controller(hosts, run, forever([data.draw(orders)]), wait_s=100_000) for run in ("a", "b")]
    begin = iter(data.draw(st.lists(st.booleans(), max_size=40)))
    while not all(run.stopped for run in runs):
        assert hosts.step < 2000, "they stand in each other's way"
        runs[next(begin, hosts.step % 2)].go_on()
        hosts.step += 1
    assert [run.had for run in runs] == [1, 1]
    assert hosts.leases == {}


@settings(max_examples=200)
@given(st.data())
def test_of_two_runs_that_do_not_wait_one_has_the_pool(data: st.DataObject) -> None:
    hosts = Hosts(data.draw(COUNT))
    every = [f"hv{number}" for number in range(1, hosts.count + 1)]
    runs = [Controller(hosts, run, forever([data.draw(st.permutations(every))]), wait_s=0) for run in ("a", "b")]
    begin = iter(data.draw(st.lists(st.booleans(), max_size=30)))
    while not all(run.stopped for run in runs):
        assert hosts.step < 2000
        runs[next(begin, hosts.step % 2)].go_on()
        hosts.step += 1
    assert sum(run.had for run in runs) >= 1
    assert hosts.leases == {}
