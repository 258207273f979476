# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must hold for every plan with VMs that have CPUs, pins or memory of their own, tried on small random fleets."""

from __future__ import annotations

import itertools
from typing import Any

from ansible_collections.virtops.kvm_fleet.plugins.module_utils import _placement
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._domain import Pinning, PinningPolicy
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._pinning import exclusive_cpus
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._topology import Cell, cells_from_data, parse_cpuset
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.placement.fleet import fleet, steps
from tests.unit.placement.tied import Cpus, machine, tied

SHAPES = ["0-5", "0+1 2+3 4+5", "0-2 | 3-5", "0+1 2+3 | 4+5 6+7"]
POLICIES = [
    ("dedicated", {}),
    ("dedicated", {"thread_policy": "isolate"}),
    ("dedicated", {"thread_policy": "require"}),
    ("dedicated", {"emulator": "isolate"}),
    ("numa", {}),
    ("manual", {}),
    ("none", {}),
]


def cells_of(item: dict[str, Any]) -> tuple[Cell, ...]:
    return cells_from_data(item["cells"])


def own(policy: dict[str, Any], pins: dict[str, Any], on: dict[str, Any]) -> Cpus:
    cpus, blocked = exclusive_cpus(PinningPolicy.from_dict(policy), Pinning.from_dict(pins), cells_of(on))
    return cpus | blocked


def by_hand(policy: dict[str, Any], pins: dict[str, Any]) -> Cpus:
    if policy["policy"] != "manual":
        return frozenset()
    return frozenset(cpu for pin in pins["vcpus"] for cpu in parse_cpuset(pin["cpus"]))


def strict(pins: dict[str, Any]) -> Cpus:
    memory = pins.get("memory")
    return parse_cpuset(memory["nodes"]) if memory and memory["mode"] == "strict" else frozenset()


@st.composite
def fleets(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    count = draw(st.integers(2, 3))
    hosts = [machine(f"hv{n}", draw(st.sampled_from(SHAPES)), gib=4, reserved={"cpus": "0"}) for n in range(count)]
    vms: list[dict[str, Any]] = []
    taken: dict[str, set[int]] = {item["name"]: set() for item in hosts}
    for number in range(draw(st.integers(1, 5))):
        on = draw(st.sampled_from(hosts))
        policy, options = draw(st.sampled_from(POLICIES))
        cpus = sorted(cpu for cell in cells_of(on) for cpu in cell.cpus if cpu not in taken[on["name"]] | {0})
        vcpus = draw(st.integers(1, 3))
        fields: dict[str, Any] = {"vcpus": vcpus, "gib": draw(st.integers(1, 3)), "options": options}
        if policy in ("dedicated", "manual") and len(cpus) > vcpus:
            chosen = " ".join(map(str, cpus[:vcpus]))
            if options.get("emulator"):
                fields["pinning"] = {"emulator": str(cpus[vcpus])}
        else:
            chosen, policy = "", "numa" if policy == "numa" else "none"
            fields["options"] = {}
        item = tied(f"db{number}", on["name"], chosen, policy, **fields)
        item["state"] = "shutoff" if draw(st.integers(0, 5)) == 0 else "running"
        item["policy"]["home"] = draw(st.sampled_from([each["name"] for each in hosts]))
        claim = own(item["policy"]["pinning"], item["pinning"], on)
        if claim & taken[on["name"]] or 0 in claim:
            continue
        taken[on["name"]] |= claim | by_hand(item["policy"]["pinning"], item["pinning"])
        vms.append(item)
    names = [item["name"] for item in hosts]
    some = draw(st.lists(st.sampled_from(names), min_size=1, max_size=len(names) - 1, unique=True))
    question = draw(st.sampled_from(["drain", "refill"]))
    return fleet(hosts, vms), {"question": question, "hosts": some, "options": {"best_effort": draw(st.booleans())}}


def pins_after(item: dict[str, Any], move: dict[str, Any]) -> dict[str, Any]:
    return item["pinning"] if move["pins"] is None else move["pins"]


@given(fleets())
@settings(max_examples=150, deadline=None)
def test_no_cpu_is_anothers_at_the_worst_moment_of_any_step(case: tuple[dict[str, Any], Any]) -> None:
    snapshot, request = case
    hosts = {item["name"]: item for item in snapshot["hosts"]}
    vms = {item["name"]: item for item in snapshot["vms"]}
    there = {name: {n: vm["pinning"] for n, vm in vms.items() if vm["host"] == name} for name in hosts}
    for step in steps(_placement.plan(request, snapshot)):
        for move in step:
            there[move["destination"]][move["vm"]] = pins_after(vms[move["vm"]], move)
        for name, pinned in there.items():
            rules = {vm: vms[vm]["policy"]["pinning"] for vm in pinned}
            claims = {vm: own(rules[vm], pins, hosts[name]) for vm, pins in pinned.items()}
            hand = {vm: by_hand(rules[vm], pins) for vm, pins in pinned.items()}
            for one, other in itertools.permutations(pinned, 2):
                assert not claims[one] & (claims[other] | hand[other]), (name, one, other)
            assert not {0} & {cpu for claim in claims.values() for cpu in claim}
        for move in step:
            del there[move["source"]][move["vm"]]
            claim = own(
                vms[move["vm"]]["policy"]["pinning"], pins_after(vms[move["vm"]], move), hosts[move["destination"]]
            )
            assert parse_cpuset(move.get("exclusive_cpus") or "") == claim


@given(fleets())
@settings(max_examples=150, deadline=None)
def test_every_vm_that_moved_keeps_off_the_cpus_of_others_in_the_end(case: tuple[dict[str, Any], Any]) -> None:
    snapshot, request = case
    vms = {item["name"]: item for item in snapshot["vms"]}
    moves = [move for step in steps(_placement.plan(request, snapshot)) for move in step]
    gone = {move["vm"] for move in moves}
    hosts = {item["name"]: item for item in snapshot["hosts"]}
    placed = [(vm["host"], name, vm["pinning"]) for name, vm in vms.items() if name not in gone]
    placed += [(move["destination"], move["vm"], pins_after(vms[move["vm"]], move)) for move in moves]
    for move in moves:
        pins, on = pins_after(vms[move["vm"]], move), hosts[move["destination"]]
        everything = frozenset(cpu for cell in cells_of(on) for cpu in cell.cpus)
        rest = parse_cpuset(pins["cpuset"]) if pins.get("cpuset") else everything
        sets = {pin["vcpu"]: parse_cpuset(pin["cpus"]) for pin in pins["vcpus"]}
        used = [sets.get(vcpu, rest) for vcpu in range(vms[move["vm"]]["vcpus"]["current"])]
        used.append(parse_cpuset(pins["emulator"]) if pins.get("emulator") else rest)
        for name, other, theirs in placed:
            if name == move["destination"] and other != move["vm"]:
                claim = own(vms[other]["policy"]["pinning"], theirs, on)
                assert not any(each & claim for each in used), (move["vm"], other)


@given(fleets())
@settings(max_examples=100, deadline=None)
def test_strict_memory_fits_into_its_cells_at_the_worst_moment_of_any_step(case: tuple[dict[str, Any], Any]) -> None:
    snapshot, request = case
    vms = {item["name"]: item for item in snapshot["vms"]}
    bound: dict[str, dict[str, Cpus]] = {item["name"]: {} for item in snapshot["hosts"]}
    size = {item["name"]: {cell["id"]: cell["memory_kib"] for cell in item["cells"]} for item in snapshot["hosts"]}
    for step in steps(_placement.plan(request, snapshot)):
        for move in step:
            bound[move["destination"]][move["vm"]] = strict(pins_after(vms[move["vm"]], move))
        for name, nodes in bound.items():
            # Hall's condition: what is bound within some cells is not more than they have.
            for some in itertools.chain.from_iterable(itertools.combinations(size[name], n) for n in (1, 2)):
                inside = sum(vms[vm]["memory_kib"] for vm, where in nodes.items() if where and where <= set(some))
                assert inside <= sum(size[name][cell] for cell in some)
        for move in step:
            bound[move["source"]].pop(move["vm"], None)


@st.composite
def counts(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    """Fleets in which nothing matters but how many CPUs of its own a VM needs and a host has."""
    count = draw(st.integers(2, 3))
    hosts = [machine(f"hv{n}", f"0-{draw(st.integers(1, 6))}", gib=999, reserved={"cpus": "0"}) for n in range(count)]
    free = {item["name"]: len(parse_cpuset(item["cells"][0]["cpus"])) - 1 for item in hosts}
    vms = []
    for number in range(draw(st.integers(1, 4))):
        on = draw(st.sampled_from(hosts))["name"]
        vcpus = draw(st.integers(1, 3))
        if vcpus <= free[on]:
            first = free[on] - vcpus + 1
            free[on] -= vcpus
            cpus = " ".join(str(first + vcpu) for vcpu in range(vcpus))
            home = draw(st.sampled_from([item["name"] for item in hosts]))
            vms.append(tied(f"db{number}", on, cpus, policy_fields={"home": home}))
    names = [item["name"] for item in hosts]
    some = draw(st.lists(st.sampled_from(names), min_size=1, max_size=len(names), unique=True))
    question = draw(st.sampled_from(["drain", "refill", "place"]))
    if question == "place" and vms:
        return fleet(hosts, vms), {
            "question": question,
            "vms": [item["name"] for item in vms[: draw(st.integers(1, 4))]],
        }
    return fleet(hosts, vms), {"question": "refill" if question == "place" else question, "hosts": some}


def reachable(snapshot: dict[str, Any], request: dict[str, Any]) -> bool:
    """Whether all VMs of the question can go somewhere one after the other, by trying everything."""
    hosts = {item["name"]: len(parse_cpuset(item["cells"][0]["cpus"])) - 1 for item in snapshot["hosts"]}
    need = {item["name"]: item["vcpus"]["current"] for item in snapshot["vms"]}
    at = {item["name"]: item["host"] for item in snapshot["vms"]}
    choices: dict[str, list[str]] = {}
    for item in snapshot["vms"]:
        home, name = item["policy"]["home"], item["name"]
        if request["question"] == "refill" and home in request["hosts"] and home != item["host"]:
            choices[name] = [home]
        elif request["question"] == "drain" and item["host"] in request["hosts"]:
            choices[name] = [host for host in hosts if host not in request["hosts"]]
        elif request["question"] == "place" and name in request["vms"]:
            choices[name] = [host for host in hosts if host != item["host"]]

    def go(at: dict[str, str], left: frozenset[str]) -> bool:
        used = {host: sum(need[vm] for vm in need if at[vm] == host) for host in hosts}
        return not left or any(
            used[host] + need[vm] <= hosts[host] and go({**at, vm: host}, left - {vm})
            for vm in left
            for host in choices[vm]
        )

    return go(at, frozenset(choices))


@given(counts())
@settings(max_examples=250, deadline=None)
def test_a_plan_is_found_exactly_where_trying_everything_finds_one(case: tuple[dict[str, Any], Any]) -> None:
    snapshot, request = case
    answer = _placement.plan(request, snapshot)
    assert answer["feasible"] == reachable(snapshot, request)
    assert answer["search"] == ("found" if answer["feasible"] else "exhausted")


@given(fleets())
@settings(max_examples=100, deadline=None)
def test_the_same_input_in_any_order_gives_the_same_answer(case: tuple[dict[str, Any], Any]) -> None:
    snapshot, request = case
    turned = {**snapshot, "hosts": snapshot["hosts"][::-1], "vms": snapshot["vms"][::-1]}
    assert _placement.plan(request, snapshot) == _placement.plan(request, turned)
