# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which CPUs a request isolates, on even and odd hosts, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import (
    Cell,
    HostTopology,
    Isolation,
    IsolationRequest,
    format_cpuset,
    isolate,
    parse_cpuset,
)
from hypothesis import assume, given
from hypothesis import strategies as st


def host(*cells: str) -> HostTopology:
    """A host whose cells are given by the threads of each core: ``0,4 1,5``; an empty text is a cell without CPUs."""
    parsed = [[parse_cpuset(core) for core in cell.split()] for cell in cells]
    return HostTopology(
        sockets=len(cells),
        dies=1,
        cores=max(len(cores) for cores in parsed),
        threads=max((len(core) for cores in parsed for core in cores), default=1),
        cells=tuple(
            Cell(id=number, cpus=frozenset().union(*cores), memory_kib=1024, siblings=tuple(cores))
            for number, cores in enumerate(parsed)
        ),
    )


FLAT = host("0 1 2 3")
SMT = host("0,8 1,9 2,10 3,11", "4,12 5,13 6,14 7,15")
ADJACENT = host("0-1 2-3", "4-5 6-7")
HYBRID = host("0-1 2-3 4 5 6 7")
MEMORY_ONLY = host("0 1 2", "", "3 4 5")
# CPU 5 of 0 to 7 is offline, and its sibling 4 stands alone.
HOLED = host("0-1 2-3 4 6-7")
BOOT_OFF = host("1 2 3")
BOOT_LAST = host("2-3 4-5", "0-1 6-7")


def sets(isolation: Isolation) -> tuple[str, str]:
    return format_cpuset(isolation.isolated), format_cpuset(isolation.housekeeping)


def request(isolated: str | None = None, housekeeping: str | None = None, cores: int | None = None) -> IsolationRequest:
    return IsolationRequest(
        isolated=None if isolated is None else parse_cpuset(isolated),
        housekeeping=None if housekeeping is None else parse_cpuset(housekeeping),
        housekeeping_cores_per_cell=cores,
    )


@pytest.mark.parametrize(
    ("topology", "asked", "isolated", "housekeeping"),
    [
        (FLAT, request(isolated="2-3"), "2-3", "0-1"),
        (FLAT, request(housekeeping="0-1"), "2-3", "0-1"),
        (FLAT, request(isolated="2-3", housekeeping="0-1"), "2-3", "0-1"),
        (FLAT, request(isolated=""), "", "0-3"),
        (FLAT, request(housekeeping="0-3"), "", "0-3"),
        (FLAT, request(isolated="", housekeeping="0-3"), "", "0-3"),
        (FLAT, request(cores=1), "1-3", "0"),
        (FLAT, request(cores=3), "3", "0-2"),
        (SMT, request(cores=1), "1-3,5-7,9-11,13-15", "0,4,8,12"),
        (SMT, request(cores=2), "2-3,6-7,10-11,14-15", "0-1,4-5,8-9,12-13"),
        (ADJACENT, request(cores=1), "2-3,6-7", "0-1,4-5"),
        (HYBRID, request(cores=2), "4-7", "0-3"),
        (HYBRID, request(cores=3), "5-7", "0-4"),
        (MEMORY_ONLY, request(cores=1), "1-2,4-5", "0,3"),
        (HOLED, request(cores=1), "2-4,6-7", "0-1"),
        (HOLED, request(cores=3), "6-7", "0-4"),
        (BOOT_OFF, request(cores=1), "2-3", "1"),
        (BOOT_OFF, request(isolated="2-3"), "2-3", "1"),
        (BOOT_LAST, request(cores=1), "4-7", "0-3"),
        (host("0 1", "2 3 4 5"), request(cores=2), "4-5", "0-3"),
    ],
)
def test_a_request_means_two_sets(
    topology: HostTopology, asked: IsolationRequest, isolated: str, housekeeping: str
) -> None:
    assert sets(isolate(asked, topology, topology.cpus, topology.cpus)) == (isolated, housekeeping)


@pytest.mark.parametrize(
    ("topology", "asked", "code", "words"),
    [
        (FLAT, request(), "bad_options", "not clear"),
        (FLAT, request(isolated="2", cores=1), "bad_options", "not clear"),
        (FLAT, request(housekeeping="0", cores=1), "bad_options", "not clear"),
        (FLAT, request(cores=0), "bad_options", "at least 1"),
        (FLAT, request(cores=4), "bad_options", "no CPU to isolate"),
        (FLAT, request(isolated="2-3", housekeeping="0"), "bad_options", "CPUs 1 are in neither"),
        (FLAT, request(isolated="1-3", housekeeping="0-1"), "bad_options", "CPUs 1 are in both"),
        (FLAT, request(isolated="3-5"), "no_such_cpu", "does not have: 4-5. It has 0-3"),
        (FLAT, request(housekeeping="0,9"), "no_such_cpu", "does not have: 9"),
        (FLAT, request(isolated="0-3"), "no_housekeeping", "on this host"),
        (FLAT, request(housekeeping=""), "no_housekeeping", "on this host"),
        (FLAT, request(isolated="0"), "cpu0_isolated", "CPU 0"),
        (SMT, request(isolated="8-15"), "siblings_split", "0,8; 1,9; 2,10; 3,11; 4,12"),
        (ADJACENT, request(isolated="3-7"), "siblings_split", "host: 2-3. Give"),
        (HYBRID, request(housekeeping="0,4-7"), "siblings_split", "host: 0-1. Give"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(
    topology: HostTopology, asked: IsolationRequest, code: str, words: str
) -> None:
    with pytest.raises(FleetError) as caught:
        isolate(asked, topology, topology.cpus, topology.cpus)
    assert caught.value.code == code
    assert words in caught.value.msg


@pytest.mark.parametrize("option", ["isolated", "housekeeping"])
def test_offline_cpus_are_named(option: str) -> None:
    with pytest.raises(FleetError, match=f"{option} names CPUs that are offline: 5\\.") as caught:
        isolate(request(**{option: "4-5"}), HOLED, parse_cpuset("0-7"), HOLED.cpus)
    assert caught.value.code == "cpu_offline"
    assert caught.value.facts == {"cpus": "5", "online": "0-4,6-7"}


def test_a_cell_without_housekeeping_is_refused_only_when_asked() -> None:
    asked = request(isolated="4-7")
    assert sets(isolate(asked, ADJACENT, ADJACENT.cpus, ADJACENT.cpus)) == ("4-7", "0-3")
    with pytest.raises(FleetError, match="NUMA cells 1") as caught:
        isolate(replace(asked, housekeeping_in_each_cell=True), ADJACENT, ADJACENT.cpus, ADJACENT.cpus)
    assert (caught.value.code, caught.value.facts["cells"]) == ("no_housekeeping", [1])


def test_a_cell_without_cpus_needs_no_housekeeping() -> None:
    asked = replace(request(isolated="1-2,4-5"), housekeeping_in_each_cell=True)
    assert sets(isolate(asked, MEMORY_ONLY, MEMORY_ONLY.cpus, MEMORY_ONLY.cpus)) == ("1-2,4-5", "0,3")


def test_cpu_0_is_isolated_by_force_only() -> None:
    asked = replace(request(isolated="0-1"), force=True)
    assert sets(isolate(asked, FLAT, FLAT.cpus, FLAT.cpus)) == ("0-1", "2-3")


def test_force_does_not_take_the_last_housekeeping_cpu() -> None:
    with pytest.raises(FleetError) as caught:
        isolate(replace(request(isolated="0-3"), force=True), FLAT, FLAT.cpus, FLAT.cpus)
    assert caught.value.code == "no_housekeeping"


def test_siblings_are_split_when_allowed() -> None:
    asked = replace(request(isolated="8-15"), keep_siblings=False)
    assert sets(isolate(asked, SMT, SMT.cpus, SMT.cpus)) == ("8-15", "0-7")


def test_a_cpu_in_no_cell_keeps_house() -> None:
    online = FLAT.cpus | {9}
    assert sets(isolate(request(cores=1), FLAT, online, online)) == ("1-3", "0,9")


def test_a_cpu_that_libvirt_still_lists_but_is_offline_is_in_neither_set() -> None:
    assert sets(isolate(request(cores=1), FLAT, FLAT.cpus, FLAT.cpus - {3})) == ("1-2", "0")


def test_a_core_that_is_offline_is_not_counted() -> None:
    online = SMT.cpus - {0, 8}
    found = isolate(request(cores=1), SMT, SMT.cpus, online)
    assert sets(found) == ("2-3,5-7,10-11,13-15", "1,4,9,12")


@st.composite
def hosts(draw: st.DrawFn) -> HostTopology:
    """Up to four cells of up to four cores of one to four threads, numbered core by core or thread by thread."""
    shapes = draw(st.lists(st.lists(st.integers(1, 4), max_size=4), min_size=1, max_size=4))
    places = [
        (cell, core, thread) for cell, cores in enumerate(shapes) for core, n in enumerate(cores) for thread in range(n)
    ]
    assume(places)
    if draw(st.booleans()):
        places.sort(key=lambda place: (place[2], place[0], place[1]))
    number = {place: cpu for cpu, place in enumerate(places)}
    texts = [
        " ".join(
            ",".join(str(number[cell, core, thread]) for thread in range(threads)) for core, threads in enumerate(cores)
        )
        for cell, cores in enumerate(shapes)
    ]
    return host(*texts)


@given(hosts(), st.integers(1, 4))
def test_an_intent_keeps_cores_whole_and_each_cell_in_house(topology: HostTopology, count: int) -> None:
    asked = replace(request(cores=count), housekeeping_in_each_cell=True)
    if all(len(cell.siblings) <= count for cell in topology.cells):
        with pytest.raises(FleetError, match="no CPU to isolate"):
            isolate(asked, topology, topology.cpus, topology.cpus)
        return
    found = isolate(asked, topology, topology.cpus, topology.cpus)
    assert 0 in found.housekeeping
    for cell in topology.cells:
        kept = [core for core in cell.siblings if core <= found.housekeeping]
        assert len(kept) == min(count, len(cell.siblings))
        assert all(core <= found.isolated for core in cell.siblings if core not in kept)


@given(hosts(), st.data())
def test_every_online_cpu_is_in_exactly_one_set(topology: HostTopology, data: st.DataObject) -> None:
    cpus = data.draw(st.frozensets(st.sampled_from(sorted(topology.cpus))))
    options = {"keep_siblings": False, "force": True}
    by_isolated = IsolationRequest(isolated=cpus, **options)
    by_housekeeping = IsolationRequest(housekeeping=topology.cpus - cpus, **options)
    if cpus == topology.cpus:
        return
    found = isolate(by_isolated, topology, topology.cpus, topology.cpus)
    assert found == isolate(by_housekeeping, topology, topology.cpus, topology.cpus)
    assert found.isolated | found.housekeeping == topology.cpus
    assert not found.isolated & found.housekeeping


@given(hosts(), st.data())
def test_what_the_numbers_of_an_intent_say_is_accepted_as_numbers(topology: HostTopology, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 3))
    assume(any(len(cell.siblings) > count for cell in topology.cells))
    found = isolate(request(cores=count), topology, topology.cpus, topology.cpus)
    again = IsolationRequest(isolated=found.isolated, housekeeping_in_each_cell=True)
    assert isolate(again, topology, topology.cpus, topology.cpus) == found
