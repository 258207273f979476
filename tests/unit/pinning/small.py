# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Small hosts and guests, and what can be done with them by trying everything."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import PinningPolicy
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pin_rules import HostCpus
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import (
    Claim,
    Guest,
    GuestCell,
    Misfit,
    Others,
    Placement,
    Room,
    place,
    room_of,
)
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import Cell, PageSize, parse_cpuset

Cpus = frozenset[int]


def cells(
    text: str, memory: Sequence[int] = (), distances: Sequence[Sequence[int]] = (), pages: Sequence[int] = ()
) -> tuple[Cell, ...]:
    """Give host cells: between bars the cores of each, as sets of threads; memory in KiB, 100 unless said."""
    found = []
    for number, part in enumerate(text.split("|")):
        cores = tuple(parse_cpuset(core) for core in part.split())
        kib = memory[number] if memory else 100
        found.append(
            Cell(
                number,
                frozenset(cpu for core in cores for cpu in core),
                kib,
                tuple(distances[number]) if distances else (),
                (PageSize(2048, pages[number], pages[number]),) if pages else (),
                cores,
                kib,
            )
        )
    return tuple(found)


def claim(cpus: str, vm: str = "other") -> Claim:
    return Claim(vm, f"uuid-{vm}", True, parse_cpuset(cpus))


def room(host: tuple[Cell, ...], taken: str = "", floating: bool = False, **cpus: str) -> Room:
    """Give the room on a host of whose CPUs another VM has some; ``cpus`` are the sets of ``HostCpus``."""
    sets = {name: parse_cpuset(text) for name, text in cpus.items()}
    return room_of(host, HostCpus(**sets), Others((claim(taken),) if taken else (), floating=floating))


def guest(*parts: tuple[int, int], threads: int = 1, numa: bool | None = None, pages: int | None = None) -> Guest:
    """Give a VM of whose cells each has some vCPUs and memory in KiB; one cell is one that the guest does not see."""
    numbers = iter(range(sum(vcpus for vcpus, memory in parts)))
    found = tuple(
        GuestCell(index, tuple(itertools.islice(numbers, vcpus)), memory) for index, (vcpus, memory) in enumerate(parts)
    )
    total = sum(vcpus for vcpus, memory in parts)
    seen = len(parts) > 1 if numa is None else numa
    return Guest("db1", "uuid-db1", tuple(range(total)), total, threads, found, seen, pages)


def dedicated(threads: str = "prefer", emulator: str = "isolate", **options: object) -> PinningPolicy:
    return PinningPolicy("dedicated", threads, emulator, **options)  # type: ignore[arg-type]


def placed(vm: Guest, policy: PinningPolicy, host: Room) -> Placement:
    found = place(vm, policy, host)
    assert isinstance(found, Placement), found
    return found


def refused(vm: Guest, policy: PinningPolicy, host: Room) -> Misfit:
    found = place(vm, policy, host)
    assert isinstance(found, Misfit), found
    return found


def spots(found: Placement) -> dict[int, Cpus]:
    return {pin.vcpu: parse_cpuset(pin.cpus) for pin in found.pinning.vcpus}


def distance(host: Room, used: frozenset[int]) -> int:
    """Give the sum of the distances of all pairs, in both directions."""
    return sum(cell.distances[other] for cell in host.cells if cell.id in used for other in used - {cell.id})


def broken(chosen: Cpus, host: Room) -> int:
    """Count the cores of which a VM would have a part."""
    return sum(bool(core & chosen) and not core <= chosen for cell in host.cells for core in cell.cores)


def possible(vm: Guest, policy: PinningPolicy, host: Room) -> Iterator[tuple[frozenset[int], int]]:
    """Give the host cells of every way to place a VM, without any cleverness, and how many cores it breaks at least."""
    by_id = {cell.id: cell for cell in host.cells}
    allowed = [number for number in by_id if policy.host_cells is None or number in policy.host_cells]
    for where in _mappings(vm, allowed):
        loads: dict[frozenset[int], list[int]] = {}
        for cell, numbers in zip(vm.cells, where, strict=True):
            load = loads.setdefault(numbers, [0, 0])
            load[0] += len(cell.vcpus)
            load[1] += cell.memory_kib
        if any(load[1] > sum(by_id[number].memory_kib for number in numbers) for numbers, load in loads.items()):
            continue
        wanted = {numbers: load[0] for numbers, load in loads.items()}
        if policy.policy == "numa":
            shared = {numbers: sum(len(by_id[number].shared) for number in numbers) for numbers in wanted}
            good = bool(host.shared) and all(wanted[numbers] <= shared[numbers] for numbers in wanted)
            parts = [0] if good else []
        else:
            choices = [each for each in _choices(wanted, host) if _good(each, where[0], policy, host)]
            parts = [0 if policy.thread_policy == "isolate" else broken(each, host) for each in choices]
        if parts:
            yield frozenset().union(*where), min(parts)


def _mappings(vm: Guest, allowed: list[int]) -> Iterator[tuple[frozenset[int], ...]]:
    if len(vm.cells) > 1:
        for numbers in itertools.product(allowed, repeat=len(vm.cells)):
            yield tuple(frozenset({number}) for number in numbers)
    else:
        for size in range(1, len(allowed) + 1):
            for chosen in itertools.combinations(allowed, size):
                yield (frozenset(chosen),)


def _choices(wanted: dict[frozenset[int], int], host: Room) -> Iterator[Cpus]:
    free = {numbers: [cpu for cell in host.cells if cell.id in numbers for cpu in cell.dedicated] for numbers in wanted}
    for parts in itertools.product(*(itertools.combinations(free[numbers], wanted[numbers]) for numbers in wanted)):
        yield frozenset(cpu for part in parts for cpu in part)


def _good(chosen: Cpus, first: frozenset[int], policy: PinningPolicy, host: Room) -> bool:
    """Whether a VM may have these CPUs for its vCPUs, and its emulator finds one."""
    cores = [core for cell in host.cells for core in cell.cores if core & chosen]
    if not keeps_threads(chosen, cores, policy.thread_policy, host):
        return False
    empty = frozenset().union(*cores) - chosen if policy.thread_policy == "isolate" else frozenset()
    near = frozenset(cpu for cell in host.cells if cell.id in first for cpu in cell.dedicated)
    emulators = [frozenset({cpu}) for cpu in near - chosen - empty] if policy.emulator == "isolate" else [frozenset()]
    needs_shared = policy.emulator == "share" or (host.floating and bool(host.shared))
    return any(not needs_shared or host.shared - chosen - empty - emulator for emulator in emulators)


def keeps_threads(chosen: Cpus, cores: list[Cpus], threads: str, host: Room) -> bool:
    """Whether CPUs on some cores are what a thread policy says."""
    if threads == "isolate":
        return all(core <= host.dedicated and len(core & chosen) == 1 for core in cores)
    if threads == "require":
        alone = [core for core in cores if len(core & chosen) == 1]
        return all(len(core & host.dedicated) >= 2 for core in cores) and len(alone) <= 1
    return True
