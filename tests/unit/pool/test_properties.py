# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold for every fleet and every history, tried on small random ones."""

from __future__ import annotations

from typing import Any

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._cpu import PRESETS, is_default_name
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.pool.sim import MODELS, XSAVE, Data, Sim, ask, codes, copies, execute, pools, vm, writes

NAMES = ("hv1", "hv2", "hv3", "hv4")
MORE = ("avx", "xsave", "avx2", "vmx", "svm", "avx512f")
LESS = ("aes", "sse4.2", "cx16")
TYPES = (["pc-q35-10.0"], ["pc-q35-10.0", "pc-q35-9.0"])
OTHER_XSAVE = [[2, 256, 576], [5, 64, 832]]
DEFINITIONS = (None, None, "basic", "baseline", "x86-64-v2-amd", "x86-64-v3-amd", "x86-64-v2-intel")


def some(values: tuple[str, ...]) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(values))


def rarely(value: Any, usual: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([usual, usual, usual, value])


VMS = st.lists(
    st.builds(
        vm,
        st.sampled_from(["db", "web"]),
        rarely(frozenset(["sse2", "avx2"]), frozenset(["sse2"])) | rarely(frozenset(["sse2", "invtsc"]), frozenset()),
        rarely("pc-q35-9.0", "pc-q35-10.0"),
    ),
    max_size=1,
)


@st.composite
def host(draw: st.DrawFn, name: str) -> Sim:
    return Sim(
        name,
        more=draw(some(MORE)),
        less=draw(rarely(frozenset(["aes"]), frozenset()) | some(LESS)),
        vendor=draw(rarely("Intel", "AMD")),
        bits=draw(st.sampled_from([48, 40, 39, None])),
        virt_type=draw(rarely("qemu", "kvm")),
        machine_types=draw(st.sampled_from(TYPES)),
        xsave=draw(st.sampled_from([XSAVE, XSAVE, OTHER_XSAVE, None])),
        tsc=draw(st.sampled_from([None, {"frequency_hz": 2_000_000_000}, {"frequency_hz": 3_000_000_000}])),
        extra=draw(rarely(frozenset(["arat"]), frozenset())),
        unknown=draw(rarely(frozenset(["avx2"]), frozenset()) | rarely(frozenset(["vme"]), frozenset())),
        vms=draw(VMS),
    )


@st.composite
def wishes(draw: st.DrawFn) -> list[Data]:
    """Wishes of all hosts, with a definition for each pool on which mostly all agree."""
    definition = {pool: draw(st.sampled_from(DEFINITIONS)) for pool in ("gold", "iron")}
    bits = {pool: draw(rarely("40", None)) for pool in ("gold", "iron")}
    found = []
    for name in NAMES:
        pool = draw(st.sampled_from(["gold", "gold", "iron", None]))
        wish: Data = {"name": name, "state": draw(rarely("absent", "present")), "pool": pool}
        if pool is not None:
            wish |= {"definition": definition[pool], "address_bits": bits[pool]}
        found.append(wish)
    return found


@st.composite
def steps(draw: st.DrawFn) -> Data:
    """One run: what is wanted, in which order hosts are written, and after how many the run is cut off."""
    return {
        "wanted": draw(wishes()),
        "recalc": draw(rarely(["gold"], [])),
        "running_vms": draw(st.sampled_from(["refuse", "report"])),
        "unavailable": draw(rarely(["hv2"], [])),
        "order": draw(st.permutations(range(4))),
        "only": draw(st.sampled_from([None, 0, 1, 2, 3])),
        "drift": draw(rarely({"hv1": frozenset(["sse4.2"])}, {})),
    }


FLEETS = st.tuples(*(host(name) for name in NAMES)).map(list)
HISTORIES = st.lists(steps(), max_size=3)
OPTIONS = ("recalc", "running_vms", "unavailable")


def run(hosts: list[Sim], step: Data, cut: bool = True) -> Data:
    asked = {key: step[key] for key in OPTIONS}
    answer = ask(list(hosts), step["wanted"], **asked)
    execute(hosts, answer, step["order"], step["only"] if cut else None)
    return answer


def live(hosts: list[Sim], history: list[Data]) -> None:
    for step in history:
        for item in hosts:
            item.less |= step["drift"].get(item.name, frozenset())
        run(hosts, step)


def who(answer: Data) -> set[str | None]:
    """Return the hosts, and the pools as such, that are refused.

    Of several reasons another one may come first once others are members, and of default pools another one.
    """
    return {host or pool for _code, host, pool in codes(answer)}


def assert_settled(hosts: list[Sim], answer: Data) -> None:
    for pool in answer["pools"]:
        if pool["status"] in ("refused", "removed"):
            continue
        records = [next(item.record for item in hosts if item.name == name) for name in pool["members"]]
        assert all(record and record["pool"] == pool["name"] for record in records)
        common = [{key: record[key] for key in record if key not in ("host", "proven")} for record in records if record]
        assert all(item == common[0] for item in common), pool
        assert [member["name"] for member in common[0]["members"]] == pool["members"]


@given(FLEETS, HISTORIES, steps())
@settings(max_examples=120)
def test_a_plan_that_was_carried_out_and_is_made_again_changes_nothing(
    hosts: list[Sim], history: list[Data], step: Data
) -> None:
    live(hosts, history)
    step["recalc"] = []
    first = run(hosts, step, cut=False)
    second = run(hosts, step, cut=False)
    assert writes(second) == []
    assert who(second) == who(first)
    assert {pool["status"] for pool in second["pools"]} <= {"unchanged", "refused"}


@given(FLEETS, HISTORIES, steps(), st.permutations(range(4)), st.integers(0, 4))
@settings(max_examples=120)
def test_a_run_that_was_cut_off_anywhere_is_repaired_by_the_next(
    hosts: list[Sim], history: list[Data], step: Data, order: list[int], only: int
) -> None:
    live(hosts, history)
    step |= {"unavailable": [], "recalc": []}
    whole = copies(hosts)
    run(whole, step, cut=False)
    run(hosts, {**step, "order": order, "only": only})
    repaired = run(hosts, step, cut=False)
    assert_settled(hosts, repaired)
    assert pools(hosts) == pools(whole)


@given(FLEETS, HISTORIES, steps(), st.permutations(range(4)))
@settings(max_examples=150)
def test_the_order_of_hosts_does_not_matter(
    hosts: list[Sim], history: list[Data], step: Data, order: list[int]
) -> None:
    live(hosts, history)
    asked = {key: step[key] for key in OPTIONS}
    shuffled = [hosts[index] for index in order]
    wanted = [step["wanted"][index] for index in order]
    assert ask(shuffled, wanted, **asked) == ask(hosts, step["wanted"], **asked)


@given(FLEETS, HISTORIES, steps())
@settings(max_examples=150)
def test_a_host_of_a_kind_that_is_in_the_pool_already_does_not_change_its_cpu(
    hosts: list[Sim], history: list[Data], step: Data
) -> None:
    asked = {"recalc": [], "running_vms": "report"}
    before = ask(hosts, step["wanted"], **asked)
    twins = [*hosts]
    wanted = [*step["wanted"]]
    inside = {name for pool in before["pools"] for name in pool["members"]}
    for item, wish in zip(copies(hosts), step["wanted"], strict=True):
        if item.name not in inside:
            continue
        item.name += "b"
        item.vms = []
        twins.append(item)
        wanted.append({**wish, "name": item.name})
    after = ask(twins, wanted, **asked)
    for pool in before["pools"]:
        same = next(item for item in after["pools"] if item["name"] == pool["name"])
        if pool["cpu"] and same["cpu"]:
            assert same["cpu"] == pool["cpu"]


@given(FLEETS, HISTORIES, steps())
@settings(max_examples=200)
def test_no_pool_gets_more_than_every_member_has_proven(hosts: list[Sim], history: list[Data], step: Data) -> None:
    live(hosts, history)
    answer = run(hosts, step, cut=False)
    for item in hosts:
        if item.record and item.name in {entry["name"] for entry in writes(answer)}:
            seen = set(item.record["cpu"]["features"])
            assert seen <= item.features | item.extra | {"hypervisor"}
            assert (
                set(item.record["cpu"]["require"])
                | MODELS[item.record["cpu"]["model"]] - set(item.record["cpu"]["disable"])
                <= seen
            )
            assert not {"vmx", "svm"} & seen


@given(FLEETS, HISTORIES)
@settings(max_examples=200)
def test_no_host_is_in_two_pools_and_no_pool_has_two_vendors(hosts: list[Sim], history: list[Data]) -> None:
    for step in history:
        answer = run(hosts, {**step, "unavailable": []}, cut=False)
        members = [name for pool in answer["pools"] for name in pool["members"]]
        assert len(members) == len(set(members))
        for pool, names in pools(hosts).items():
            held = {item.record["vendor"] for item in hosts if item.name in names and item.record}
            assert held == {item.vendor for item in hosts if item.name in names}, pool


@given(FLEETS, HISTORIES)
@settings(max_examples=200)
def test_the_cpu_of_a_default_pool_never_changes(hosts: list[Sim], history: list[Data]) -> None:
    known: dict[tuple[str, str], Any] = {}
    for step in history:
        live(hosts, [step])
        held = {(item.name, item.record["pool"]): item.record["cpu"] for item in hosts if item.record}
        for (name, pool), cpu in held.items():
            if is_default_name(pool):
                # A pool that everybody leaves starts anew, so each member that stays is looked at.
                assert cpu == known.get((name, pool), cpu)
                assert (cpu["model"], tuple(cpu["require"])) == ("kvm64", PRESETS[pool].cpu.require)
        known = held
