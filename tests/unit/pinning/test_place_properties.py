# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that trying all ways says about small hosts, the choice of pins says too."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import PinningPolicy
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pin_rules import HostCpus
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import (
    Guest,
    GuestCell,
    Others,
    Placement,
    place,
    room_of,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import Cell, format_cpuset, parse_cpuset
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.pinning.small import broken, claim, distance, guest, keeps_threads, possible, spots

Host = tuple[tuple[Cell, ...], HostCpus, Others]


@st.composite
def hosts(draw: st.DrawFn) -> Host:
    """Up to three cells with up to eight CPUs on cores of one to four threads, some of them not to be had."""
    numbers = iter(draw(st.permutations(range(8))))
    sizes = draw(st.lists(st.sampled_from([2, 2, 1, 4, 3]), min_size=3, max_size=6).filter(lambda s: sum(s) <= 8))
    cores = [frozenset(next(numbers) for thread in range(size)) for size in sizes]
    count = draw(st.integers(1, 3))
    ids = draw(st.permutations([0, 1, 2, 5, 70]))[:count]
    homes = draw(st.lists(st.integers(0, count - 1), min_size=len(cores), max_size=len(cores)))
    distances = draw(st.lists(st.lists(st.integers(11, 14), min_size=count, max_size=count), min_size=count))
    found = []
    for index, number in enumerate(ids):
        own = tuple(core for core, home in zip(cores, homes, strict=True) if home == index)
        memory, named = draw(st.sampled_from([4, 3, 2, 1, 0])), draw(st.sampled_from([True, True, False]))
        cpus = frozenset(cpu for core in own for cpu in core)
        row = tuple(10 if other == index else distances[index][other] for other in range(count))
        found.append(Cell(number, cpus, memory, row, (), own if named else (), memory))
    online = frozenset(cpu for cell in found for cpu in cell.cpus)
    some = st.frozensets(st.sampled_from(sorted(online)), max_size=2)
    sets = [draw(st.sampled_from([frozenset(), draw(some)])) for each in range(3)]
    isolated = draw(st.sampled_from([frozenset(), online - draw(some)]))
    others = Others(
        (claim(format_cpuset(sets[0])),) if sets[0] else (),
        floating=draw(st.booleans()),
        bound=frozenset(ids[:1]) if draw(st.booleans()) else frozenset(),
    )
    cpus = HostCpus(isolated, offline=sets[1], reserved=sets[2])
    order = draw(st.permutations(range(count)))
    rows = [
        replace(found[i], distances=tuple(found[i].distances[j] for j in sorted(range(count), key=ids.__getitem__)))
        for i in order
    ]
    return tuple(rows), cpus, others


@st.composite
def guests(draw: st.DrawFn) -> Guest:
    vcpus = draw(st.permutations(range(draw(st.sampled_from([3, 2, 4, 5, 1, 6])))))
    count = draw(st.integers(1, 3))
    homes = draw(st.lists(st.integers(0, count - 1), min_size=len(vcpus), max_size=len(vcpus)))
    cells = tuple(
        GuestCell(
            number,
            tuple(sorted(vcpu for vcpu, home in zip(vcpus, homes, strict=True) if home == number)),
            draw(st.integers(0, 2)),
        )
        for number in range(count)
    )
    return Guest("db1", "u", tuple(sorted(vcpus)), 8, draw(st.sampled_from([1, 2, 4])), cells, count > 1)


POLICIES = st.sampled_from(
    [
        PinningPolicy("numa"),
        *(
            PinningPolicy("dedicated", threads, emulator)
            for threads in ("prefer", "isolate", "require")
            for emulator in ("share", "isolate")
        ),
        # Of the cells that are drawn above, some or none.
        PinningPolicy("numa", host_cells=frozenset({0, 2, 70})),
        PinningPolicy("dedicated", host_cells=frozenset({1, 2, 5})),
    ]
)


@settings(max_examples=300)
@given(hosts(), guests(), POLICIES)
def test_what_can_be_placed_is_placed_in_the_fewest_and_nearest_cells_and_the_fewest_cores_are_broken(
    host: Host, vm: Guest, policy: PinningPolicy
) -> None:
    room = room_of(*host)
    # Cells that the host does not have are refused at once.
    there = (policy.host_cells or frozenset()) & {cell.id for cell in room.cells}
    policy = replace(policy, host_cells=there or None)
    ways = {(len(used), distance(room, used), parts) for used, parts in possible(vm, policy, room)}

    found = place(vm, policy, room)

    assert isinstance(found, Placement) == bool(ways), found
    if isinstance(found, Placement):
        best = min(ways)
        assert (len(found.cells), distance(room, frozenset(found.cells))) == best[:2]
        cpus = frozenset(cpu for pin in spots(found).values() for cpu in pin)
        # Among cores with more threads there may be a better sum of whole ones.
        if policy.policy == "dedicated" and all(len(core) <= 2 for cell in room.cells for core in cell.cores):
            assert (0 if policy.thread_policy == "isolate" else broken(cpus, room)) == best[2]


@st.composite
def wide_hosts(draw: st.DrawFn) -> tuple[Cell, ...]:
    """Six cells with few CPUs, as far from each other as may be."""
    rows = draw(st.lists(st.lists(st.integers(11, 30), min_size=6, max_size=6), min_size=6, max_size=6))
    return tuple(
        Cell(
            number,
            frozenset(range(3 * number, 3 * number + draw(st.integers(0, 3)))),
            draw(st.integers(0, 4)),
            tuple(10 if other == number else distance for other, distance in enumerate(row)),
        )
        for number, row in enumerate(rows)
    )


PARTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=4)


@settings(max_examples=200)
@given(wide_hosts(), PARTS.filter(lambda parts: any(vcpus for vcpus, memory in parts)))
def test_among_many_cells_the_fewest_and_nearest_are_found(
    cells: tuple[Cell, ...], parts: list[tuple[int, int]]
) -> None:
    room, vm = room_of(cells, HostCpus(), Others()), guest(*parts)
    ways = {(len(used), distance(room, used)) for used, parts in possible(vm, PinningPolicy("numa"), room)}

    found = place(vm, PinningPolicy("numa"), room)

    assert isinstance(found, Placement) == bool(ways), found
    if isinstance(found, Placement):
        assert (len(found.cells), distance(room, frozenset(found.cells))) == min(ways)


@given(hosts(), guests(), POLICIES)
def test_a_placement_takes_only_what_is_free(host: Host, vm: Guest, policy: PinningPolicy) -> None:
    room = room_of(*host)
    found = place(vm, policy, room)
    if not isinstance(found, Placement):
        return
    pins, used = spots(found), [cell for cell in room.cells if cell.id in found.cells]
    cpus = [cpu for pin in pins.values() for cpu in pin]
    emulator = parse_cpuset(found.pinning.emulator or "")
    owned = frozenset(cpu for each in host[2].claims for cpu in each.cpus)

    assert sorted(pins) == sorted(vm.vcpus)
    assert not (frozenset(cpus) | emulator) & (owned | host[1].offline)
    if policy.policy == "numa":
        assert all(pin and pin <= room.shared for pin in pins.values())
        assert emulator
        assert emulator <= room.shared
        return
    near = frozenset(cpu for cell in used for cpu in cell.dedicated)
    cores = [core for cell in used for core in cell.cores if core & frozenset(cpus)]
    assert len(cpus) == len(set(cpus)) == len(pins)
    assert frozenset(cpus) <= near
    assert keeps_threads(frozenset(cpus), cores, policy.thread_policy, room)
    assert found.blocked == (frozenset().union(*cores) - set(cpus) if policy.thread_policy == "isolate" else set())
    if policy.emulator == "isolate":
        assert len(emulator) == 1
        assert emulator <= near - set(cpus) - found.blocked
        assert found.cpus == frozenset(cpus) | emulator
    else:
        assert emulator
        assert emulator <= room.shared - found.cpus - found.blocked
        assert found.cpus == frozenset(cpus)


@given(hosts(), guests(), POLICIES)
def test_each_cell_of_a_guest_finds_cpus_and_memory_in_the_same_cell(
    host: Host, vm: Guest, policy: PinningPolicy
) -> None:
    room = room_of(*host)
    found = place(vm, policy, room)
    if not isinstance(found, Placement) or not vm.numa:
        return
    bound = {cell.id: int(cell.node) for cell in found.pinning.cells}
    for cell in room.cells:
        inside = [each for each in vm.cells if bound.get(each.id) == cell.id]
        cpus = frozenset(cpu for core in cell.cores for cpu in core)
        assert sum(each.memory_kib for each in inside) <= cell.memory_kib
        assert all(spots(found)[vcpu] <= cpus for each in inside for vcpu in each.vcpus)
    assert all(each.id in bound for each in vm.cells if each.memory_kib)


@given(hosts(), guests(), POLICIES, st.randoms(use_true_random=False))
def test_the_order_of_what_is_given_does_not_matter(
    host: Host, vm: Guest, policy: PinningPolicy, chance: random.Random
) -> None:
    def shuffled(things: Iterable[Any]) -> tuple[Any, ...]:
        return tuple(sorted(things, key=lambda thing: chance.random()))

    cells, cpus, others = host
    singles = [claim(str(cpu), f"vm{cpu}") for each in others.claims for cpu in each.cpus]
    one = room_of(cells, cpus, replace(others, claims=tuple(singles)))
    mixed = [replace(cell, siblings=shuffled(cell.siblings)) for cell in shuffled(cells)]
    other = room_of(mixed, cpus, replace(others, claims=shuffled(singles)))

    assert place(vm, policy, one) == place(replace(vm, vcpus=shuffled(vm.vcpus)), policy, other)
