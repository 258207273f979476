# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds on every host, whatever its VMs have and whatever is wished for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import Domain, Pinning, PinningPolicy
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._errors import FleetError
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pin_rules import HostCpus, policy_of
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import HostState, Wish, thread_sets
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning._side import side_of
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import format_cpuset
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.unit.pinning.residents import GIB, Vm, aimed, carried, online, pins, vm
from tests.unit.pinning.test_place_properties import hosts

KNOWN = {
    "not_enough_cores", "memory_short", "no_shared_cpu", "no_such_cpu", "cpu_offline", "cpu_owned", "policy_isolation",
    "cpu_not_allowed", "no_such_cell", "huge_pages_short",
}  # fmt: skip

CHOSEN = [
    PinningPolicy("numa"),
    PinningPolicy("numa", memory_mode="preferred"),
    *(
        PinningPolicy("dedicated", threads, emulator)
        for threads in ("prefer", "isolate", "require")
        for emulator in ("share", "isolate")
    ),
]
FREE = PinningPolicy("none")


@dataclass(frozen=True)
class Case:
    state: HostState
    vms: tuple[Vm, ...]
    wishes: tuple[Wish, ...]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A host whose VMs have pins by hand and by wishes of the past, when it may have isolated other CPUs."""
    cells, cpus, *_others = draw(hosts())
    # Enough memory for QEMU itself, else hardly any VM that is off could be bound.
    cells = tuple(replace(cell, memory_kib=cell.memory_kib * GIB, free_kib=cell.memory_kib * GIB) for cell in cells)
    state = HostState(cells, cpus)
    known = sorted(online(state))
    assume(known)
    cpusets = st.sets(st.sampled_from(known), min_size=1).map(format_cpuset)
    vms = [_vm(draw, f"vm{number}", known, cpusets) for number in range(draw(st.integers(1, 4)))]
    with_memory = [cell.id for cell in cells if cell.memory_kib] or [cells[0].id]
    vms = [replace(each, held={with_memory[-1]: 8} if each.live else {}) for each in vms]
    restarted = [draw(st.booleans()) and each.defined is not None for each in vms]
    earlier = HostState(cells, draw(st.sampled_from([cpus, replace(cpus, isolated=frozenset()), HostCpus()])))
    for wish in _wishes(draw, vms, [None, *CHOSEN]):
        vms = done(earlier, vms, wish) or vms
    vms = [_restarted(each) if again else each for each, again in zip(vms, restarted, strict=True)]
    # Since then, some have been given something else, which their memory cannot follow.
    for wish in _wishes(draw, vms, [None, None, *CHOSEN]):
        vms = done(earlier, vms, wish) or vms
    return Case(state, tuple(vms), tuple(_wishes(draw, vms, [None, FREE, *CHOSEN])))


def _restarted(each: Vm) -> Vm:
    """Give a VM that runs as it is defined."""
    return replace(each, live=(each.defined or "").replace("<domain", "<domain id='7'", 1) if each.live else None)


def _wishes(draw: st.DrawFn, vms: Sequence[Vm], policies: list[PinningPolicy | None]) -> Iterator[Wish]:
    for each in vms:
        manual = any(policy_of(domain).policy == "manual" for domain in each.states)
        policy = draw(st.sampled_from([None, PinningPolicy("manual")] if manual else policies))
        if policy:
            yield Wish(
                each.resident.uuid, policy, apply_to=draw(st.sampled_from(["both", "both", "both", *_states(each)]))
            )


def _states(each: Vm) -> list[str]:
    return (["live"] if each.live else []) + (["definition"] if each.defined else [])


def _vm(draw: st.DrawFn, name: str, known: Sequence[int], cpusets: st.SearchStrategy[str]) -> Vm:
    cells = draw(st.sampled_from([(), (), ((1, 8), (1, 8))]))
    vcpus = 2 if cells else draw(st.sampled_from([1, 1, 2, 3]))
    kind = draw(st.sampled_from(["", "", "limit", "emulator", "manual"]))
    own = Pinning()
    if kind == "limit":
        own = Pinning(cpuset=draw(cpusets))
    elif kind == "emulator":
        own = Pinning(emulator=draw(cpusets))
    elif kind == "manual":
        own = pins(" ".join(str(draw(st.sampled_from(known))) for vcpu in range(draw(st.integers(1, vcpus)))))
    return vm(
        name,
        own,
        state=draw(st.sampled_from(["both", "live", "definition"])),
        vcpus=vcpus,
        iothreads=draw(st.integers(0, 1)),
        memory=8,
        cells=cells,
    )


def done(state: HostState, vms: Sequence[Vm], *wishes: Wish, **options: bool) -> list[Vm] | None:
    """Carry out what is aimed at; ``None`` where the host cannot have it."""
    try:
        return carried(state, vms, aimed(state, vms, *wishes, **options), *wishes)
    except FleetError as error:
        if error.code not in KNOWN:
            raise
        return None


def domains(vms: Sequence[Vm]) -> list[Domain]:
    return [domain for each in vms for domain in each.states]


@settings(max_examples=150)
@given(cases(), st.booleans())
def test_no_cpu_has_two_owners_and_nobody_else_runs_on_it(case: Case, repin: bool) -> None:
    vms = done(case.state, case.vms, *case.wishes, repin=repin)
    if vms is None:
        return
    # Where all is isolated, there is no other place for threads.
    avoided = case.state.cpus.isolated if online(case.state) - case.state.cpus.isolated else frozenset()
    owned: dict[int, str] = {}
    for domain in domains(vms):
        for claim in side_of(domain, frozenset()).others(case.state.cells).claims:
            for cpu in claim.all:
                assert owned.setdefault(cpu, domain.uuid) == domain.uuid
    for domain in domains(vms):
        own = {pin.vcpu for pin in domain.own_pinning.vcpus}
        sets = thread_sets(domain, online(case.state))
        for (kind, number), cpus in sets.items():
            by_hand = policy_of(domain).policy in ("manual", "none") and (
                (kind == "vcpu" and number in own) or (kind == "emulator" and domain.own_pinning.emulator)
            )
            if by_hand:
                continue
            assert cpus
            assert all(owned.get(cpu, domain.uuid) == domain.uuid for cpu in cpus)
            assert len(cpus) == 1 or not cpus & (avoided | set(owned))


@settings(max_examples=150)
@given(cases(), st.booleans())
def test_the_same_again_changes_nothing(case: Case, repin: bool) -> None:
    vms = done(case.state, case.vms, *case.wishes, repin=repin)
    if vms is None:
        return
    again = aimed(case.state, vms, *case.wishes)

    assert all(each.kept for each in again.aims)
    assert carried(case.state, vms, again, *case.wishes) == vms


@settings(max_examples=150)
@given(cases(), st.booleans())
def test_whoever_is_asked_about_the_others_agree(case: Case, repin: bool) -> None:
    vms = done(case.state, case.vms, *case.wishes, repin=repin)
    if vms is None:
        return
    assert carried(case.state, vms, aimed(case.state, vms)) == vms
    for wish in case.wishes:
        assert carried(case.state, vms, aimed(case.state, vms, wish), wish) == vms


@settings(max_examples=150)
@given(cases())
def test_pins_by_hand_never_change(case: Case) -> None:
    vms = done(case.state, case.vms, *case.wishes)
    wished = {wish.uuid: wish.policy.policy for wish in case.wishes}
    for before, now in zip(domains(case.vms), domains(vms or case.vms), strict=True):
        if wished.get(before.uuid, "manual") == "manual" and policy_of(before).policy in ("none", "manual"):
            own, still = before.own_pinning, now.own_pinning
            assert (own.vcpus, own.emulator, own.iothreads, own.memory) == (
                still.vcpus,
                still.emulator,
                still.iothreads,
                still.memory,
            )


@settings(max_examples=150)
@given(cases())
def test_when_all_is_released_threads_run_where_they_did(case: Case) -> None:
    placed = {domain.uuid for domain in domains(case.vms) if policy_of(domain).policy in ("numa", "dedicated")}
    wishes = [wish for wish in case.wishes if wish.uuid not in placed]
    start = done(case.state, case.vms)
    vms = done(case.state, start, *wishes) if start else None
    if start is None or vms is None:
        return
    wished = {wish.uuid for wish in wishes}

    end = done(case.state, vms, *(Wish(uuid, FREE) for uuid in sorted(wished)))

    by_hand = {domain.uuid for domain in domains(start) if domain.own_pinning.emulator} & wished
    # The host may refuse to have such a pin.
    assert end is not None or by_hand
    for before, now in zip(domains(start), domains(end or start), strict=True):
        if policy_of(before).policy != "none" or before.uuid in by_hand:
            continue
        assert thread_sets(before, online(case.state)) == thread_sets(now, online(case.state))
        assert before.own_pinning == now.own_pinning
        if now.runtime_id is None:
            assert before.pinning == now.pinning
