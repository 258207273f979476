# Copyright (c) 2026, virtops.kvm_fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement import Options, load
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.books import Books
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.constraints import Context, host_reasons
from ansible_collections.virtops.kvm_fleet.plugins.module_utils._placement.reach import Reach
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.unit.placement.fleet import fleet, vm
from tests.unit.placement.tied import machine, tied

CPUS: dict[str, Any] = {
    "small": {"vendor": "Intel", "features": ["aes"], "address_bits": 40},
    "large": {"vendor": "Intel", "features": ["aes", "avx2"], "address_bits": 46},
    "amd": {"vendor": "AMD", "features": ["aes", "avx2"], "address_bits": 48},
}

SOME_CPU = st.sampled_from([None, "small", "small", "large", "amd"])
SOME_LINKS = st.sampled_from([None, [], ["a"], ["a", "b"]])
SOME_TYPES = st.sampled_from([None, ["pc"], ["pc", "q35"]])
SOME_POOL = st.sampled_from([None, "gold", "gold", "silver"])


@st.composite
def hosts(draw: st.DrawFn) -> list[dict[str, Any]]:
    found = []
    for number in range(1, draw(st.integers(2, 7)) + 1):
        layout = draw(st.sampled_from(["0-3", "0-3", "0-1", "0-1 | 2-3"]))
        fields: dict[str, Any] = {
            "pool": draw(SOME_POOL),
            "cpu": draw(SOME_CPU),
            "networks": draw(SOME_LINKS),
            "storage": draw(SOME_LINKS),
            "machine_types": draw(SOME_TYPES),
            "maintenance": draw(st.sampled_from([False, True])),
        }
        # Hosts that differ in everything would never be of one kind.
        shown = draw(st.lists(st.sampled_from(sorted(fields)), max_size=1))
        uuid = draw(st.sampled_from([None, f"uuid-hv{number}"]))
        found.append({**machine(f"hv{number}", layout), "uuid": uuid, **{key: fields[key] for key in shown}})
    return found


@st.composite
def vms(draw: st.DrawFn, names: list[str]) -> list[dict[str, Any]]:
    some_names = st.lists(st.sampled_from([*names, "uuid-hv1", "uuid-hv2"]), unique=True, max_size=3)
    found = []
    for number in range(draw(st.integers(1, 6))):
        on, home = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        cpus = draw(st.sampled_from(["0", "0 1", "2 3", "0 1 2 3"]))
        pins = {"vcpus": [{"vcpu": 0, "cpus": cpus.replace(" ", ",")}]}
        policy: dict[str, Any] = {
            "hosts": draw(st.one_of(st.just([]), some_names)),
            "home": draw(st.sampled_from([home, {"uuid": f"uuid-{home}", "name": home, "pins": pins}])),
        }
        fields: dict[str, Any] = {
            "cpu": draw(SOME_CPU),
            "networks": draw(st.sampled_from([[], [], ["a"], ["b"]])),
            "storage": draw(st.sampled_from([[], [], ["a"], ["b"]])),
            "machine_type": draw(st.sampled_from([None, "pc", "q35"])),
        }
        kind = draw(st.sampled_from(["free", "free", "dedicated", "numa", "manual"]))
        if kind == "free":
            found.append(vm(f"vm{number}", on, policy=policy, **fields))
        else:
            memory = draw(st.sampled_from([{}, {"memory": {"mode": "strict", "nodes": "0-1"}}]))
            found.append(tied(f"vm{number}", on, cpus, kind, policy_fields=policy, pinning=memory, **fields))
    return found


@st.composite
def grounds(draw: st.DrawFn) -> tuple[dict[str, Any], Options, list[str], list[int]]:
    """Give a fleet, options, hosts to be emptied, and tiers."""
    there = draw(hosts())
    names = [item["name"] for item in there]
    some = st.lists(st.sampled_from(names), max_size=2, unique=True)
    options = Options(stay_in_pool=draw(st.booleans()), exclude_hosts=tuple(draw(some)))
    tiers = draw(st.one_of(st.just([]), st.lists(st.integers(0, 2), min_size=len(names), max_size=len(names))))
    return fleet(there, draw(vms(names)), **CPUS), options, draw(some), tiers


@given(grounds())
@settings(max_examples=100)
def test_a_vm_reaches_the_hosts_that_no_filter_refuses_asked_one_by_one(
    ground: tuple[dict[str, Any], Options, list[str], list[int]],
) -> None:
    data, options, draining, tiers = ground
    snapshot = load(data)
    own = {host.name: host for host in snapshot.hosts}
    context = Context(options, own, Books(snapshot, snapshot.vms), frozenset(draining))
    reach = Reach(snapshot.hosts, context, tiers)
    for one in snapshot.vms:
        numbered = enumerate(snapshot.hosts)
        expected = tuple(number for number, host in numbered if not list(host_reasons(one, host, context)))
        assert reach.hosts(one) == expected
        event(f"{len(expected)} of {len(own)}")
        groups = reach.by_tier(reach.kinds(one))
        assert set(expected) <= set(reach.members(reach.kinds(one)))
        assert reach.is_single(one) or expected == reach.members(reach.kinds(one))
        # Better tiers come first, and none is split.
        tier_of = [{reach.tier[host] for host in reach.members(group)} for group in groups]
        assert [{tier} for tier in sorted(set().union(*tier_of))] == tier_of


def reach_of(*there: dict[str, Any], tiers: tuple[int, ...] = ()) -> tuple[Reach, Any]:
    snapshot = load(fleet(list(there), [vm("db1", "hv1")]))
    own = {host.name: host for host in snapshot.hosts}
    context = Context(Options(), own, Books(snapshot, snapshot.vms))
    return Reach(snapshot.hosts, context, tiers), snapshot.vms[0]


def test_hosts_that_no_filter_tells_apart_are_of_one_kind() -> None:
    reach, one = reach_of(machine("hv1"), machine("hv2", gib=99), machine("hv3", networks=["a"]), machine("hv4"))
    assert (reach.kind[0], reach.kind[0]) == (reach.kind[1], reach.kind[3])
    assert reach.kind[2] != reach.kind[0]
    assert len(reach.kinds(one)) == 2


def test_hosts_of_different_tiers_are_not_of_one_kind_and_the_better_ones_come_first() -> None:
    reach, one = reach_of(machine("hv1"), machine("hv2"), machine("hv3"), tiers=(2, 1, 2))
    assert reach.kind[0] == reach.kind[2] != reach.kind[1]
    assert [reach.members(group) for group in reach.by_tier(reach.kinds(one))] == [(1,), (0, 2)]
