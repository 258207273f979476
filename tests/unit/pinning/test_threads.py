# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where threads run, and what must be done to make them run elsewhere."""

from __future__ import annotations

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import Domain, Pinning
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import (
    Thread,
    live_changes,
    pending,
    thread_sets,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import format_cpuset

from tests.unit.pinning.residents import pins, vm

ONLINE = frozenset(range(8))
OTHERS: set[Thread] = {("emulator", None), ("iothread", 1)}


def live(own: Pinning, **hardware: object) -> Domain:
    found = vm(own=own, iothreads=1, **hardware).resident.live
    assert found is not None
    return found


def words(sets: object) -> dict[str, str]:
    return {
        kind if number is None else f"{kind}{number}": format_cpuset(cpus)
        for (kind, number), cpus in sets.items()  # type: ignore[attr-defined]
    }


@pytest.mark.parametrize(
    ("own", "sets"),
    [
        (pins(), "0-7 0-7 0-7 0-7"),
        (pins("2"), "2 0-7 0-7 0-7"),
        (pins("2 3 | 0-1 | 4"), "2 3 0-1 4"),
        (pins("2", cpuset="0-3"), "2 0-3 0-3 0-3"),
        # The kernel leaves out what does not run.
        (pins(cpuset="6-9"), "6-7 6-7 6-7 6-7"),
        (pins("2 3", cpuset="auto"), "2 3 - -"),
    ],
)
def test_a_thread_without_a_pin_runs_where_the_vm_may(own: Pinning, sets: str) -> None:
    found = words(thread_sets(live(own), ONLINE))
    assert [found[name] or "-" for name in ("vcpu0", "vcpu1", "emulator", "iothread1")] == sets.split()


def test_only_threads_that_the_vm_has_count() -> None:
    assert list(words(thread_sets(live(pins("0 1 2 3"), vcpus=1), ONLINE))) == ["vcpu0", "emulator", "iothread1"]


@pytest.mark.parametrize(
    ("own", "wanted", "changes"),
    [
        (pins(), pins("0-7 0-7 | 0-7 | 0-7"), {}),
        (pins("2 3"), pins("2 4 | 0-7 | 0-7"), {"vcpu1": "4"}),
        (pins(cpuset="0-3"), pins("0-3 0-3 | 0-1 | 0-3"), {"emulator": "0-1"}),
        (
            pins(cpuset="auto"),
            pins("0-7 0-7 | 0-7", cpuset="auto"),
            {"vcpu0": "0-7", "vcpu1": "0-7", "emulator": "0-7"},
        ),
        (pins("2", cpuset="auto"), pins("2", cpuset="auto"), {}),
        # What the user chose, stays when others that float move on.
        (pins("2", cpuset="3"), pins("2 3 | 3 | 3", policy="manual"), {"vcpu1": "3"}),
        # A record that goes with the pins names the CPUs that are online.
        (pins("6-9 6-9"), pins("6-7 6-9 | 0-7 | 0-7"), {"vcpu0": "6-7"}),
        # Others learn from the pins of a dedicated VM which CPUs are its own.
        (
            pins("2", cpuset="3"),
            pins("2 3 | 3 | 3", policy="dedicated"),
            {"vcpu1": "3", "emulator": "3", "iothread1": "3"},
        ),
    ],
)
def test_threads_are_pinned_anew_where_their_cpus_differ(
    own: Pinning, wanted: Pinning, changes: dict[str, str]
) -> None:
    floating: dict[str, set[Thread]] = {"none": {("vcpu", 0), ("vcpu", 1), *OTHERS}, "manual": OTHERS}
    assert words(live_changes(live(own), wanted, ONLINE, frozenset(floating.get(wanted.policy, ())))) == changes


def test_memory_of_a_running_vm_waits() -> None:
    domain = live(pins("", "strict 0"), cells=((1, 2), (1, 2)))
    assert pending(domain, pins("2 3", "strict 0")) == ()
    found = pending(domain, pins("", "strict 1 | strict 1 | strict 1"))
    assert [(each.kind, each.live, each.wanted) for each in found] == [
        ("memory", {"mode": "strict", "nodes": "0"}, {"mode": "strict", "nodes": "1"}),
        ("memnode", [], [{"id": number, "mode": "strict", "node": "1"} for number in (0, 1)]),
    ]
    assert [each.wanted for each in pending(domain, Pinning())] == [None]
